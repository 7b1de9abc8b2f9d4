"""Labels at the size of the image, of logits at the stride of the network, without the logits in between.

Bilinear weights are shares: between four cells of the grid, a class that leads at all four leads everywhere. So classes
are compared cell by cell first, and only where the leaders differ is anything interpolated, of the classes that can win
there: those that no leader exceeds at all four cells.

An example of three classes on a grid of 1 x 3, drawn twice as wide::

    >>> logits = np.array([[[4, 4, 0]], [[0, 0, 3]], [[1, 1, 1]]], np.float32)
    >>> resized_argmax(logits, (1, 3), (1, 6)).tolist()   # class 1 has 0.75 at column 3, and 2.25 at column 4
    [[0, 0, 0, 0, 1, 1]]
    >>> columns, weights = axis_places(3, 3.0, 6)
    >>> columns.tolist(), weights.tolist()                # grid column to the left, and the share of the next one
    ([0, 0, 0, 1, 1, 2], [0.0, 0.25, 0.75, 0.25, 0.75, 0.25])

Class 0 leads at both cells around columns 0 to 2: nothing is interpolated. Around columns 3 and 4 the leaders are 0 and
1, and neither exceeds class 2 at both cells: all three are interpolated, at two pixels.
"""

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel


@kernel
def axis_places(cells: int, source: float, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Along an axis, of each pixel: the cell before its centre, int64, and the weight of the next cell, float32.

    Args:
        cells: of the grid; what lies before the first one's centre or behind the last one's takes that cell.
        source: the part of the grid, in cells, that the pixels cover.
        pixels: of the output.
    """
    before, weights = np.empty(pixels, np.int64), np.empty(pixels, np.float32)
    for n in range(pixels):
        place = max((n + 0.5) * source / pixels - 0.5, 0.0)
        before[n] = min(int(place), cells - 1)
        weights[n] = place - before[n]
    return before, weights


@kernel
def _lead_row(logits: np.ndarray, row: int, columns: int, best: np.ndarray, leaders: np.ndarray) -> None:
    """Writes the class with the largest logit of each cell of a row of the grid, of equal ones the lowest."""
    best[:columns] = -np.inf
    leaders[:columns] = 0
    for k in range(logits.shape[0]):
        logits_row = logits[k, row]
        for j in range(columns):
            is_larger = logits_row[j] > best[j]
            best[j] = logits_row[j] if is_larger else best[j]
            leaders[j] = k if is_larger else leaders[j]


@kernel
def _list_mixed(
    above: np.ndarray,
    below: np.ndarray,
    columns: np.ndarray,
    column_ends: np.ndarray,
    lefts: np.ndarray,
    squares: np.ndarray,
) -> int:
    """Writes which squares between two rows of the grid have several leaders, and how many they are.

    Args:
        above, below: (w,) leaders of the rows' cells.
        columns: of each column of pixels, the grid's before it.
        column_ends: where the squares' pixels end.
        lefts, squares: for the left column and the number of each square found.
    """
    mixed = 0
    for n in range(column_ends.size):
        left = columns[column_ends[n] - 1]
        right = min(left + 1, above.size - 1)
        kind = above[left]
        lefts[mixed], squares[mixed] = left, n  # stays only if the next line counts it
        mixed += (above[right] != kind) | (below[left] != kind) | (below[right] != kind)
    return mixed


@kernel
def _take_corners(logits: np.ndarray, rows: tuple[int, int], lefts: np.ndarray, corners: np.ndarray) -> None:
    """Copies the logits at the four corners of squares of the grid: (squares, 4, K), upper ones first."""
    last = logits.shape[2] - 1
    for k in range(logits.shape[0]):
        upper, lower = logits[k, rows[0]], logits[k, rows[1]]
        for n in range(lefts.size):
            left, right = lefts[n], min(lefts[n] + 1, last)
            corners[n, 0, k], corners[n, 1, k] = upper[left], upper[right]
            corners[n, 2, k], corners[n, 3, k] = lower[left], lower[right]


@kernel
def _list_candidates(corners: np.ndarray, leaders: np.ndarray, is_beaten: np.ndarray, candidates: np.ndarray) -> int:
    """Writes the classes, ascending, that no leader of a corner exceeds at all four; their number.

    Args:
        corners: (4, K).
        leaders: (4,) the corners' classes.
        is_beaten: (K,) uint8, for the kernel's own use.
    """
    is_beaten[:] = 0
    for n in range(4):
        leader = leaders[n]
        if (n > 0 and leader == leaders[0]) or (n > 1 and leader == leaders[1]) or (n > 2 and leader == leaders[2]):
            continue
        a, b, c, d = corners[0, leader], corners[1, leader], corners[2, leader], corners[3, leader]
        for k in range(is_beaten.size):
            is_beaten[k] |= (corners[0, k] < a) & (corners[1, k] < b) & (corners[2, k] < c) & (corners[3, k] < d)
    left_over = 0  # mostly the leaders alone: the list ends when all are found
    for k in range(is_beaten.size):
        left_over += 1 - is_beaten[k]
    count, k = 0, 0
    while count < left_over:
        candidates[count] = k
        count += 1 - is_beaten[k]
        k += 1
    return count


@kernel
def _resolve_square(
    corners: np.ndarray,
    candidates: np.ndarray,
    y_weights: np.ndarray,
    x_weights: np.ndarray,
    sides: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Writes labels (y, x) of the pixels between four cells, of candidates only.

    Args:
        corners: (4, K).
        y_weights, x_weights: of the lower and the right cells, for each row and column of pixels.
        sides: (2, K) float32, for the kernel's own use: logits at the left and right side of a row.
    """
    one, count = np.float32(1), candidates.size
    left, right = sides[0], sides[1]
    for y in range(y_weights.size):
        weight = y_weights[y]
        for n in range(count):
            k = candidates[n]
            left[n] = corners[0, k] * (one - weight) + corners[2, k] * weight
            right[n] = corners[1, k] * (one - weight) + corners[3, k] * weight
        for x in range(x_weights.size):
            best, label = np.float32(-np.inf), candidates[0]
            for n in range(count):
                value = left[n] * (one - x_weights[x]) + right[n] * x_weights[x]
                if value > best:
                    best, label = value, candidates[n]
            labels[y, x] = label


@kernel
def _run_ends(before: np.ndarray) -> np.ndarray:
    """Ends of the runs of pixels that lie behind the same cell."""
    ends, count = np.empty(before.size, np.int64), 0
    for n in range(before.size):
        if n + 1 == before.size or before[n + 1] != before[n]:
            ends[count] = n + 1
            count += 1
    return ends[:count].copy()


@entry_kernel
def _label_pixels(logits: np.ndarray, source_height: float, source_width: float, labels: np.ndarray) -> None:
    """Writes the labels, row of squares by row of squares: leaders first, then over them the squares with several."""
    kinds, grid_height, grid_width = logits.shape
    rows, row_weights = axis_places(grid_height, source_height, labels.shape[0])
    columns, column_weights = axis_places(grid_width, source_width, labels.shape[1])
    row_ends, column_ends = _run_ends(rows), _run_ends(columns)
    used = min(columns[-1] + 2, grid_width)
    best, leaders = np.empty(grid_width, np.float32), np.zeros((2, grid_width), np.int32)
    led = np.full(2, -1, np.int64)  # rows of the grid that ``leaders`` holds, even and odd
    lefts, squares = np.empty(column_ends.size, np.int64), np.empty(column_ends.size, np.int64)
    corners = np.empty((column_ends.size, 4, kinds), np.float32)
    is_beaten, candidates, four = np.empty(kinds, np.uint8), np.empty(kinds + 1, np.int64), np.empty(4, np.int64)
    sides = np.empty((2, kinds), np.float32)
    top = 0
    for bottom in row_ends:
        upper, lower = rows[top], min(rows[top] + 1, grid_height - 1)
        for row in (upper, lower):
            if led[row % 2] != row:
                _lead_row(logits, row, used, best, leaders[row % 2])
                led[row % 2] = row
        above, below = leaders[upper % 2], leaders[lower % 2]
        for x in range(columns.size):  # right where all four corners have one leader
            labels[top, x] = above[columns[x]]
        for y in range(top + 1, bottom):
            labels[y] = labels[top]
        mixed = _list_mixed(above, below, columns, column_ends, lefts, squares)
        _take_corners(logits, (upper, lower), lefts[:mixed], corners)
        for m in range(mixed):
            left, right, n = lefts[m], min(lefts[m] + 1, grid_width - 1), squares[m]
            four[0], four[1], four[2], four[3] = above[left], above[right], below[left], below[right]
            count = _list_candidates(corners[m], four, is_beaten, candidates)
            first, last = column_ends[n - 1] if n else 0, column_ends[n]
            _resolve_square(
                corners[m],
                candidates[:count],
                row_weights[top:bottom],
                column_weights[first:last],
                sides,
                labels[top:bottom, first:last],
            )
        top = bottom


def resized_argmax(logits: np.ndarray, source_size: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """Class with the largest logit at each pixel, the logits interpolated bilinearly; of equal ones the lowest class.

    It equals ``F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax`` but for rounding, where the
    image covers all of the grid. Detectron2 does it in two steps, to the padded size of the network's input, and from
    the image's part of that to the size of the output; this does it once.

    Args:
        logits: (K, h, w) float32, at the network's output stride.
        source_size: (height, width) of the part of the grid, in cells, that the image covers; may be fractional, e.g.
            (200, 333.25) for an input of 800 x 1333 at stride 4. The rest is padding.
        size: (H, W) of the output.

    Returns:
        (H, W) uint8, int16 for more than 256 classes. The label of a pixel at a NaN is any class.

    Raises:
        UserError: no logits, or more of the grid is asked for than there is.
    """
    if logits.ndim != 3 or not logits.size or len(logits) > 2**15 or min(size) < 1:
        raise UserError(f"logits are {logits.shape} for an image of {size}, expected (K, h, w), none 0, K up to 32768")
    if not all(0 < part <= whole for part, whole in zip(source_size, logits.shape[1:])):
        raise UserError(f"the image covers {source_size} cells of a grid of {logits.shape[1:]}, expected a part of it")
    labels = np.empty(size, np.uint8 if len(logits) <= 256 else np.int16)
    height, width = (float(part) for part in source_size)
    _label_pixels(np.ascontiguousarray(logits, np.float32), height, width, labels)
    return labels
