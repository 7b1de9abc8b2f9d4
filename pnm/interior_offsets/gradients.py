"""Which way the distance map of each pixel's own label rises, in bins: the direction of SegFix's ground truth.

The map of a label is 0 at all other labels, and goes on beyond the frame of the image as it ends there. Its gradient is
the sum of its values around a pixel with the weights y / (x^2 + y^2) and x / (x^2 + y^2). Blocks of 32 pixels of a row
are computed at once, as vectors; blocks without a boundary are left out. Values that mirror each other are added in
pairs first, so that a turned map gives the same digits, and its bins are the turned ones exactly.

An example, two labels in a row with their squared distances: both rise away from the edge between them, the left one to
the left, which is bin 0 of 8, the other one to the right, bin 4::

    >>> from pnm.interior_offsets.directions import bin_borders
    >>> labels, squared = np.array([[7, 7, 9, 9, 9]]), np.array([[4, 1, 1, 4, 9]])
    >>> bins = np.full((1, 5), 255, np.uint8)
    >>> gradient_bins(labels, squared, 3, np.ones((1, 5), np.uint8), 1, bin_borders(8), bins)
    >>> bins.tolist()
    [[0, 0, 4, 4, 4]]
"""

from typing import Any

import numpy as np

from pnm.interior_offsets.directions import bin_of
from pnm.kernels import entry_kernel, kernel

BLOCK = 32  # pixels


@kernel
def _window(labels: np.ndarray, depth: np.ndarray, first: int, width: int, radius: int, values: np.ndarray) -> None:
    """``values[i, j, k]``: the map of the k-th pixel's own label at row i and column j of the window around it.

    ``labels`` and ``depth`` are flat, with rows of ``width``; the window of the first pixel begins at ``first``.
    """
    own, zero, place = np.uint64(first + radius * (width + 1)), np.float32(0), np.uint64(0)
    for i in range(2 * radius + 1):
        for j in range(2 * radius + 1):
            other = np.uint64(first + i * width + j)
            for k in range(np.uint64(BLOCK)):
                values[place + k] = depth[other + k] if labels[other + k] == labels[own + k] else zero
            place += np.uint64(BLOCK)


@kernel
def _add(one: np.ndarray, other: np.ndarray, less: np.ndarray, and_less: np.ndarray, weight: Any, out: Any) -> None:
    for k in range(BLOCK):
        out[k] += weight * ((one[k] + other[k]) - (less[k] + and_less[k]))


@kernel
def _gradients(values: np.ndarray, radius: int, weights: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """The gradients of a block of pixels, from their windows."""
    dy[:] = 0
    dx[:] = 0
    c = radius
    for far in range(1, radius + 1):
        a, b = c - far, c + far
        for near in range(radius + 1):
            p, q = c - near, c + near
            _add(values[b, p], values[b, q], values[a, p], values[a, q], weights[far, near], dy)
            _add(values[p, b], values[q, b], values[p, a], values[q, a], weights[far, near], dx)


@entry_kernel
def _fill_bins(
    labels: np.ndarray, depth: np.ndarray, stride: int, boundary: Any, radius: int, borders: np.ndarray, out: np.ndarray
) -> None:
    """Bins of boundary pixels. ``labels`` and ``depth`` are flat; each row has ``radius`` columns more in front of it
    and some behind, ``stride`` in all, and there are ``radius`` rows more above and below."""
    side, (height, width) = 2 * radius + 1, boundary.shape
    flat = np.empty(side * side * BLOCK, np.float32)
    values = flat.reshape(side, side, BLOCK)
    dy, dx = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    weights = np.zeros((radius + 1, radius + 1), np.float32)
    for far in range(1, radius + 1):
        for near in range(radius + 1):  # in the middle, a pixel's pair is itself
            weights[far, near] = far / (far * far + near * near) * (0.5 if near == 0 else 1)
    for y in range(height):
        for x in range(0, width, BLOCK):
            count = min(BLOCK, width - x)
            if not boundary[y, x : x + count].any():
                continue
            _window(labels, depth, y * stride + x, stride, radius, flat)
            _gradients(values, radius, weights, dy, dx)
            for k in range(count):
                if boundary[y, x + k] and (dy[k] != 0 or dx[k] != 0):
                    out[y, x + k] = bin_of(dy[k], dx[k], borders)


@entry_kernel
def _fill_depth(squared: np.ndarray, roots: np.ndarray, radius: int, depth: np.ndarray) -> None:
    """Distances of the pixels that have one, with a margin in which those of the frame go on."""
    height, width = squared.shape
    for row in range(depth.shape[0]):
        source, out = squared[min(max(row - radius, 0), height - 1)], depth[row]
        for x in range(width):
            if source[x] < roots.size:
                out[x + radius] = roots[source[x]]
        out[:radius] = out[radius]
        out[width + radius :] = out[width + radius - 1]


def gradient_bins(
    labels: np.ndarray,
    squared: np.ndarray,
    reach_px: int,
    boundary: np.ndarray,
    radius_px: int,
    borders: np.ndarray,
    out: np.ndarray,
) -> None:
    """Sets ``out`` at boundary pixels whose gradient isn't (0, 0) to its bin.

    Args:
        labels: (H, W) integers.
        squared: (H, W) squared distances up to ``reach_px``, which all pixels around a boundary pixel are within.
        boundary: (H, W), not 0 at boundary pixels.
        radius_px: of the window, without its middle.
        borders: see :func:`.directions.bin_borders`.
    """
    height, width = labels.shape
    margin = BLOCK - width % BLOCK + radius_px
    depth = np.zeros((height + 2 * radius_px, width + radius_px + margin), np.float32)
    _fill_depth(squared, np.sqrt(np.arange(reach_px**2 + 1, dtype=np.float32)), radius_px, depth)
    padded = np.pad(labels, ((radius_px, radius_px), (radius_px, margin)), mode="edge")
    _fill_bins(padded.reshape(-1), depth.reshape(-1), depth.shape[1], boundary, radius_px, borders, out)
