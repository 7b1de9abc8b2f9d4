"""Vectors of 32 integers for numba kernels, where a loop is too short or too entangled for LLVM to vectorise itself.

An example: where the labels of a row change, found 32 pixels at a time::

    >>> import numba
    >>> import numpy as np
    >>> labels = np.array([3, 3, 3, 8, 8, 3] + [3] * 40, np.uint8)
    >>> bits = numba.njit(lambda row: changes(row, 1))(labels)  # bit k: pixel 1 + k differs from the one before
    >>> bin(bits)
    '0b10100'
    >>> numba.njit(lambda bits: lowest_bit(bits))(np.uint32(bits))
    2

They are described in :mod:`pnm.masks.simd_intrinsics`, which is imported when a kernel that uses them is compiled.
"""

from pnm.kernels import Deferred

LANES = 32

_INTRINSICS = "pnm.masks.simd_intrinsics"
load_lanes, store_lanes = Deferred(_INTRINSICS, "load_lanes"), Deferred(_INTRINSICS, "store_lanes")
differs, changes = Deferred(_INTRINSICS, "differs"), Deferred(_INTRINSICS, "changes")
lowest_bit, bit_count = Deferred(_INTRINSICS, "lowest_bit"), Deferred(_INTRINSICS, "bit_count")
