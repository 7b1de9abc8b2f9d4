"""Arguments of kernels as a function in machine code takes them: addresses of arrays, and two arrays of numbers.

The function has the plain interface of C: a pointer to each array's record, and to those of two more arrays, one of
whole numbers, in which its results lie, too, and one of fractions. For a kernel that takes an array of bytes, a whole
number and returns one, numba compiles this::

    >>> kinds = describe([np.zeros(3, np.uint8), 7]).kinds
    >>> kinds
    (('B', 1), 'whole')
    >>> print(_Source(results=1).text(kinds))
    def entry(a0, whole_, fractions_):
        whole = carray(whole_[0], (carray(whole_[2], (1,), size)[0],), number)
        fractions = carray(fractions_[0], (carray(fractions_[2], (1,), size)[0],), fraction)
        whole[1] = kernel(carray(a0[0], (carray(a0[2], (1,), size)[0],), kind_66), whole[2])
        whole[0] = 1
"""

import ctypes
import functools
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

INTERFACE = "records of arrays, whole numbers, fractions"  # machine code of another one can't be called
_DONE = 0  # of the whole numbers: 1 as soon as the kernel has come to its end
# Behind its head, the record of a NumPy array (PyArrayObject, part of NumPy's binary interface) begins with pointers to
# data, something else and the sizes. To read them there takes a tenth of the time of asking the array.
_HEAD = object.__basicsize__
_DATA, _SIZES = 0, 2
_NO_FRACTIONS = np.zeros(1)


class Described(NamedTuple):
    """Arguments of a kernel in C: what they are, and their values in the order in which they come.

    Attributes:
        kinds: of each argument, a name for a number, ``(dtype's letter, dimensions)`` for an array and
            ``(class, kinds...)`` for a tuple.
        records: addresses of all arrays' records, which stay valid as long as the arguments do.
        whole: whole numbers.
        fractions: other numbers.
    """

    kinds: tuple
    records: list[int]
    whole: list[int]
    fractions: list[float]


def describe(arguments: Sequence[Any]) -> Described:
    """Takes arguments to pieces."""
    records: list[int] = []
    whole: list[int] = []
    fractions: list[float] = []
    return Described(_take_apart(arguments, records, whole, fractions), records, whole, fractions)


def _take_apart(arguments: Sequence[Any], records: list[int], whole: list[int], fractions: list[float]) -> tuple:
    """Kinds of arguments, whose values are added to the lists."""
    kinds: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            dtype = argument.dtype
            if not (argument.flags.c_contiguous and dtype.isnative):
                raise TypeError("kernels take arrays as they lie in memory: contiguous, in this machine's byte order")
            records.append(id(argument) + _HEAD)
            kinds.append((dtype.char, argument.ndim))
        elif type(argument) is int:  # which most are: the rest would do it, too
            whole.append(argument)
            kinds.append("whole")
        elif isinstance(argument, tuple):
            kinds.append((type(argument), *_take_apart(argument, records, whole, fractions)))
        elif isinstance(argument, (float, np.floating)):
            fractions.append(float(argument))
            kinds.append("fraction")
        else:
            whole.append(int(argument))
            kinds.append("whole")
    return tuple(kinds)


class Entry:
    """A function in machine code.

    Args:
        address: of the function.
        owner: what keeps the code in memory.
        arrays: how many it takes.
        results: how many whole numbers it gives.
    """

    def __init__(self, address: int, owner: Any, arrays: int, results: int):
        assert _records_are_known()
        self._owner, self._head, self._results = owner, [0] * (1 + results), results
        self._function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arrays + 2))(address)

    def __call__(self, described: Described) -> Any:
        whole = np.array(self._head + described.whole, np.int64)
        fractions = np.array(described.fractions) if described.fractions else _NO_FRACTIONS
        self._function(*described.records, id(whole) + _HEAD, id(fractions) + _HEAD)
        if not whole.item(_DONE):
            raise MemoryError("a kernel was ended before its time, most likely for want of memory: see above")
        if self._results < 2:
            return whole.item(1) if self._results else None
        return tuple(whole[1 : 1 + self._results].tolist())


@functools.cache
def _records_are_known() -> bool:
    """Whether NumPy's records of arrays are what machine code takes them for."""
    array, size = np.zeros((2, 3)), ctypes.sizeof(ctypes.c_void_p)
    pointers = (ctypes.c_void_p * 3).from_address(id(array) + _HEAD)
    sizes = (ctypes.c_ssize_t * 2).from_address(pointers[_SIZES] or 0) if pointers[_SIZES] else ()
    return size == np.intp().itemsize and pointers[_DATA] == array.ctypes.data and tuple(sizes) == array.shape


def entry_function(kernel: Any, kinds: tuple) -> Callable:
    """The function that calls a kernel, for ``numba.cfunc``."""
    from numba import carray

    source = _Source(number_of_results(kernel.py_func))
    text = source.text(kinds)
    names = {"kernel": kernel, "carray": carray, "size": np.intp, "number": np.int64, "fraction": np.float64}
    names |= source.classes
    exec(text, names)
    return names["entry"]


def number_of_results(function: Callable) -> int:
    """How many whole numbers a function says that it returns.

    Raises:
        TypeError: it says that it returns something else, which would come back as a whole number.
    """
    given = typing.get_type_hints(function)["return"]
    if given is type(None):
        return 0
    parts = typing.get_args(given) or (given,)
    if not set(parts) <= {int, bool}:
        raise TypeError(f"{function.__qualname__} returns {given}: kernels called from Python return whole numbers")
    return len(parts)


def number_of_arrays(kinds: tuple) -> int:
    """How many arrays there are among arguments of these kinds."""
    return sum(
        number_of_arrays(kind[1:]) if isinstance(kind[0], type) else 1
        for kind in kinds
        if kind and isinstance(kind, tuple)
    )


class _Source:
    """Writes a function that makes a kernel's arguments of pointers and numbers, and calls it.

    Attributes:
        classes: of numbers and named tuples, by the names that they have in the function.
    """

    def __init__(self, results: int):
        self.classes: dict[str, type] = {}
        self._results, self._arrays, self._whole, self._fractions = results, 0, 1 + results, 0

    def text(self, kinds: tuple) -> str:
        call = f"kernel({', '.join([self._argument(kind) for kind in kinds])})"
        targets = ", ".join(f"whole[{n + 1}]" for n in range(self._results))
        records = [*(f"a{n}" for n in range(self._arrays)), "whole_", "fractions_"]
        lines = [
            f"def entry({', '.join(records)}):",
            f"whole = {_array('whole_', 1, 'number')}",
            f"fractions = {_array('fractions_', 1, 'fraction')}",
            f"{targets} = {call}" if targets else call,
            f"whole[{_DONE}] = 1",
        ]
        return "\n    ".join(lines)

    def _argument(self, kind: Any) -> str:
        if kind == "whole":
            self._whole += 1
            return f"whole[{self._whole - 1}]"
        if kind == "fraction":
            self._fractions += 1
            return f"fractions[{self._fractions - 1}]"
        if isinstance(kind[0], type):
            parts = ", ".join([self._argument(part) for part in kind[1:]])
            if kind[0] is tuple:
                return f"({parts},)"
            self.classes[f"class_{kind[0].__name__}"] = kind[0]
            return f"class_{kind[0].__name__}({parts})"
        letter, dimensions = kind
        self.classes[f"kind_{ord(letter)}"] = np.dtype(letter).type
        self._arrays += 1
        return _array(f"a{self._arrays - 1}", dimensions, f"kind_{ord(letter)}")


def _array(record: str, dimensions: int, kind: str) -> str:
    """The array that a record is of."""
    sizes = f"carray({record}[{_SIZES}], ({dimensions},), size)"
    return f"carray({record}[{_DATA}], ({', '.join(f'{sizes}[{n}]' for n in range(dimensions))},), {kind})"
