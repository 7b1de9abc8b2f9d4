"""Functions that numba compiles: numba itself, which takes half a second to start, is imported when it is first needed.

A :func:`kernel` is called like ``numba.njit`` would have made it, from Python and from other kernels. Of an
:func:`entry_kernel`, the way into kernels from Python, :mod:`pnm.machine_code` keeps the machine code on disk, so that
from the second run on numba isn't needed at all::

    >>> @entry_kernel
    ... def add_up(numbers: np.ndarray, sums: np.ndarray) -> int:
    ...     for k in range(numbers.size):
    ...         sums[k + 1] = sums[k] + numbers[k]
    ...     return numbers.size
    >>> sums = np.zeros(4, np.int64)
    >>> add_up(np.array([1, 2, 3], np.uint8), sums), sums.tolist()
    (3, [0, 1, 3, 6])
"""

import functools
import hashlib
import importlib
import importlib.util
import os
import pickle
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pnm.kernel_arguments import Entry, describe
from pnm.machine_code import entry_of

_one_at_a_time = threading.RLock()
_DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, ImportError, AttributeError, RuntimeError),
    pickle.UnpicklingError,
)


def _forget_the_lock() -> None:
    """In a forked child: a thread that held the lock is not there to let it go."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_lock)


class Kernel:
    """A function for numba.

    Attributes:
        py_func: the function itself.
        fuses: see :func:`fusing_kernel`.
    """

    def __init__(self, function: Callable, *, fuses: bool = False):
        functools.update_wrapper(self, function)
        self.py_func, self.fuses = function, fuses

    @functools.cached_property
    def dispatcher(self) -> Any:
        """What ``numba.njit`` makes of it."""
        import numba

        has_file = Path(self.py_func.__code__.co_filename).is_file()
        make = functools.partial(
            numba.njit, nogil=True, error_model="numpy", fastmath={"contract"} if self.fuses else False
        )
        try:
            dispatcher: Any = make(cache=has_file)(self.py_func)
        except RuntimeError:  # there is no folder that numba could write to
            dispatcher = make()(self.py_func)
        with suppress(AttributeError):  # numba alone would look at this file, and not at those of kernels it calls
            kept = dispatcher._cache._cache_file
            kept._source_stamp = (kept._source_stamp, self.fingerprint)
            cache = dispatcher._cache
            cache.load_overload, cache.save_overload = (
                _or_nothing(cache.load_overload),
                _or_nothing(cache.save_overload),
            )
        return dispatcher

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    @property
    def _numba_type_(self) -> Any:
        """How numba knows it where other kernels call it."""
        return self.dispatcher._numba_type_

    @functools.cached_property
    def fingerprint(self) -> bytes:
        """Of all that its machine code is made of: its own code, that of kernels it calls, and constants."""
        digest, seen = hashlib.sha256(), set()
        waiting = [self]
        while waiting:
            one = waiting.pop()
            if one.py_func in seen:
                continue
            seen.add(one.py_func)
            digest.update(f"fuses={one.fuses};{_code_text(one.py_func.__code__)}".encode())
            for name in _names(one.py_func.__code__):
                value = one.py_func.__globals__.get(name)
                if isinstance(value, Kernel):
                    waiting.append(value)
                elif isinstance(value, Deferred):
                    digest.update(value.fingerprint)
                elif isinstance(value, (int, float, str, tuple, np.generic)):
                    digest.update(f"{name}={value!r};".encode())
                elif isinstance(value, np.ndarray):
                    digest.update(name.encode() + value.tobytes())
                elif isinstance(value, type) and hasattr(value, "_fields"):
                    digest.update(f"{name}={value._fields};".encode())
        return digest.digest()


def _or_nothing(use_files: Callable) -> Callable:
    """What numba does with files of its cache, or nothing where they are damaged, or the disk is full."""

    def run(*arguments: Any) -> Any:
        with suppress(*_DAMAGED):
            return use_files(*arguments)

    return run


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """The code itself and that of what is defined inside."""
    inside = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return [code, *(one for part in inside for one in _codes(part))]


def _names(code: types.CodeType) -> list[str]:
    return sorted({name for one in _codes(code) for name in one.co_names})


def _code_text(code: types.CodeType) -> str:
    parts = []
    for one in _codes(code):
        constants = [constant for constant in one.co_consts if not isinstance(constant, types.CodeType)]
        parts.append(f"{one.co_code.hex()} {one.co_names} {one.co_varnames} {constants}")
    return "\n".join(parts)


class Deferred:
    """A function that only kernels can call, of a module that needs numba.

    Args:
        module: full name of the module.
        name: of the function.
    """

    def __init__(self, module: str, name: str):
        self._module, self._name = module, name

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self._module}.{self._name} is for kernels: call it in one")

    @property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target

        function = getattr(importlib.import_module(self._module), self._name)
        cpu_target.target_context.refresh()  # so that numba knows what the module has brought in
        return cpu_target.typing_context.resolve_value_type(function)

    @functools.cached_property
    def fingerprint(self) -> bytes:
        """Of the whole module."""
        spec = importlib.util.find_spec(self._module)
        assert spec is not None and spec.origin is not None
        return hashlib.sha256(Path(spec.origin).read_bytes()).digest() + self._name.encode()


class EntryKernel(Kernel):
    """A kernel that is called from Python, and whose machine code is kept.

    It takes contiguous arrays, numbers, and named tuples of these, fills arrays, and returns whole numbers at most.
    """

    def __init__(self, function: Callable):
        super().__init__(function)
        self._entries: dict[tuple, Entry] = {}

    def __call__(self, *arguments: Any) -> Any:
        described = describe(arguments)
        entry = self._entries.get(described.kinds)
        if entry is None:
            if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
                return self.dispatcher(*arguments)
            entry = self._new_entry(described.kinds)
        return entry(described)

    def _new_entry(self, kinds: tuple) -> Entry:
        with _one_at_a_time:  # threads that work on one image each all come here first
            if kinds not in self._entries:
                self._entries[kinds] = entry_of(self, kinds)
        return self._entries[kinds]


def kernel(function: Callable) -> Kernel:
    """Makes a :class:`Kernel` of a function."""
    return Kernel(function)


def fusing_kernel(function: Callable) -> Kernel:
    """A :class:`Kernel` in which a product and a sum may be one step, rounded once: faster, and the last bit of a
    result is another on processors that have this step than on those that don't."""
    return Kernel(function, fuses=True)


def entry_kernel(function: Callable) -> EntryKernel:
    """Makes an :class:`EntryKernel` of a function."""
    return EntryKernel(function)
