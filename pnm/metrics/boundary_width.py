"""How wide the boundary of a segment is (Cheng et al., "Boundary IoU", CVPR 2021)."""

import math

import numpy as np

from pnm.errors import UserError


def boundary_distance_px(height: int, width: int, ratio: float) -> int:
    """Width d of the boundary in pixels: ``ratio`` of the image's diagonal, rounded (halves to even), at least 1.

    Args:
        ratio: 0.02 for COCO and LVIS, 0.005 for Cityscapes.

    Raises:
        UserError: a ratio that isn't in (0, 1).
    """
    if not 0 < ratio < 1:
        raise UserError(f"the boundary ratio is {ratio}, expected a fraction of the image's diagonal, like 0.02")
    return max(1, round(ratio * math.sqrt(height * height + width * width)))


def check_distance(ratio: float | None, pixels: int | None) -> None:
    """A UserError unless ``pixels``, or else ``ratio``, is a width that a boundary can have."""
    if pixels is None and ratio is not None:
        boundary_distance_px(1, 1, ratio)
    elif pixels is not None and (not isinstance(pixels, (int, np.integer)) or isinstance(pixels, bool) or pixels < 1):
        raise UserError(f"the boundary's width is {pixels!r}, expected whole pixels, at least 1")


def boundary_width(shape: tuple[int, ...], ratio: float | None, pixels: int | None) -> int:
    """d of an (H, W) image in pixels: ``pixels``, or else ``ratio`` of its diagonal; one of them must be given."""
    if pixels is not None:
        return pixels
    assert ratio is not None
    return boundary_distance_px(shape[0], shape[1], ratio)
