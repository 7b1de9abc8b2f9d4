"""Null model of maps that are made of runs, as masks of objects are: the cost follows the boundaries, not the labels.

Every label near the current row owns a *plane*, one row long: its number of pixels in the window around each column.
A run of the row that enters the window adds a trapezoid to its label's plane: how much of the run the d columns around
x see. The row that leaves subtracts its own. Runs that the two rows share cancel and cost nothing. Nothing here depends
on the number of labels, and hardly anything on d.

An example, one row of labels 1 1 2 1 and d = 3. Label 1 has the runs 0-1 and 3, label 2 the run 2; what the windows
around x = 0..3 see of each run are trapezoids::

    run 0-1 of label 1    2 2 1 0
    run 3 of label 1      0 0 1 1     plane of label 1: 2 2 2 1
    run 2 of label 2                  plane of label 2: 0 1 1 1
    own label's plane     2 2 1 1     divided by the columns in the window, 2 3 3 2

    >>> from pnm.null_model.null_model import pixel_null_model
    >>> pixel_null_model(np.array([[1, 1, 2, 1]]), 3).round(2).tolist()[0]
    [1.0, 0.6700000166893005, 0.33000001311302185, 0.5]
"""

import numpy as np

from pnm.kernels import entry_kernel, kernel
from pnm.masks.label_runs import find_runs, find_slot, most_runs_at_once, take_slot
from pnm.masks.simd_lanes import LANES, load_lanes, store_lanes


@kernel
def divide_counts(
    out: np.ndarray,
    at: int,
    counts: np.ndarray,
    ignored: np.ndarray,
    columns: np.ndarray,
    rows: int,
    whole: float,
) -> None:
    """``out[at : at + n] = counts / valid``, n = columns.size, correctly rounded.

    ``valid`` is ``whole`` where that is positive, otherwise rows x columns - ignored. ``columns`` decides the
    precision: float32 is exact up to 2**24.
    """
    to_float = columns.dtype.type
    row = out[at : at + columns.size]
    if whole > 0:
        for x in range(columns.size):
            row[x] = to_float(counts[x]) / to_float(whole)
    elif ignored.size == 0:
        for x in range(columns.size):
            row[x] = to_float(counts[x]) / (to_float(rows) * columns[x])
    else:
        for x in range(columns.size):
            row[x] = to_float(counts[x]) / (to_float(rows) * columns[x] - to_float(ignored[x]))


@kernel
def _add_run(planes: np.ndarray, at: int, ramp: np.ndarray, zero: int, length: int, reach: int, sign: int) -> None:
    """Adds (sign 1) or subtracts a run's trapezoid ramp(t) - ramp(t - length), 0 <= t < reach, at ``planes[at + t]``.

    ``ramp[zero + t]`` is 0 before t = 0, then 1, 2, ..., d, d, ...
    """
    t = 0
    while t < reach:
        trapezoid = load_lanes(ramp, zero + t) - load_lanes(ramp, zero + t - length)
        plane = load_lanes(planes, at + t)
        if sign > 0:
            store_lanes(planes, at + t, plane + trapezoid)
        else:
            store_lanes(planes, at + t, plane - trapezoid)
        t += LANES


@kernel
def _make_ramp(width: int, radius: int, zeros: np.ndarray) -> np.ndarray:
    ramp = np.zeros(2 * width + 2 * radius + 2 * LANES, zeros.dtype)
    for t in range(ramp.size - width):
        ramp[width + t] = min(t + 1, 2 * radius + 1)
    return ramp


@kernel
def _number_runs(
    labels: np.ndarray,
    base: int,
    starts: np.ndarray,
    slots: np.ndarray,
    at: int,
    number: int,
    keys: np.ndarray,
    uses: np.ndarray,
    table: np.ndarray,
    free: np.ndarray,
    planes: np.ndarray,
    stride: int,
) -> int:
    """Gives each run of a row the slot of its label; how many labels are new in the window, or -1 if slots ran out.

    Args:
        labels, base: the map, and where the row starts in it.
        starts, slots, at, number: first columns and slots of runs, those of the row being ``at..at + number - 1``.
        keys, uses, table, free: the slots' labels and numbers of runs in the window; see :mod:`pnm.masks.label_runs`.
        planes, stride: all planes, one behind another, and the length of one.
    """
    new_labels = 0
    for run in range(at, at + number):
        key = np.uint64(labels[base + starts[run]])
        slot = find_slot(key, keys, table)
        if slot < 0:
            slot = take_slot(key, keys, uses, table, free)
            if slot < 0:
                return -1
            planes[slot * stride : (slot + 1) * stride] = 0
        new_labels += uses[slot] == 0
        uses[slot] += 1
        slots[run] = slot
    return new_labels


@kernel
def _move_window(
    planes: np.ndarray,
    stride: int,
    ramp: np.ndarray,
    radius: int,
    width: int,
    starts: np.ndarray,
    slots: np.ndarray,
    new_at: int,
    new_number: int,
    old_at: int,
    old_number: int,
) -> None:
    """Adds the runs of the entering row to the planes and takes those of the leaving row out; equal ones cancel.

    Args:
        planes, stride: as in :func:`_number_runs`.
        ramp, radius, width: of :func:`_make_ramp`; (d - 1) / 2; of the map.
        starts, slots: of all runs that are held.
        new_at, new_number, old_at, old_number: which of them are the entering row's and the leaving row's.
    """
    while new_number > 0 and old_number > 0:
        if slots[new_at] != slots[old_at] or starts[new_at] != starts[old_at]:
            break
        if starts[new_at + 1] != starts[old_at + 1]:
            break
        new_at, new_number = new_at + 1, new_number - 1
        old_at, old_number = old_at + 1, old_number - 1
    while new_number > 0 and old_number > 0:
        new_run, old_run = new_at + new_number - 1, old_at + old_number - 1
        if slots[new_run] != slots[old_run] or starts[new_run] != starts[old_run]:
            break
        if starts[new_run + 1] != starts[old_run + 1]:
            break
        new_number, old_number = new_number - 1, old_number - 1
    for run in range(new_at, new_at + new_number):
        length = starts[run + 1] - starts[run]
        at = slots[run] * stride + starts[run]
        _add_run(planes, at, ramp, width, length, length + 2 * radius, 1)
    for run in range(old_at, old_at + old_number):
        length = starts[run + 1] - starts[run]
        at = slots[run] * stride + starts[run]
        _add_run(planes, at, ramp, width, length, length + 2 * radius, -1)


@kernel
def _gather_counts(
    counts: np.ndarray,
    planes: np.ndarray,
    stride: int,
    radius: int,
    starts: np.ndarray,
    slots: np.ndarray,
    at: int,
    number: int,
) -> None:
    """``counts[x]`` = pixels of x's label in the window around x; a run may write past its end, into the next one."""
    for run in range(at, at + number):
        plane = slots[run] * stride + radius
        for x in range(starts[run], starts[run + 1], LANES):
            store_lanes(counts, x, load_lanes(planes, plane + x))


@entry_kernel
def null_model_of_runs(
    first: int,
    last: int,
    labels: np.ndarray,
    height: int,
    width: int,
    ignored_key: np.ndarray,
    radius: int,
    whole: float,
    columns: np.ndarray,
    run_counts: np.ndarray,
    max_slots: int,
    zeros: np.ndarray,
    out: np.ndarray,
) -> bool:
    """Writes rows first..last - 1 of the null model to ``out``; False if too many labels meet in d rows.

    Args:
        labels: (H * W,) unsigned.
        ignored_key: (1,) or (0,) uint64, the label to ignore.
        radius: (d - 1) / 2, at most max(H, W).
        whole: 0, or the denominator where it is the same everywhere (d**2).
        columns: (W,) float32 or float64, columns of the window around x that lie in the image.
        run_counts: what :func:`pnm.masks.label_runs.count_runs` gives.
        max_slots: number of planes; as many labels as d rows have, and a quarter more, is enough.
        zeros: empty array of the type of the planes, which holds the pixels of a window.
        out: (H * W,) float32.
    """
    stride = width + 2 * radius + LANES
    ramp = _make_ramp(width, radius, zeros)
    window = 2 * radius + 2
    top, bottom = max(0, first - radius), min(height, last + radius)
    held = min(window, bottom - top)
    most, longest = most_runs_at_once(run_counts, top, bottom, held)
    starts = np.empty(most + held + 2 * (longest + 1), np.int32)
    slots = np.empty(starts.size, np.int32)
    run_at, run_number = np.zeros(held, np.int64), np.zeros(held, np.int64)
    keys, uses = np.zeros(max_slots, np.uint64), np.zeros(max_slots, np.int64)
    table, free = np.zeros(4 * max_slots, np.int32), np.arange(max_slots + 1)[::-1].copy()
    free[0] = max_slots
    planes = np.empty(max_slots * stride, zeros.dtype)
    counts = np.empty(width + LANES, zeros.dtype)
    live = head = 0
    for entering in range(top, last + radius):
        new_at = new_number = old_at = old_number = 0
        if entering < bottom:
            new_at = head if head + run_counts[entering] < starts.size else 0
            new_number = find_runs(labels, entering * width, width, starts, new_at)
            head = new_at + new_number + 1
            run_at[entering % held], run_number[entering % held] = new_at, new_number
            base = entering * width
            new_labels = _number_runs(
                labels, base, starts, slots, new_at, new_number, keys, uses, table, free, planes, stride
            )
            if new_labels < 0:
                return False
            live += new_labels
        leaving = entering - window + 1
        if leaving >= top:
            old_at, old_number = run_at[leaving % held], run_number[leaving % held]
            for run in range(old_at, old_at + old_number):
                uses[slots[run]] -= 1
                live -= uses[slots[run]] == 0
        _move_window(planes, stride, ramp, radius, width, starts, slots, new_at, new_number, old_at, old_number)
        y = entering - radius
        if y < first:
            continue
        if live == 1 and whole == 0:
            out[y * width : (y + 1) * width] = 1
            continue
        at, number = run_at[y % held], run_number[y % held]
        ignored_slot = find_slot(ignored_key[0], keys, table) if ignored_key.size else -1
        if ignored_slot >= 0 and uses[ignored_slot] == 0:
            ignored_slot = -1
        _gather_counts(counts, planes, stride, radius, starts, slots, at, number)
        plane = ignored_slot * stride + radius
        ignored = planes[plane : plane + width] if ignored_slot >= 0 else planes[:0]
        rows = min(y + radius + 1, height) - max(y - radius, 0)
        divide_counts(out, y * width, counts, ignored, columns, rows, whole)
        if ignored_slot >= 0:
            for run in range(at, at + number):
                if slots[run] == ignored_slot:
                    out[y * width + starts[run] : y * width + starts[run + 1]] = 1
    return True
