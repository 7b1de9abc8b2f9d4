"""Runs of pixels in which neither of two maps changes: what is counted by pairs of labels is counted run by run."""

import numba
import numpy as np

from pnm.simd_lanes import LANES, bit_count, changes, lowest_bit

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def _changes_from(a, b, x):
    """Bit k: pixel x + k, k < 32, differs from the one before in either map."""
    if x + LANES <= a.size:
        return changes(a, x) | changes(b, x)
    bits = np.uint32(0)
    for k in range(a.size - x):
        if a[x + k] != a[x + k - 1] or b[x + k] != b[x + k - 1]:
            bits |= np.uint32(1) << np.uint32(k)
    return bits


@_kernel
def pair_runs(a, b):
    """Where the runs begin in flat maps (N,) of unsigned integers, and N at the end; (R + 1,) int64, 0 if N is 0.

    Runs go on from the end of a row to the next one.
    """
    if a.size == 0:
        return np.zeros(1, np.int64)
    number = 1
    for x in range(1, a.size, LANES):
        number += bit_count(_changes_from(a, b, x))
    edges = np.empty(number + 1, np.int64)
    edges[0], edges[number] = 0, a.size
    at = 1
    for x in range(1, a.size, LANES):
        bits = _changes_from(a, b, x)
        while bits != 0:
            edges[at] = x + lowest_bit(bits)
            at += 1
            bits &= bits - np.uint32(1)
    return edges
