"""What :mod:`pnm.masks.simd_lanes` offers to kernels, made of numba's insides.

Inside ``@numba.njit`` a :class:`Lanes` value supports ``+`` and ``-`` (modulo 2**bits) and lives in registers; LLVM
splits it into whatever the machine has (one AVX-512 register, two of AVX2, four of NEON for 16-bit lanes). Reads and
writes are not checked: the arrays are one-dimensional, contiguous and reach 32 elements past the index.

Built on numba's extension interface; ``numba.core`` may change with any release: requirements.txt has an upper bound.
"""

import operator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.extending import models, overload, register_model

from pnm.masks.simd_lanes import LANES

intrinsic: Any = extending.intrinsic  # its type hints know nothing of the typing context, the first argument


class Lanes(types.Type):
    """Numba's type of 32 integers of one kind."""

    def __init__(self, dtype: types.Integer) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(fe_type.dtype.bitwidth), LANES))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, lanes_type: Lanes) -> Any:
    """Address of ``array[index]`` as a pointer to a vector, aligned as one element only."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(lanes_type).as_pointer())


def _is_readable(array: Any, index: Any) -> bool:
    return (
        isinstance(array, types.Array) and isinstance(array.dtype, types.Integer) and isinstance(index, types.Integer)
    )


@intrinsic
def load_lanes(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index : index + 32]`` of a contiguous integer array (of any rank, ``index`` counts elements)."""
    if not _is_readable(array, index):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_value, at = arguments
        loaded = builder.load(_pointer(context, builder, signature.args[0], array_value, at, lanes))
        loaded.align = array.dtype.bitwidth // 8
        return loaded

    return lanes(array, types.intp), codegen


@intrinsic
def store_lanes(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index : index + 32] = value``."""
    if not (_is_readable(array, index) and value == Lanes(array.dtype)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_value, index_value, lanes_value = arguments
        address = _pointer(context, builder, signature.args[0], array_value, index_value, value)
        builder.store(lanes_value, address).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def _add(typingctx: Any, left: Any, right: Any) -> Any:
    return left(left, right), lambda context, builder, signature, arguments: builder.add(*arguments)


@intrinsic
def _subtract(typingctx: Any, left: Any, right: Any) -> Any:
    return left(left, right), lambda context, builder, signature, arguments: builder.sub(*arguments)


@overload(operator.add)
def _lanes_add(left, right):  # type: ignore[no-untyped-def]  # numba compares it with what it returns
    if isinstance(left, Lanes) and left == right:
        return lambda left, right: _add(left, right)
    return None


@overload(operator.sub)
def _lanes_subtract(left, right):  # type: ignore[no-untyped-def]
    if isinstance(left, Lanes) and left == right:
        return lambda left, right: _subtract(left, right)
    return None


@intrinsic
def differs(typingctx: Any, left: Any, left_index: Any, right: Any, right_index: Any) -> Any:
    """Bit k of the result: ``left[left_index + k] != right[right_index + k]``, k = 0..31."""
    if not (_is_readable(left, left_index) and _is_readable(right, right_index) and left.dtype == right.dtype):
        return None
    lanes = Lanes(left.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = []
        for k in (0, 2):
            address = _pointer(context, builder, signature.args[k], arguments[k], arguments[k + 1], lanes)
            loaded.append(builder.load(address))
            loaded[-1].align = left.dtype.bitwidth // 8
        return builder.bitcast(builder.icmp_unsigned("!=", *loaded), ir.IntType(LANES))

    return types.uint32(left, types.intp, right, types.intp), codegen


@numba.njit(inline="always")
def changes(array: Any, index: Any) -> Any:
    """Bit k of the result: ``array[index + k] != array[index + k - 1]``, k = 0..31."""
    return differs(array, index, array, np.int64(index) - 1)


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Position of the lowest set bit of a non-zero uint32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.cttz(arguments[0], cgutils.false_bit), context.get_value_type(types.intp))

    return types.intp(types.uint32), codegen


@intrinsic
def bit_count(typingctx: Any, bits: Any) -> Any:
    """Number of set bits of a uint32."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.ctpop(arguments[0]), context.get_value_type(types.intp))

    return types.intp(types.uint32), codegen
