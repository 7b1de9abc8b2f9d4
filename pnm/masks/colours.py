"""Label maps and heat as pictures."""

import cv2
import numpy as np

_GOLDEN = 0.618034  # of the colour circle, from a label to the next


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8, RGB, of (h, w) integers: a colour for each; black is 0."""
    hue = (labels * _GOLDEN % 1 * 179).astype(np.uint8)
    light = np.where(labels > 0, 200 + 55 * (labels % 2), 0).astype(np.uint8)
    hsv = np.stack([hue, np.where(labels % 3 == 0, 120, 200).astype(np.uint8), light], -1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def colour_heat(heat: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8, RGB, of (h, w) 0 to 1: from black over red and yellow to white."""
    levels = (np.clip(np.nan_to_num(heat), 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_HOT), cv2.COLOR_BGR2RGB)
