"""A panoptic map as PRN's pure parts take it: segments are numbers without gaps, classes an index."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pnm.kernels import entry_kernel


class PanopticMap(NamedTuple):
    """Segments of one image.

    Attributes:
        labels: (H, W) int32; 0 is void, 1 to N are segments.
        classes: of the N segments: 0 to T - 1 are things, T to T + S - 1 stuff.
    """

    labels: np.ndarray
    classes: tuple[int, ...]


@entry_kernel
def _number(ids: np.ndarray, sorted_ids: np.ndarray, number_of: np.ndarray, numbers: np.ndarray) -> None:
    """Numbers of ids, looked up once for each run of a row."""
    for y in range(ids.shape[0]):
        last, number = -1, 0
        for x in range(ids.shape[1]):
            if ids[y, x] != last:
                last = ids[y, x]
                at = np.searchsorted(sorted_ids, last)
                number = number_of[at] if at < sorted_ids.size and sorted_ids[at] == last else 0
            numbers[y, x] = number


def numbered(ids: np.ndarray, segments: Sequence[int]) -> np.ndarray:
    """(H, W) int32: 1 for the first of the segments, 2 for the second, ...; 0 for ids that are none of them.

    Args:
        ids: (H, W) integers >= 0.

    ::

        >>> numbered(np.array([[7001, 7001, 0, 23]]), (23, 7001)).tolist()
        [[2, 2, 0, 1]]
    """
    of_segments = np.asarray(segments, np.int64)
    order = np.argsort(of_segments, kind="stable")
    numbers = np.zeros(ids.shape, np.int32)
    _number(ids.astype(np.int64, order="C"), of_segments[order], (order + 1).astype(np.int32), numbers)
    return numbers
