"""Masks of one object that a file holds in several pieces, put together."""

from collections.abc import Sequence

import numpy as np

from pnm.masks.crops import EMPTY, MaskCrop, trimmed


def clipped(pixels: np.ndarray, top: int, left: int, size: tuple[int, int]) -> MaskCrop:
    """The mask of (h, w) bool ``pixels`` whose first is (top, left), without what lies outside of the image.

    Args:
        size: (height, width) of the image.
    """
    height, width = size
    inside = pixels[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    return trimmed(MaskCrop(inside, max(0, top), max(0, left))) if inside.size else EMPTY


def united(crops: Sequence[MaskCrop]) -> MaskCrop:
    """The mask of the pixels that are in any of the masks."""
    solid = [crop for crop in crops if crop.pixels.size]
    if len(solid) < 2:
        return solid[0] if solid else EMPTY
    top, left = min(crop.top for crop in solid), min(crop.left for crop in solid)
    bottom = max(crop.top + crop.pixels.shape[0] for crop in solid)
    right = max(crop.left + crop.pixels.shape[1] for crop in solid)
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    for crop in solid:
        height, width = crop.pixels.shape
        pixels[crop.top - top : crop.top - top + height, crop.left - left : crop.left - left + width] |= crop.pixels
    return MaskCrop(pixels, top, left)
