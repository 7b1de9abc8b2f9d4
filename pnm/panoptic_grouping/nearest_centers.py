"""Which centres are near a place: for each cell of a grid, all centres in the order in which they can be nearest.

A place between pixels lies in a cell; the centres are gone through by their least distance from the cell, until that
is more than the distance of the best one found. Most places look at two or three centres, and the result is that of
looking at all. Places outside of the image belong to the cell at the frame: as centres lie inside, that cell's least
distances are theirs, too.

An example, a row of 64 pixels in cells of 32, centres at columns 5 and 60 (distances are squared)::

    >>> order, least = cell_lists(np.array([[0, 5], [0, 60]]), 1, 64, 32)
    >>> order[0].tolist(), least[0].tolist()              # the first cell holds one, the other is 28 px from its side
    ([[0, 1], [1, 0]], [[0.0, 784.0], [0.0, 729.0]])
"""

import numpy as np

from pnm.kernels import entry_kernel, kernel

CELL_PX = 32


def cell_lists(centers: np.ndarray, height: int, width: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres by their least squared distance from each cell of an image, and those distances.

    Args:
        centers: (K, 2) int64, (y, x) in the image.
        cell: side of a cell, px.

    Returns:
        (rows, columns, K) int64 indices and float64 px^2, ascending; equal ones in the order of ``centers``.
    """
    rows, columns, count = (height + cell - 1) // cell, (width + cell - 1) // cell, centers.shape[0]
    order = np.empty((rows, columns, count), np.int64)
    least = np.empty((rows, columns, count), np.float64)
    _fill_lists(np.ascontiguousarray(centers), cell, order, least)
    return order, least


@entry_kernel
def _fill_lists(centers: np.ndarray, cell: int, order: np.ndarray, least: np.ndarray) -> None:
    rows, columns, count = order.shape
    distances = np.empty(count, np.float64)
    for i in range(rows):
        for j in range(columns):
            for k in range(count):
                dy = max(0, i * cell - centers[k, 0], centers[k, 0] - (i + 1) * cell)
                dx = max(0, j * cell - centers[k, 1], centers[k, 1] - (j + 1) * cell)
                distances[k] = dy * dy + dx * dx
            by_distance = np.argsort(distances, kind="mergesort")
            for place in range(count):
                order[i, j, place] = by_distance[place]
                least[i, j, place] = distances[by_distance[place]]


@kernel
def cell_of(place: float, size: int, cell: int) -> int:
    """Row or column of the cell that a coordinate is in, or, outside of the image, nearest to."""
    return int(min(max(place, 0.0), size - 1.0)) // cell
