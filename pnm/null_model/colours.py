"""Pixel weights as pictures."""

import cv2
import numpy as np


def colour_weights(weights: np.ndarray, largest: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB of weights (H, W): weight 1 dark, ``largest`` and above bright."""
    scaled = np.clip((weights - 1) / max(largest - 1, 1e-6), 0, 1) * 255
    return cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
