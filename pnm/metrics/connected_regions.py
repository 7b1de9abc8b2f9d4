"""Connected regions of a label map: pixels of one label that touch along an edge, all labels in one pass.

An example, whose two regions of label 0 touch at a corner only::

    >>> connected_regions(np.array([[0, 1], [1, 0]], np.uint8)).tolist()
    [[0, 1], [2, 3]]
"""

import numpy as np

from pnm.kernels import kernel
from pnm.metrics.boundary_pixels import unsigned_view


@kernel
def _root(parents: np.ndarray, region: int) -> int:
    while parents[region] != region:
        parents[region] = parents[parents[region]]
        region = parents[region]
    return region


@kernel
def _connect(labels: np.ndarray, regions: np.ndarray, parents: np.ndarray) -> int:
    """Fills ``regions`` with numbers from 0, in the order of their first pixels; how many there are."""
    height, width = labels.shape
    number = 0
    for y in range(height):
        for x in range(width):
            above = y > 0 and labels[y - 1, x] == labels[y, x]
            left = x > 0 and labels[y, x - 1] == labels[y, x]
            if left:
                regions[y, x] = regions[y, x - 1]
                if above and regions[y - 1, x] != regions[y, x]:
                    a, b = _root(parents, regions[y, x]), _root(parents, regions[y - 1, x])
                    parents[max(a, b)] = min(a, b)
            elif above:
                regions[y, x] = regions[y - 1, x]
            else:
                regions[y, x] = parents[number] = number
                number += 1
    numbers, distinct = np.empty(number, np.int32), 0
    for region in range(number):  # a parent comes before its children, and has its number already
        if parents[region] == region:
            numbers[region] = distinct
            distinct += 1
        else:
            numbers[region] = numbers[parents[region]]
    for y in range(height):
        for x in range(width):
            regions[y, x] = numbers[regions[y, x]]
    return distinct


def connected_regions(labels: np.ndarray) -> np.ndarray:
    """Numbers the regions from 0, row by row.

    Args:
        labels: (H, W) integers of any type.

    Returns:
        (H, W) int32.
    """
    regions = np.empty(labels.shape, np.int32)
    _connect(unsigned_view(labels), regions, np.empty(labels.size + 1, np.int32))
    return regions
