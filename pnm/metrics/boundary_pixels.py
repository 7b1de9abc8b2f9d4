"""Interior and boundary pixels of all segments of a map at once (Cheng et al., "Boundary IoU", CVPR 2021).

The boundary of a segment is what an erosion by a square of 2d + 1 pixels takes away, all outside the image being
background. A pixel of the segment stays if its window lies in the image and in the segment; since the windows of all
segments are the same, one pass tells for every pixel whether its window carries one label.
"""

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.masks.simd_lanes import LANES, changes, lowest_bit
from pnm.metrics.boundary_width import check_distance


def unsigned_view(labels: np.ndarray) -> np.ndarray:
    """Integers or bool of any shape as contiguous unsigned integers of the same width, without a copy if possible."""
    return np.ascontiguousarray(labels).view(f"u{labels.dtype.itemsize}")


@kernel
def _blank(flags: np.ndarray, first: int, last: int) -> None:
    for x in range(first, last):
        flags[x] = 0


@kernel
def _mark_uniform(labels: np.ndarray, base: int, width: int, d: int, uniform: np.ndarray) -> None:
    """``uniform[x]`` = 1 if columns x - d to x + d of the row at ``base`` exist and carry one label, else 0."""
    uniform[:] = 1
    _blank(uniform, 0, d)
    done, x = d, 1  # the columns before done are settled
    while x < width:
        if x + LANES <= width:
            bits = changes(labels, base + x)
            while bits != 0:
                change = x + lowest_bit(bits)
                _blank(uniform, max(change - d, done), min(change + d, width))
                done = max(done, change + d)
                bits &= bits - np.uint32(1)
            x += LANES
        else:
            if labels[base + x] != labels[base + x - 1]:
                _blank(uniform, max(x - d, done), min(x + d, width))
                done = max(done, x + d)
            x += 1
    _blank(uniform, width - d, width)


@kernel
def _deepen(row: np.ndarray, above: np.ndarray, uniform: np.ndarray, span: int, depth: np.ndarray) -> None:
    """``depth``: rows from this one up that are uniform around the column and carry its label, at most ``span``."""
    one = depth.dtype.type(1)
    for x in range(row.size):
        kept = depth[x] if row[x] == above[x] else depth.dtype.type(0)
        deeper = kept + one if kept < span else span
        depth[x] = deeper if uniform[x] else depth.dtype.type(0)


@entry_kernel
def _mark_interior(
    labels: np.ndarray, height: int, width: int, d: int, zeros: np.ndarray, interior: np.ndarray
) -> None:
    """Fills ``interior`` (H * W,) uint8. ``zeros`` is an empty array of an unsigned type that holds 2d + 1."""
    interior[: d * width] = 0
    interior[(height - d) * width :] = 0
    uniform, depth = np.empty(width, np.uint8), np.zeros(width, zeros.dtype)
    span = zeros.dtype.type(2 * d + 1)
    for y in range(height):
        base = y * width
        _mark_uniform(labels, base, width, d, uniform)
        row = labels[base : base + width]
        _deepen(row, labels[base - width : base] if y else row, uniform, span, depth)
        if y >= 2 * d:
            out = interior[(y - d) * width : (y - d + 1) * width]
            for x in range(width):
                out[x] = depth[x] == span


def interior_pixels(labels: np.ndarray, d: int) -> np.ndarray:
    """Pixels whose (2d + 1) x (2d + 1) window lies wholly in the image and carries one label.

    The boundary of segment k is ``(labels == k) & ~interior_pixels(labels, d)``. Cost and memory hardly depend on d and
    not at all on the number of segments: a few operations on whole vectors for each pixel.

    Args:
        labels: (H, W) integers of any type and any values, or bool.
        d: width of the boundary in pixels, at least 1; see :mod:`pnm.metrics.boundary_width`.

    Returns:
        (H, W) bool; all False where the window is larger than the image.

    Raises:
        UserError: labels that are no (H, W) array of integers, or d that isn't a positive integer.
    """
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iub":
        kind = f"{labels.shape} {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise UserError(f"labels are {kind}, expected an (H, W) array of integers: take one map at a time")
    check_distance(None, d)
    height, width = labels.shape
    if 2 * d + 1 > min(height, width):
        return np.zeros(labels.shape, np.bool_)
    interior = np.empty(labels.shape, np.uint8)
    counter = np.empty(0, np.uint8 if 2 * d + 1 < 256 else np.uint32)
    _mark_interior(unsigned_view(labels).reshape(-1), height, width, int(d), counter, interior.reshape(-1))
    return interior.view(np.bool_)
