"""Centres of instances: peaks of a heat map (Panoptic-DeepLab, Cheng et al., CVPR 2020; PRN, section 3.5).

An example: two equal neighbours are one centre, and 0.4 lies in the window of 0.9::

    >>> heat = np.array([[0, 0.9, 0.9, 0.4, 0, 0, 0.3]], np.float32)
    >>> find_peaks(heat, threshold=0.2, kernel_px=3, most=200)
    (array([[0, 1],
           [0, 6]]), array([0.9, 0.3], dtype=float32))
"""

import cv2
import numpy as np


def find_peaks(heat: np.ndarray, *, threshold: float, kernel_px: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of a heat map and their heights, highest first, of equal ones the first by row and column.

    A pixel is a peak if it lies above the threshold and none in the window around it is higher. Peaks that touch, also
    at a corner, are equal, and are one: its first pixel by row and column.

    Args:
        heat: (H, W) float32; NaN is no peak.
        kernel_px: side of the window, odd.
        most: peaks that are kept.

    Returns:
        (K, 2) int64 (y, x) and (K,) float32.
    """
    if not heat.size:  # which OpenCV refuses
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    clean = np.where(np.isnan(heat), -np.inf, heat).astype(np.float32)
    highest = cv2.dilate(clean, np.ones((kernel_px, kernel_px), np.uint8))
    is_peak = (clean > threshold) & (clean == highest)
    rows, columns = np.nonzero(is_peak)
    _, plateaus = cv2.connectedComponents(is_peak.astype(np.uint8), connectivity=8)
    _, first = np.unique(plateaus[rows, columns], return_index=True)
    rows, columns = rows[first], columns[first]
    heights = clean[rows, columns]
    order = np.lexsort((columns, rows, -heights))[:most]
    return np.stack([rows[order], columns[order]], 1), heights[order]
