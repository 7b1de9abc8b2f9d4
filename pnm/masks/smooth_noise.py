"""Random fields that change slowly over an image."""

import cv2
import numpy as np


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell_px: float) -> np.ndarray:
    """(height, width) float32 of mean about 0 and deviation 1: normal numbers on a grid, cubic between its points.

    Args:
        cell_px: distance of the grid's points, at least 1.
    """
    rows, columns = (int(np.ceil(side / cell_px)) + 3 for side in (height, width))
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    size = (int(columns * cell_px) + 1, int(rows * cell_px) + 1)
    field = cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    y, x = rng.integers(0, field.shape[0] - height + 1), rng.integers(0, field.shape[1] - width + 1)
    field = field[y : y + height, x : x + width]
    return field / (field.std() + np.float32(1e-6))
