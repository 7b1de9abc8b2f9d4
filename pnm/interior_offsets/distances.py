"""How far each pixel of a label map is from the nearest pixel of another label, for all labels at once.

Exact and Euclidean, between the centres of pixels: those at an edge have distance 1. The frame of the image is no edge.
The nearest pixel of another label lies straight above or below a pixel of the same run of the row, or is the run's
neighbour in the row. So steps are counted down and up the columns, and each run of a row joins what its columns have.

An example, whose second row is a run of six pixels: the third has another label above, at one step, and the sixth one
beside it. The fourth pixel is one step and one column away from the former (1 + 1), the fifth two columns from the
latter (2 * 2)::

    >>> labels = np.array([[0, 0, 1, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 2]])
    >>> nearest_of_other_label(labels, 3).squared[1].tolist()
    [5, 2, 1, 2, 4, 1, 1]
"""

from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel

FAR = np.iinfo(np.int32).max  # squared distance of a pixel that has no other label near
MOST_REACH = 120  # px: steps are counted in bytes


def checked_labels(labels: Any) -> np.ndarray:
    """The labels, contiguous; a UserError unless they are an (H, W) array of integers or bool."""
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iub":
        kind = f"{labels.shape} {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise UserError(f"labels are {kind}, expected an (H, W) array of integers: take one map at a time")
    return np.ascontiguousarray(labels.view(np.uint8) if labels.dtype == np.bool_ else labels)


@kernel
def _count_steps(row: np.ndarray, before: np.ndarray, most: Any, steps: np.ndarray) -> None:
    """Steps in each column to the last pixel of another label, from those of the row before; at most ``most``."""
    one = steps.dtype.type(1)
    for x in range(row.size):
        more = steps[x] + one if steps[x] < most else most
        steps[x] = more if row[x] == before[x] else one


@kernel
def _steps_up(labels: np.ndarray, steps: np.ndarray, most: Any, out: np.ndarray) -> None:
    """Fills ``out`` (H, W) with the steps up; ``steps`` (W,) is all ``most``."""
    for y in range(labels.shape[0]):
        _count_steps(labels[y], labels[max(y - 1, 0)], most, steps)
        out[y] = steps


class Near(NamedTuple):
    """The nearest pixels of another label, of each pixel that has some within reach.

    Attributes:
        squared: (H, W) int32, the squared distance in px; ``FAR`` beyond the reach.
        sum_yx: (H, W, 2) int16, the sum of the vectors to all that are equally near; (0, 0) beyond the reach. Empty
            where it wasn't asked for.
    """

    squared: np.ndarray
    sum_yx: np.ndarray


@kernel
def _take(x: int, squared: int, dy: int, dx: int, row: np.ndarray, sums: np.ndarray) -> None:
    """One candidate for pixel x of a row: pixels at a squared distance, the vectors to which add up to (dy, dx)."""
    if squared < row[x]:
        row[x] = squared
        if sums.size:
            sums[x, 0], sums[x, 1] = dy, dx
    elif squared == row[x] and sums.size:
        sums[x, 0] += dy
        sums[x, 1] += dx


@kernel
def _join_run(
    first: int, end: int, up: np.ndarray, down: np.ndarray, widths: np.ndarray, row: np.ndarray, sums: np.ndarray
) -> None:
    """What the columns ``first`` to ``end`` of a run have, for all pixels of the run.

    ``widths[g]`` is how far a pixel may be from a column with g steps, so that it is within reach; -1 = not at all.
    """
    for column in range(first, end):
        steps = np.int64(min(up[column], down[column]))
        if widths[steps] < 0:
            continue
        both = up[column] == down[column]
        dy = 0 if both else (steps if down[column] < up[column] else -steps)
        for x in range(max(first, column - widths[steps]), min(end, column + widths[steps] + 1)):
            dx = column - x
            _take(x, steps * steps + dx * dx, dy, 2 * dx if both else dx, row, sums)


@kernel
def _join_row(
    labels: np.ndarray, up: np.ndarray, down: np.ndarray, widths: np.ndarray, row: np.ndarray, sums: np.ndarray
) -> None:
    width, reach, first = labels.size, widths.size - 2, 0
    while first < width:
        end = first + 1
        while end < width and labels[end] == labels[first]:
            end += 1
        if first > 0:
            for x in range(first, min(end, first + reach)):
                _take(x, (x - first + 1) ** 2, 0, first - 1 - x, row, sums)
        if end < width:
            for x in range(max(first, end - reach), end):
                _take(x, (end - x) ** 2, 0, end - x, row, sums)
        _join_run(first, end, up, down, widths, row, sums)
        first = end


@entry_kernel
def _find_near(labels: np.ndarray, widths: np.ndarray, up: np.ndarray, squared: np.ndarray, sums: np.ndarray) -> None:
    height, width = labels.shape
    most = np.uint8(widths.size - 1)
    _steps_up(labels, np.full(width, most, np.uint8), most, up)
    down = np.full(width, most, np.uint8)
    for y in range(height - 1, -1, -1):
        _count_steps(labels[y], labels[min(y + 1, height - 1)], most, down)
        _join_row(labels[y], up[y], down, widths, squared[y], sums[y] if sums.size else sums[0])


def nearest_of_other_label(labels: np.ndarray, reach_px: int, *, with_vectors: bool = False) -> Near:
    """Distances up to ``reach_px``, and on demand vectors to the nearest pixels of another label.

    Takes time for the pixels, and more for those within reach of an edge; none for the number of labels.

    Args:
        labels: (H, W) integers of any type and values, or bool.
        reach_px: from 1 to ``MOST_REACH``.

    Raises:
        UserError: no label map, or another reach.
    """
    labels = checked_labels(labels)
    if not 1 <= reach_px <= MOST_REACH:
        raise UserError(f"reach_px is {reach_px}, expected 1 to {MOST_REACH}")
    steps = np.arange(reach_px + 2)
    widths = np.where(steps <= reach_px, np.sqrt(np.maximum(reach_px**2 - steps**2, 0)).astype(np.int64), -1)
    squared = np.full(labels.shape, FAR, np.int32)
    sums = np.zeros((*labels.shape, 2), np.int16) if with_vectors else np.zeros((1, 0, 2), np.int16)
    if labels.size:
        _find_near(labels, widths, np.empty(labels.shape, np.uint8), squared, sums)
    return Near(squared, sums)


@kernel
def _envelope(
    first: int, end: int, left: int, right: int, steps: np.ndarray, sites: np.ndarray, starts: np.ndarray, row: Any
) -> None:
    """Distances of the pixels ``first`` to ``end`` of a run, as the lower envelope of parabolas over its columns
    (Felzenszwalb and Huttenlocher, 2012); ``left`` and ``right`` are the columns of the ends, in or beside the run."""
    top = -1
    for column in range(left, right + 1):
        inside = first <= column < end
        if inside and steps[column] >= FAR:
            continue
        height = float(steps[column]) ** 2 if inside else 0.0
        start = -np.inf
        while top >= 0:
            other = sites[top]
            of_other = float(steps[other]) ** 2 if first <= other < end else 0.0
            start = ((height + column * column) - (of_other + other * other)) / (2.0 * (column - other))
            if start > starts[top]:
                break
            top, start = top - 1, -np.inf
        top += 1
        sites[top], starts[top] = column, start
    if top < 0:
        return
    at = 0
    for x in range(first, end):
        while at < top and starts[at + 1] < x:
            at += 1
        site = sites[at]
        squared = float(steps[site]) ** 2 if first <= site < end else 0.0
        row[x] = np.sqrt(squared + float(x - site) ** 2)


@entry_kernel
def _measure(labels: np.ndarray, distances: np.ndarray) -> None:
    height, width = labels.shape
    up = np.empty(labels.shape, np.int32)
    _steps_up(labels, np.full(width, FAR, np.int32), np.int32(FAR), up)
    down = np.full(width, FAR, np.int32)
    steps, sites, starts = np.empty(width, np.int32), np.empty(width + 2, np.int64), np.empty(width + 2)
    for y in range(height - 1, -1, -1):
        row = labels[y]
        _count_steps(row, labels[min(y + 1, height - 1)], np.int32(FAR), down)
        for x in range(width):
            steps[x] = min(up[y, x], down[x])
        first = 0
        while first < width:
            end = first + 1
            while end < width and row[end] == row[first]:
                end += 1
            left, right = max(first - 1, 0), min(end, width - 1)
            _envelope(first, end, left, right, steps, sites, starts, distances[y])
            first = end


def label_distances(labels: np.ndarray) -> np.ndarray:
    """The exact Euclidean distance of each pixel to the nearest pixel of another label.

    Linear in the pixels, whatever the number of labels.

    Args:
        labels: (H, W) integers of any type and values, or bool.

    Returns:
        (H, W) float32, in px; infinite where the image has one label only.

    Raises:
        UserError: no label map.
    """
    labels = checked_labels(labels)
    distances = np.full(labels.shape, np.inf, np.float32)
    if labels.size:
        _measure(labels, distances)
    return distances
