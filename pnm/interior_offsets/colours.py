"""Offsets as a picture."""

import cv2
import numpy as np

from pnm.interior_offsets.field import InteriorOffsets

_HUES = 180  # OpenCV's, of a circle
_SATURATION = 200


def colour_offsets(offsets: InteriorOffsets) -> np.ndarray:
    """(H, W, 3) uint8, RGB: the more probable a boundary, the brighter; its hue is the way inwards, red to the left."""
    hue = (offsets.directions.astype(np.uint16) * _HUES // offsets.bins).astype(np.uint8)
    saturation = np.full_like(hue, _SATURATION)
    return cv2.cvtColor(np.stack([hue, saturation, offsets.boundary], axis=2), cv2.COLOR_HSV2RGB)
