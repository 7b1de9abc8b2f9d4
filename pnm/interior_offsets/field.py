"""What a SegFix network says of an image, in the form in which it is used and stored: two bytes a pixel."""

from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION, check_bins
from pnm.interior_offsets.shifting import Shift, shift_of

CERTAIN = 255  # of a boundary


class InteriorOffsets(NamedTuple):
    """Boundaries of an image and the way to the interior.

    Attributes:
        boundary: (H, W) uint8, probability of a boundary in steps of 1/255.
        directions: (H, W) uint8, bins from 0 to m - 1, see :mod:`.directions`; 0 where ``boundary`` is 0.
        bins: m.
    """

    boundary: np.ndarray
    directions: np.ndarray
    bins: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in px."""
        height, width = self.boundary.shape
        return height, width

    @property
    def probs(self) -> np.ndarray:
        """(H, W) float32, probability of a boundary, 0 to 1."""
        return self.boundary.astype(np.float32) / CERTAIN

    def on_boundary(self, threshold: float = 0.5) -> np.ndarray:
        """(H, W) uint8 bins where a boundary is more probable than ``threshold``, 255 elsewhere."""
        return np.where(self.boundary > threshold * CERTAIN, self.directions, np.uint8(NO_DIRECTION))

    def shift(self, threshold: float = 0.5, *, scale: float = 1.0, steps: int = 1) -> Shift:
        """Which pixels take whose label, see :func:`.shifting.shift_of`."""
        return shift_of(self.on_boundary(threshold), self.bins, scale=scale, steps=steps)


def interior_offsets(boundary_probs: np.ndarray, directions: np.ndarray, bins: int) -> InteriorOffsets:
    """Offsets of what a network predicts.

    Args:
        boundary_probs: (H, W) float, 0 to 1; NaN counts as 0.
        directions: (H, W) integers, the most probable bin of each pixel.
        bins: m.
    """
    check_bins(bins)
    probs = np.nan_to_num(boundary_probs, nan=0.0).clip(0, 1)
    boundary = np.rint(probs * CERTAIN).astype(np.uint8)
    return InteriorOffsets(boundary, np.where(boundary > 0, directions, 0).astype(np.uint8), bins)


def offsets_of_targets(targets: Any, bins: int) -> InteriorOffsets:
    """The field that a network without a fault would predict; pixels without a direction stay where they are."""
    known = (targets.boundary == 1) & (targets.directions != NO_DIRECTION)
    directions = np.where(known, targets.directions, np.uint8(0))
    return InteriorOffsets(np.where(known, np.uint8(CERTAIN), np.uint8(0)), directions, bins)


def packed(offsets: InteriorOffsets) -> np.ndarray:
    """(H, W) uint16: boundary times 256 plus direction."""
    return (offsets.boundary.astype(np.uint16) << 8) | offsets.directions


def unpacked(values: np.ndarray, bins: int) -> InteriorOffsets:
    """What :func:`packed` was given.

    Raises:
        UserError: values that it never gives.
    """
    check_bins(bins)
    directions = (values & 255).astype(np.uint8)
    if values.dtype != np.uint16 or values.ndim != 2 or (directions >= bins).any():
        raise UserError(f"these are no offsets of {bins} directions: expected (H, W) uint16, a bin in the low byte")
    return InteriorOffsets((values >> 8).astype(np.uint8), directions, bins)
