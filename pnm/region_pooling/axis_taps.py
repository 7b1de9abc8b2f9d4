"""RoIAlign along one axis: which pixels the cells of a region read, and how much of each.

A cell's samples lie evenly within it; each is interpolated linearly between two pixels. Samples in both axes form a
grid, so a cell's value is a weighted sum over pixels whose weights are products of one weight of each axis. The cell
from 0.5 to 2 of an axis of 4 pixels, with three samples at 0.75, 1.25 and 1.75, reads one, seven and four twelfths of
pixels 0, 1 and 2::

    >>> counts, pixels, weights = axis_taps(np.float32(0.5), np.float32(1.5), 1, 3, 4)
    >>> counts.tolist(), pixels[0, :3].tolist(), (12 * weights[0, :3]).round().tolist()
    ([3], [0, 1, 2], [1.0, 7.0, 4.0])
"""

import numpy as np

from pnm.kernels import kernel

_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0), np.float32(1)


@kernel
def axis_taps(
    start: np.float32, side: np.float32, cells: int, samples: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each cell of an axis reads.

    Args:
        start: of the first cell, px; pixel centres lie at whole numbers.
        side: of a cell, px.
        cells: how many there are, one after the other.
        samples: of each cell.
        size: of the axis, px.

    Returns:
        (cells,) int64, how many pixels each cell reads; (cells, 2 * samples) int64, which, in rising order; as many
        float32 weights. Their sum is 1, less what belongs to samples that lie over a pixel outside, which count as 0.
    """
    counts = np.zeros(cells, np.int64)
    pixels, weights = np.empty((cells, 2 * samples), np.int64), np.empty((cells, 2 * samples), np.float32)
    share = _ONE / np.float32(max(samples, 1))
    for i in range(cells):
        n = 0
        for k in range(samples):
            at = start + np.float32(i) * side + (np.float32(k) + _HALF) * side / np.float32(samples)
            if at < -_ONE or at > np.float32(size):
                continue
            at = min(max(at, _ZERO), np.float32(size - 1))
            low = np.int64(at)
            part = at - np.float32(low)
            for pixel, weight in ((low, _ONE - part), (low + 1, part)):
                if weight == 0:
                    continue
                back = n - 1
                while back >= 0 and pixels[i, back] > pixel:
                    back -= 1
                if back < 0 or pixels[i, back] != pixel:
                    back, n = n, n + 1
                    pixels[i, back], weights[i, back] = pixel, _ZERO
                weights[i, back] += weight * share
        counts[i] = n
    return counts, pixels, weights
