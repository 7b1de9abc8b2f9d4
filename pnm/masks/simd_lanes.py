"""Vectors of 32 integers for numba kernels, where a loop is too short or too entangled for LLVM to vectorise itself.

Inside ``@numba.njit`` a :class:`Lanes` value supports ``+`` and ``-`` (modulo 2**bits) and lives in registers; LLVM
splits it into whatever the machine has (one AVX-512 register, two of AVX2, four of NEON for 16-bit lanes). Reads and
writes are not checked: the arrays are one-dimensional, contiguous and reach 32 elements past the index.
"""

import operator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.extending import models, overload, register_model

LANES = 32
intrinsic: Any = extending.intrinsic  # its type hints know nothing of the typing context, the first argument


class Lanes(types.Type):
    """Numba's type of 32 integers of one kind."""

    def __init__(self, dtype: types.Integer):
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(fe_type.dtype.bitwidth), LANES))


def _pointer(context, builder, array_type, array, index, lanes_type: Lanes):
    """Address of ``array[index]`` as a pointer to a vector, aligned as one element only."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(lanes_type).as_pointer())


def _is_readable(array, index) -> bool:
    return (
        isinstance(array, types.Array) and isinstance(array.dtype, types.Integer) and isinstance(index, types.Integer)
    )


@intrinsic
def load_lanes(typingctx, array, index):
    """``array[index : index + 32]`` of a contiguous integer array (of any rank, ``index`` counts elements)."""
    if not _is_readable(array, index):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, signature, arguments):
        array_value, at = arguments
        loaded = builder.load(_pointer(context, builder, signature.args[0], array_value, at, lanes))
        loaded.align = array.dtype.bitwidth // 8
        return loaded

    return lanes(array, types.intp), codegen


@intrinsic
def store_lanes(typingctx, array, index, value):
    """``array[index : index + 32] = value``."""
    if not (_is_readable(array, index) and value == Lanes(array.dtype)):
        return None

    def codegen(context, builder, signature, arguments):
        array_value, index_value, lanes_value = arguments
        address = _pointer(context, builder, signature.args[0], array_value, index_value, value)
        builder.store(lanes_value, address).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def _add(typingctx, left, right):
    return left(left, right), lambda context, builder, signature, arguments: builder.add(*arguments)


@intrinsic
def _subtract(typingctx, left, right):
    return left(left, right), lambda context, builder, signature, arguments: builder.sub(*arguments)


@overload(operator.add)
def _lanes_add(left, right):
    if isinstance(left, Lanes) and left == right:
        return lambda left, right: _add(left, right)
    return None


@overload(operator.sub)
def _lanes_subtract(left, right):
    if isinstance(left, Lanes) and left == right:
        return lambda left, right: _subtract(left, right)
    return None


@intrinsic
def differs(typingctx, left, left_index, right, right_index):
    """Bit k of the result: ``left[left_index + k] != right[right_index + k]``, k = 0..31."""
    if not (_is_readable(left, left_index) and _is_readable(right, right_index) and left.dtype == right.dtype):
        return None
    lanes = Lanes(left.dtype)

    def codegen(context, builder, signature, arguments):
        loaded = []
        for k in (0, 2):
            address = _pointer(context, builder, signature.args[k], arguments[k], arguments[k + 1], lanes)
            loaded.append(builder.load(address))
            loaded[-1].align = left.dtype.bitwidth // 8
        return builder.bitcast(builder.icmp_unsigned("!=", *loaded), ir.IntType(LANES))

    return types.uint32(left, types.intp, right, types.intp), codegen


@numba.njit(inline="always")
def changes(array, index):
    """Bit k of the result: ``array[index + k] != array[index + k - 1]``, k = 0..31."""
    return differs(array, index, array, np.int64(index) - 1)


@intrinsic
def lowest_bit(typingctx, bits):
    """Position of the lowest set bit of a non-zero uint32."""

    def codegen(context, builder, signature, arguments):
        return builder.zext(builder.cttz(arguments[0], cgutils.false_bit), context.get_value_type(types.intp))

    return types.intp(types.uint32), codegen


@intrinsic
def bit_count(typingctx, bits):
    """Number of set bits of a uint32."""

    def codegen(context, builder, signature, arguments):
        return builder.zext(builder.ctpop(arguments[0]), context.get_value_type(types.intp))

    return types.intp(types.uint32), codegen
