"""Segments of a label map that would be left without a pixel.

An example, in which segment 2 lost its only pixel, and gets it back::

    before      1 1 2 3
    after       1 1 1 3
    result      1 1 2 3
"""

from collections.abc import Sequence

import numpy as np


def with_lost_segments(before: np.ndarray, after: np.ndarray, segments: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """A label map in which no segment is gone that had pixels, and those that were.

    What one gets back may have been another's last part: then that one gets its own back, too.

    Args:
        before, after: (H, W) integers.
        segments: labels that have pixels afterwards if they had some before.
    """
    lost: list[int] = []
    if np.array_equal(before, after):
        return after, lost
    wanted = np.asarray(segments, np.int64)
    had = wanted[np.isin(wanted, np.unique(before))]
    while True:
        gone = had[~np.isin(had, np.unique(after))]
        if not gone.size:
            return after, lost
        lost += gone.tolist()
        after = np.where(np.isin(before, gone), before, after).astype(after.dtype)
