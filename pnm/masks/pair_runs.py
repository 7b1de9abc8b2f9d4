"""Runs of pixels in which neither of two maps changes: what is counted by pairs of labels is counted run by run.

An example, maps of four pixels, which have the runs 0, 1 and 2 to 3::

    >>> a, b = np.array([1, 1, 2, 2], np.uint8), np.array([5, 6, 6, 6], np.uint8)
    >>> bin(run_ends(a, b, np.uint64(1)))  # one ends before pixel 1, one before pixel 2, the last before pixel 4
    '0b1011'
"""

import numpy as np

from pnm.kernels import kernel
from pnm.masks.simd_lanes import LANES, changes


@kernel
def run_ends(a: np.ndarray, b: np.ndarray, x: int) -> int:
    """Bit k: a run of flat maps (N,) of unsigned integers ends before pixel x + k, k < 32; the last one ends at N.

    Runs go on from the end of a row to the next one. A kernel visits them all, their pixels still in the cache, so::

        first = np.uint64(0)
        for x in range(np.uint64(1), np.uint64(a.size + 1), np.uint64(LANES)):
            ends = run_ends(a, b, x)
            while ends != 0:
                end = x + np.uint64(lowest_bit(ends))
                ...  # pixels first to end - 1
                first = end
                ends &= ends - np.uint32(1)

    All indices are unsigned, as numba then leaves out the test for negative ones.
    """
    size = np.uint64(a.size)
    if x + np.uint64(LANES) <= size:
        return changes(a, x) | changes(b, x)
    ends = np.uint32(1) << np.uint32(size - x)
    for k in range(size - x):
        before = x + k - np.uint64(1)
        if a[x + k] != a[before] or b[x + k] != b[before]:
            ends |= np.uint32(1) << np.uint32(k)
    return ends
