"""Runs of equal labels in the rows of a map, for numba kernels: counted, found and numbered.

A label map of any width of integer is flat here: ``labels`` is (H * W,) unsigned, row y starts at y * W.

An example, two rows of five pixels::

    >>> labels = np.array([7, 7, 3, 3, 3, 7, 7, 7, 7, 9], np.uint8)
    >>> count_runs(labels, 2, 5).tolist()
    [2, 2]
    >>> starts = np.zeros(8, np.int32)
    >>> find_runs(labels, 0, 5, starts, 0), starts[:3].tolist()  # of the first row: columns 0 and 2, and its width
    (2, [0, 2, 5])

Labels are given *slots*, places in small arrays: a hash table finds a label's slot, a stack holds the free ones.
"""

import numpy as np

from pnm.kernels import entry_kernel, kernel
from pnm.masks.simd_lanes import LANES, bit_count, changes, lowest_bit


@entry_kernel
def _count_runs(labels: np.ndarray, width: int, counts: np.ndarray) -> None:
    for y in range(counts.size):
        x, base = 1, y * width
        counts[y] = 1
        while x + LANES <= width:
            counts[y] += bit_count(changes(labels, base + x))
            x += LANES
        for rest in range(x, width):
            counts[y] += labels[base + rest] != labels[base + rest - 1]


def count_runs(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Number of runs in each row, (H,) int64."""
    counts = np.empty(height, np.int64)
    _count_runs(labels, width, counts)
    return counts


@kernel
def find_runs(labels: np.ndarray, base: int, width: int, starts: np.ndarray, at: int) -> int:
    """Writes the first column of each run of the row at ``base`` to ``starts[at:]``, then ``width``; their number."""
    starts[at] = 0
    end = at + 1
    x = 1
    while x + LANES <= width:
        bits = changes(labels, base + x)
        while bits != 0:
            starts[end] = x + lowest_bit(bits)
            end += 1
            bits &= bits - np.uint32(1)
        x += LANES
    for rest in range(x, width):
        if labels[base + rest] != labels[base + rest - 1]:
            starts[end] = rest
            end += 1
    starts[end] = width
    return end - at


@kernel
def most_runs_at_once(counts: np.ndarray, first: int, last: int, rows: int) -> tuple[int, int]:
    """The most runs that ``rows`` consecutive rows of first..last - 1 have together, and the most that one row has."""
    together = most = longest = 0
    for y in range(first, last):
        together += counts[y]
        if y - rows >= first:
            together -= counts[y - rows]
        most = max(most, together)
        longest = max(longest, counts[y])
    return most, longest


@kernel
def _bucket(key: int, table: np.ndarray) -> int:
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & (table.size - 1)


@kernel
def find_slot(key: int, keys: np.ndarray, table: np.ndarray) -> int:
    """The slot of a label, or -1. ``table`` holds slot + 1 (0 = empty), open addressing, a power of two long."""
    bucket = _bucket(key, table)
    while table[bucket] != 0:
        slot = table[bucket] - 1
        if keys[slot] == key:
            return slot
        bucket = (bucket + 1) & (table.size - 1)
    return -1


@kernel
def _insert(slot: int, keys: np.ndarray, table: np.ndarray) -> None:
    bucket = _bucket(keys[slot], table)
    while table[bucket] != 0:
        bucket = (bucket + 1) & (table.size - 1)
    table[bucket] = slot + 1


@kernel
def take_slot(key: int, keys: np.ndarray, uses: np.ndarray, table: np.ndarray, free: np.ndarray) -> int:
    """A slot for a label that has none; -1 if too many are in use.

    ``free[0]`` is the height of the stack of free slots ``free[1:]``. Labels that nobody uses any more keep their slot
    until none is free; then they are forgotten all at once.
    """
    if free[0] == 0:
        table[:] = 0
        for slot in range(keys.size):
            if uses[slot] > 0:
                _insert(slot, keys, table)
            else:
                free[0] += 1
                free[free[0]] = slot
        if 4 * free[0] <= keys.size:
            return -1
    slot = free[free[0]]
    free[0] -= 1
    keys[slot] = key
    _insert(slot, keys, table)
    return slot
