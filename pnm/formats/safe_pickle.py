"""A pickle of containers and numbers, read without calling anything that it names.

A pickle is a program for a stack machine. ``{"w": np.zeros(2)}`` is, in short::

    EMPTY_DICT, "w",
    GLOBAL numpy.core.multiarray._reconstruct, (numpy.ndarray, (0,), b"b"), REDUCE    call it
    (1, (2,), dtype("f8"), False, 16 zero bytes), BUILD                               hand the result its state
    SETITEM, STOP

Python's own machine calls whatever a file names. To admit NumPy's functions by name is not enough: by a state of its
own making a file can have them read and write where it likes. Here GLOBAL gives a :class:`Name`, which nothing can be
done with but a call, every call goes to a function of ours in a table, and BUILD fills only objects of ours, which
become arrays at the end, made of a shape, a plain dtype and as many bytes as these two take.

What a file may make is bounded by its size: text that is encoded again and again, a set of one list made over and over,
an array of which no bytes are there, containers in containers in containers.
"""

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

MAX_DEPTH = 64  # containers within containers; an optimizer's state has five
_SPARE = 1 << 20  # what the smallest file may make: bytes, or entries of containers


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class UnsafeContent(ValueError):
    """The file asks for something that could execute code."""


class Name(NamedTuple):
    """A function, class or constant that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Stated:
    """Something that a pickle makes in two steps, the second of which is its state."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None

    def finished(self) -> Any:
        """What it stands for.

        Raises:
            ValueError: a state that honest files don't have.
        """
        raise NotImplementedError


class _DType(Stated):
    """``dtype("f4")`` and its state, whose second entry is the byte order."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_flags: Any):
        super().__init__()
        self.code = code

    def finished(self) -> np.dtype:
        code = self.code
        if not isinstance(code, str) or len(code) > 4 or code[:1] not in "biufc" or not code[1:].isdigit():
            raise ValueError(f"an array of dtype {str(code)[:20]!r}, expected numbers")
        dtype = np.dtype(code)
        if self.state is None:
            return dtype
        # (version, byte order, subarray, names, fields, item size, alignment, flags[, metadata])
        order, rest = self.state[1], self.state[2:8]
        if rest != (None, None, None, -1, -1, 0) or order not in ("<", ">", "=", "|") or any(self.state[8:]):
            raise ValueError("a dtype with fields or flags, expected a plain one")
        return dtype.newbyteorder(order)


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """Raises ValueError unless ``data`` has exactly the bytes of such an array."""
    if not isinstance(dtype, _DType):
        raise ValueError("an array without a dtype")
    if not isinstance(shape, tuple) or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array whose shape is none")
    raw = data.encode("latin1") if isinstance(data, str) else data  # Python 2 has no bytes
    plain = dtype.finished()
    count = 1
    for length in shape:
        count *= length
    if not isinstance(raw, bytes | bytearray) or len(raw) != count * plain.itemsize:
        raise ValueError(f"an array of shape {shape} with the bytes of another")
    array = np.ndarray(shape, plain, raw, order="F" if order == "F" else "C")
    return array.astype(plain.newbyteorder("="))  # a copy: what is read may be written to


class _Array(Stated):
    __slots__ = ()

    def finished(self) -> np.ndarray:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without its state")
        _version, shape, dtype, is_fortran, data = self.state
        return _array(data, dtype, shape, "F" if is_fortran is True else "C")


class _Scalar(Stated):
    __slots__ = ("data", "dtype")

    def __init__(self, dtype: Any, data: Any = None):
        super().__init__()
        self.dtype, self.data = dtype, data

    def finished(self) -> np.generic:
        array = _array(self.data, self.dtype, (), "C")
        return array.dtype.type(array[()])


class _Buffer(Stated):
    __slots__ = ("parts",)

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any):
        super().__init__()
        self.parts = data, dtype, shape, order

    def finished(self) -> np.ndarray:
        return _array(*self.parts)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | int | float | complex)


def _scalars(items: Any) -> list[Any]:
    """Only these have a hash that takes no longer than they are large."""
    items = list(items)
    if not all(map(_is_scalar, items)):
        raise ValueError("a set or a key of something other than numbers and text")
    return items


def _ordered(pairs: Any = ()) -> OrderedDict:
    if isinstance(pairs, dict):
        return OrderedDict(pairs)
    _scalars(pair[0] for pair in pairs)
    return OrderedDict(pairs)


def _bytes_of(text: Any, encoding: Any = "latin1") -> bytes:
    """What protocol 2 calls to make ``bytes``; honest files have no other encoding."""
    if encoding not in ("latin1", "latin-1"):
        raise UnsafeContent(f"it asks for codec {encoding!r}")
    if not isinstance(text, str):
        raise ValueError("bytes that are made of no text")
    return text.encode("latin1")


def _byte_array(data: Any = b"", encoding: Any = "latin1") -> bytearray:
    return bytearray(data if isinstance(data, bytes) else _bytes_of(data, encoding))


CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("collections", "Counter"): lambda counts=(): Counter(dict(_ordered(counts))),
    ("_codecs", "encode"): _bytes_of,
    ("numpy", "dtype"): _DType,
}
for _module in ("numpy.core", "numpy._core"):  # NumPy 2 renamed it
    CALLS[f"{_module}.multiarray", "_reconstruct"] = lambda *_: _Array()
    CALLS[f"{_module}.multiarray", "scalar"] = _Scalar
    CALLS[f"{_module}.numeric", "_frombuffer"] = _Buffer
for _module in ("builtins", "__builtin__"):
    CALLS[_module, "set"] = lambda items=(): set(_scalars(items))
    CALLS[_module, "frozenset"] = lambda items=(): frozenset(_scalars(items))
    CALLS[_module, "bytearray"] = _byte_array
    CALLS[_module, "bytes"] = lambda: b""  # protocol 2; others it makes by their codec
    CALLS[_module, "complex"] = lambda real, imaginary=0.0: complex(float(real), float(imaginary))

CONSTANTS: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray}  # an argument of _reconstruct


def _extent(value: Any) -> int:
    """Bytes that a copy may take, an entry of a container as many as one of a set."""
    if isinstance(value, list | tuple | dict | set | frozenset):
        return 64 * len(value)
    return len(value) if isinstance(value, str | bytes | bytearray) else 1


class SafeUnpickler(pickle._Unpickler):
    """Reads one pickle; see the module.

    Args:
        file: from where it stands; ``read`` must give no more than is there.
        size: of all that is read, in bytes: what may be made is in proportion to it.
        calls: by module and name, besides :data:`CALLS`.
        constants: what may be named without being called, besides :data:`CONSTANTS`.
        persistent: makes what a persistent id stands for; without it, such an id is an error.

    Raises (:meth:`read_object`):
        UnsafeContent: a name in none of the tables.
        Exception: whatever a damaged pickle leads to.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]  # to the stack, which a mark replaces by a new one
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(
        self,
        file: _Readable,
        size: int,
        calls: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
        constants: Mapping[tuple[str, str], Any] | None = None,
        persistent: Callable[[Any], Any] | None = None,
    ):
        super().__init__(file, encoding="latin1")
        self._calls = {**CALLS, **(calls or {})}
        self._constants = {**CONSTANTS, **(constants or {})}
        self._persistent = persistent
        self._left = 8 * size + _SPARE

    def read_object(self) -> Any:
        """The object, whose arrays are NumPy's."""
        return self.finished(self.load())

    def finished(self, loaded: Any) -> Any:
        """What ``load`` gave, with arrays in the place of what stood for them."""
        return self._finished(loaded, 0, {})

    def find_class(self, module: str, name: str) -> Name:
        if (module, name) not in self._calls and (module, name) not in self._constants:
            raise UnsafeContent(f"it asks for {module}.{name}")
        return Name(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise ValueError("it refers to something outside of itself")
        return self._persistent(pid)

    def _call(self, function: Any, arguments: Any) -> None:
        if type(function) is not Name or function not in self._calls or type(arguments) is not tuple:
            raise UnsafeContent(f"it calls {str(function)[:80]}")
        self._left -= sum(map(_extent, arguments))
        if self._left < 0:
            raise ValueError("it asks for far more memory than it has bytes")
        self.append(self._calls[function](*arguments))

    def _finished(self, value: Any, depth: int, known: dict[int, Any]) -> Any:
        """Visits each container once, and no further than :data:`MAX_DEPTH`."""
        if isinstance(value, Name):
            if value not in self._constants:
                raise UnsafeContent(f"it holds {value} itself")
            return self._constants[value]
        if not isinstance(value, Stated | list | tuple | dict):
            return value
        if id(value) in known:
            if known[id(value)] is None:
                raise ValueError("a container that holds itself")
            return known[id(value)][1]
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} containers in one another")
        known[id(value)] = None
        done = self._finished_parts(value, depth + 1, known)
        known[id(value)] = value, done  # with the value, lest another gets its id
        return done

    def _finished_parts(self, value: Any, depth: int, known: dict[int, Any]) -> Any:
        if isinstance(value, Stated):
            done = value.finished()
            self._left -= getattr(done, "nbytes", 0)
            if self._left < 0:
                raise ValueError("it asks for far more memory than it has bytes")
            return done
        if isinstance(value, tuple):
            return tuple(self._finished(item, depth, known) for item in value)
        if isinstance(value, list):
            value[:] = [self._finished(item, depth, known) for item in value]
            return value
        for key, item in value.items():
            value[key] = self._finished(item, depth, known)
        if hasattr(value, "_metadata"):  # of a module's state dict
            value._metadata = self._finished(value._metadata, depth, known)
        return value

    # The machine's steps; the names of the others are Python's.

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self._call(self.stack.pop(), arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stated):
            target.state = state
        elif type(target) is OrderedDict:
            target.__dict__.update({"_metadata": state["_metadata"]} if "_metadata" in state else {})
        else:
            raise UnsafeContent(f"it changes a {type(target).__name__}")

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._set(items)

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("keys that belong to no dict")
        target.update(zip(_scalars(items[::2]), items[1::2], strict=True))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _add_items(self) -> None:
        items = _scalars(self.pop_mark())
        if not isinstance(self.stack[-1], set):
            raise ValueError("entries that belong to no set")
        self.stack[-1].update(items)

    def _frozen_set(self) -> None:
        items = self.pop_mark()  # which changes where `append` leads
        self.append(frozenset(_scalars(items)))

    def _append_item(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _append_items(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("entries that belong to no list")
        self.stack[-1].extend(items)

    def _bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        data = self.read(length)  # no more than is there
        if len(data) != length:
            raise ValueError("it ends within an array of bytes")
        self.append(bytearray(data))

    def _refused(self) -> None:
        raise UnsafeContent("it makes objects by their class")


_STEPS = {
    SafeUnpickler._reduce: (pickle.REDUCE, pickle.NEWOBJ),
    SafeUnpickler._build: (pickle.BUILD,),
    SafeUnpickler._set_items: (pickle.SETITEMS,),
    SafeUnpickler._set_item: (pickle.SETITEM,),
    SafeUnpickler._dict: (pickle.DICT,),
    SafeUnpickler._add_items: (pickle.ADDITEMS,),
    SafeUnpickler._frozen_set: (pickle.FROZENSET,),
    SafeUnpickler._append_item: (pickle.APPEND,),
    SafeUnpickler._append_items: (pickle.APPENDS,),
    SafeUnpickler._bytearray8: (pickle.BYTEARRAY8,),
    SafeUnpickler._refused: (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ),
}
SafeUnpickler.dispatch.update({code[0]: step for step, codes in _STEPS.items() for code in codes})
