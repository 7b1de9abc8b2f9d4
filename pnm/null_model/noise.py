"""Null model of maps without structure, where nearly every pixel is a run of its own; any map gives the same values.

Up to 256 labels: sliding column histograms. ``columns`` holds the histogram of each column's d pixels around the row;
the running sum of them along the row, kept modulo its type, gives any window's count of one label by one subtraction.
A histogram is a vector of 32 labels (or several such), so a pixel costs the same whatever d. More labels: one histogram
that slides over the window, at 2 d updates a pixel.
"""

import numba
import numpy as np

from pnm.masks.simd_lanes import LANES, load_lanes, store_lanes, widen_lanes, zero_lanes
from pnm.null_model.run_planes import divide_counts

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")

LABELS = 256
STRIP = 1024


@_kernel
def _move_down(columns, sums, ones, group, labels, entering, leaving, entered, left, number):
    """Moves ``number`` column histograms of 32 labels down one row and sums them up from left to right.

    ``ones[:, label]`` is the one-hot vector of a label, group by group; the last group is all zeros and stands for a
    row outside the image (``entered``, ``left``: is the row inside).
    """
    nothing = (ones.size // (LABELS * LANES) - 1) * LABELS * LANES
    add = group * LABELS * LANES if entered else nothing
    take = group * LABELS * LANES if left else nothing
    column_base = group * number * LANES
    at = group * (number + 1) * LANES
    total = zero_lanes(sums)
    store_lanes(sums, at, total)
    new_row, old_row = labels[entering : entering + number], labels[leaving : leaving + number]
    for k in range(number):
        one = load_lanes(ones, add + np.int64(new_row[k]) * LANES)
        other = load_lanes(ones, take + np.int64(old_row[k]) * LANES)
        column = load_lanes(columns, column_base + k * LANES) + one - other
        store_lanes(columns, column_base + k * LANES, column)
        total = total + widen_lanes(column, sums)
        at += LANES
        store_lanes(sums, at, total)


@_kernel
def _one_hot(ranks, groups, columns):
    ones = np.zeros((groups + 1, LABELS, LANES), columns.dtype)
    for label in range(LABELS):
        if ranks[label] >= 0:
            ones[ranks[label] // LANES, label, ranks[label] % LANES] = 1
    return ones.reshape(-1)


@_kernel
def null_model_of_columns(
    first, last, labels, height, width, ignored_label, ranks, radius, whole, window_columns, column_zeros, zeros, out
):
    """Writes rows first..last - 1 of the null model to ``out``.

    Args:
        labels: (H * W,) uint8.
        ignored_label: 0..255, or -1 if the map has none to ignore.
        ranks: (256,) int64, consecutive numbers from 0 of the labels that occur, -1 for the others.
        radius, whole, out: as in :func:`pnm.null_model.run_planes.null_model_of_runs`.
        window_columns: (W,) float32 or float64, columns of the window around x that lie in the image.
        column_zeros, zeros: empty arrays of the unsigned types that hold a column's and a window's pixels.
    """
    groups = (ranks.max() + LANES) // LANES
    ones = _one_hot(ranks, groups, column_zeros)
    counts, ignored = np.empty(STRIP, zeros.dtype), np.empty(STRIP, zeros.dtype)
    for x0 in range(0, width, STRIP):
        x1 = min(x0 + STRIP, width)
        left, right = max(0, x0 - radius), min(width, x1 + radius)
        number = right - left
        columns = np.zeros(groups * number * LANES, column_zeros.dtype)
        sums = np.zeros(groups * (number + 1) * LANES, zeros.dtype)
        afters, befores = np.empty(x1 - x0, np.int64), np.empty(x1 - x0, np.int64)
        for x in range(x0, x1):
            afters[x - x0] = (min(x + radius + 1, width) - left) * LANES
            befores[x - x0] = (max(x - radius, 0) - left) * LANES
        lanes = np.zeros(LABELS, np.int64)  # where the running sums of a label begin
        for label in range(LABELS):
            if ranks[label] >= 0:
                lanes[label] = ranks[label] // LANES * (number + 1) * LANES + ranks[label] % LANES
        for entering in range(max(0, first - radius), last + radius):
            leaving = entering - 2 * radius - 1
            inside, outside = entering < height, leaving >= max(0, first - radius)
            new_at, old_at = entering * width if inside else 0, leaving * width if outside else 0
            for group in range(groups):
                _move_down(columns, sums, ones, group, labels, new_at + left, old_at + left, inside, outside, number)
            y = entering - radius
            if y < first:
                continue
            row = labels[y * width + x0 : y * width + x1]
            for x in range(row.size):
                lane = lanes[row[x]]
                after, before = np.uint64(lane + afters[x]), np.uint64(lane + befores[x])
                counts[x] = sums[after] - sums[before]
            if ignored_label >= 0:
                lane = lanes[ignored_label]
                for x in range(row.size):
                    ignored[x] = sums[lane + afters[x]] - sums[lane + befores[x]]
            rows = min(y + radius + 1, height) - max(y - radius, 0)
            some = ignored if ignored_label >= 0 else ignored[:0]
            divide_counts(out, y * width + x0, counts, some, window_columns[x0:x1], rows, whole)
            if ignored_label >= 0:
                for x in range(x0, x1):
                    if labels[y * width + x] == ignored_label:
                        out[y * width + x] = 1


@_kernel
def null_model_of_histogram(
    first, last, labels, height, width, number, ignored_label, radius, whole, window_columns, zeros, out
):
    """As :func:`null_model_of_columns` for ``labels`` (H * W,) int32 in 0..number - 1, any number of them."""
    counts, ignored = np.empty(width, zeros.dtype), np.zeros(width, zeros.dtype)
    histogram = np.zeros(number, zeros.dtype)
    for y in range(first, last):
        top, bottom = max(0, y - radius), min(height, y + radius + 1)
        histogram[:] = 0
        for x in range(-radius, width):
            if x + radius < width:
                for above in range(top, bottom):
                    histogram[labels[above * width + x + radius]] += 1
            if x - radius > 0:
                for above in range(top, bottom):
                    histogram[labels[above * width + x - radius - 1]] -= 1
            if x >= 0:
                counts[x] = histogram[labels[y * width + x]]
                if ignored_label >= 0:
                    ignored[x] = histogram[ignored_label]
        divide_counts(out, y * width, counts, ignored, window_columns, bottom - top, whole)
        if ignored_label >= 0:
            for x in range(width):
                if labels[y * width + x] == ignored_label:
                    out[y * width + x] = 1
