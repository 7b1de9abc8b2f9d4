"""What a SegFix network learns from a label map: where boundaries are, and which way the interior of a label lies.

A pixel is boundary if the nearest pixel of another label is less than width + 1 away, so that a straight edge has
``width`` such pixels on each side. Void counts as another label, and is itself ignored in both targets. Labels may be
classes, instances or segments: every label has an interior, background, too.
"""

from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION, bin_borders, bin_of
from pnm.interior_offsets.distances import MOST_REACH, checked_labels, nearest_of_other_label
from pnm.interior_offsets.gradients import gradient_bins
from pnm.kernels import entry_kernel

IGNORED = 255  # of a boundary target
DIRECTIONS = ("gradient", "nearest")


class OffsetTargets(NamedTuple):
    """Targets of a label map.

    Attributes:
        boundary: (H, W) uint8, 1 on boundary pixels, 0 elsewhere, 255 where nothing is learned.
        directions: (H, W) uint8, the bin of each boundary pixel, see :mod:`.directions`; 255 of all others, and of
            those between two edges that are equally near, whose direction is undefined.
    """

    boundary: np.ndarray
    directions: np.ndarray


@entry_kernel
def _bins_of_nearest(squared: np.ndarray, sums: np.ndarray, below: int, borders: np.ndarray, out: np.ndarray) -> None:
    for y in range(squared.shape[0]):
        for x in range(squared.shape[1]):
            if squared[y, x] < below and (sums[y, x, 0] != 0 or sums[y, x, 1] != 0):
                out[y, x] = bin_of(-float(sums[y, x, 0]), -float(sums[y, x, 1]), borders)


def check_target_settings(width_px: int, direction: str, kernel_px: int) -> int:
    """How far around a boundary targets have to look, in px; a UserError if the arguments make no sense."""
    if direction not in DIRECTIONS:
        raise UserError(f"direction is {direction!r}, expected one of {', '.join(DIRECTIONS)}")
    if width_px < 1:
        raise UserError(f"the boundary is {width_px} px wide, expected at least 1")
    if kernel_px < 3 or kernel_px % 2 == 0:
        raise UserError(f"the gradient's kernel is {kernel_px} px wide, expected an odd number from 3")
    reach = width_px + 1
    if direction == "gradient":
        reach += int(np.ceil(np.sqrt(2) * (kernel_px // 2)))
    if reach > MOST_REACH:
        raise UserError(f"a boundary of {width_px} px and a kernel of {kernel_px} px are too wide")
    return reach


def offset_targets(
    labels: np.ndarray,
    *,
    width_px: int = 5,
    bins: int = 8,
    direction: str = "gradient",
    kernel_px: int = 5,
    ignore_label: int | None = None,
) -> OffsetTargets:
    """Boundary and direction of every pixel, for all labels at once (SegFix; section E for instances).

    Args:
        labels: (H, W) integers of any type: classes, instances or segments.
        width_px: of the boundary on each side, the paper's gamma.
        bins: m, a multiple of 8.
        direction: "gradient", of the label's distance map, as the paper has it; or "nearest", away from the nearest
            pixel of another label (from the mean of those that are equally near).
        kernel_px: side of the gradient's kernel, odd.
        ignore_label: void.

    Returns:
        Targets. An image of one label has no boundary.

    Raises:
        UserError: no label map, or arguments that make no sense.
    """
    labels, borders = checked_labels(labels), bin_borders(bins)
    reach, below = check_target_settings(width_px, direction, kernel_px), (width_px + 1) ** 2
    near = nearest_of_other_label(labels, reach, with_vectors=direction == "nearest")
    boundary = (near.squared < below).view(np.uint8)
    directions = np.full(labels.shape, NO_DIRECTION, np.uint8)
    if direction == "nearest":
        _bins_of_nearest(near.squared, near.sum_yx, below, borders, directions)
    elif labels.size:
        gradient_bins(labels, near.squared, reach, boundary, kernel_px // 2, borders, directions)
    if ignore_label is not None:
        ignored = labels == ignore_label
        boundary[ignored], directions[ignored] = IGNORED, NO_DIRECTION
    return OffsetTargets(boundary, directions)
