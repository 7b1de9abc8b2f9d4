"""Reading checkpoints without running what is inside them.

A ``.pkl`` may hold NumPy arrays and plain containers, a ``.pth`` tensors, too; both are read by
:mod:`pnm.formats.safe_pickle`, which says what that means. Tensors are views of bytes that were read, within their
bounds. torch's own weights-only reader is not used: it calls what NumPy's pickles name.
"""

import io
import mmap
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from pnm.errors import UserError
from pnm.formats.safe_pickle import Name, SafeUnpickler, Stated, UnsafeContent


class CheckpointError(UserError):
    """The file is not a checkpoint that can be used: missing, truncated, or of another format."""


class UnsafeCheckpointError(CheckpointError):
    """The file asks for something other than arrays and containers, so reading it could execute code."""


def _line(error: Exception) -> str:
    """The message, some of which may come from the file, as a part of one line."""
    text = "".join(sign if sign.isprintable() else "?" for sign in str(error).strip()[:200])
    return text if isinstance(error, UnsafeContent) or type(error) is ValueError else f"{type(error).__name__} {text}"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns whatever reading a hostile or damaged file raises into one line that says what to do."""
    try:
        yield
    except UnsafeContent as error:
        raise UnsafeCheckpointError(
            f"{path} was refused: {_line(error)}. A checkpoint may hold only arrays and containers; this one could "
            "execute code when read. Get it from a source you trust as plain weights, or save it again as such."
        ) from None
    except Exception as error:  # a damaged file can raise nearly anything
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({_line(error).strip()}): it is truncated, damaged or of another "
            "format. Delete it and fetch or train it again."
        ) from None


@contextmanager
def _bytes_in(file: BinaryIO) -> Iterator[mmap.mmap]:
    if not os.fstat(file.fileno()).st_size:
        raise ValueError("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def load_pickle(path: str | Path) -> Any:
    """Reads a ``.pkl`` checkpoint, Python 2 ones included.

    Returns the stored object: containers, numbers, strings and NumPy arrays of numbers, in this machine's byte order.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: the pickle names a class or function other than arrays and containers.
        CheckpointError: the file is truncated or not a pickle, or asks for far more memory than it has bytes.
    """
    path = Path(path)
    with path.open("rb") as file, _told(path), _bytes_in(file) as content:
        return SafeUnpickler(content, len(content)).read_object()


_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64, "Untyped": torch.uint8,
}  # fmt: skip
_CONSTANTS: dict[tuple[str, str], Any] = {
    **{("torch", f"{name}Storage"): dtype for name, dtype in _DTYPES.items()},
    ("torch.storage", "UntypedStorage"): torch.uint8,
    **{
        ("torch", name): value
        for name, value in vars(torch).items()
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format)
    },
}


class _Storage(Stated):
    """Numbers that tensors are views of: of a dtype, so many, and their bytes once these are read."""

    __slots__ = ("count", "data", "dtype")

    def __init__(self, dtype: torch.dtype, count: Any):
        super().__init__()
        if type(count) is not int or count < 0:
            raise ValueError("a storage of no size")
        self.dtype, self.count, self.data = dtype, count, bytearray()

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    def values(self, dtype: torch.dtype) -> torch.Tensor:
        """All of its bytes, as numbers of a dtype."""
        if not self.nbytes:
            return torch.empty(0, dtype=dtype)
        if len(self.data) != self.nbytes:
            raise ValueError("a tensor without its numbers")
        if dtype is torch.bool:
            return torch.frombuffer(self.data, dtype=torch.uint8) != 0
        return torch.frombuffer(self.data, dtype=dtype)

    def finished(self) -> torch.Tensor:
        return self.values(self.dtype)


class _Tensor(Stated):
    """A view of a storage: offset, shape and strides, in elements."""

    __slots__ = ("dtype", "offset", "shape", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *grad_and_hooks: Any):
        super().__init__()
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride
        self.dtype = getattr(storage, "dtype", None)
        if any(isinstance(mark, dict) and (mark.get("conj") or mark.get("neg")) for mark in grad_and_hooks):
            raise ValueError("it holds conjugated or negated views, expected plain tensors")

    def finished(self) -> torch.Tensor:
        storage, dtype, offset, shape, stride = self.storage, self.dtype, self.offset, self.shape, self.stride
        if type(storage) is not _Storage or type(dtype) is not torch.dtype:
            raise ValueError("a tensor without a storage")
        if type(shape) is not tuple or type(stride) is not tuple or len(shape) != len(stride) or len(shape) > 32:
            raise ValueError("a tensor whose shape is none")
        if any(type(n) is not int or n < 0 for n in (offset, *shape, *stride)):
            raise ValueError("a tensor whose shape is none")
        size, last = 1, offset
        for length, step in zip(shape, stride):
            size, last = size * length, last + (length - 1) * step
        if not size:
            return torch.empty([0] if max(shape) > 2**31 else shape, dtype=dtype)
        if last >= storage.nbytes // dtype.itemsize or size > 8 * storage.nbytes + 2**20:
            raise ValueError(f"a tensor of shape {shape} that has too few numbers")
        return storage.values(dtype).as_strided(shape, stride, offset)


def _tensor_of_dtype(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> _Tensor:
    tensor = _Tensor(storage, offset, shape, stride)
    tensor.dtype = _CONSTANTS.get(dtype) if type(dtype) is Name else None
    return tensor


def _no_plain_tensor(*_: Any) -> None:
    raise ValueError("it holds sparse, quantised, nested or meta tensors, expected plain ones")


_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
    **{
        ("torch._utils", f"_rebuild_{name}"): _no_plain_tensor
        for name in ("sparse_tensor", "sparse_csr_tensor", "qtensor", "nested_tensor", "meta_tensor_no_storage")
    },
    ("torch.serialization", "_get_layout"): _no_plain_tensor,
    ("torch", "Size"): lambda lengths=(): tuple(lengths),
    ("torch", "device"): lambda kind, index=None: str(kind) if index is None else f"{kind}:{index}",
}


class _Storages:
    """Those of one file, by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def find(self, pid: Any) -> _Storage:
        """``("storage", type, key, device, number of elements[, view])``."""
        if type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage" or type(pid[2]) is not str:
            raise ValueError("it refers to something that is no storage")
        dtype = _CONSTANTS.get(pid[1]) if type(pid[1]) is Name else None
        if type(dtype) is not torch.dtype:
            raise ValueError(f"a storage of {str(pid[1])[:80]}, expected numbers")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("a storage that is a part of another")
        if pid[2] not in self.by_key:
            self.by_key[pid[2]] = _Storage(dtype, pid[4])
        return self.by_key[pid[2]]


def load_torch(path: str | Path) -> Any:
    """Reads a ``.pth`` checkpoint onto the CPU: what ``torch.save`` writes today, and what it wrote before torch 1.6.

    The checksums in the file are compared. Parameters come as tensors, devices as text.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: the file holds anything but tensors, arrays, numbers, strings and containers.
        CheckpointError: the file is truncated, damaged or not a torch file, holds tensors that are not plain ones, or
            asks for far more memory than it has bytes.
    """
    path = Path(path)
    with path.open("rb") as file, _told(path), _bytes_in(file) as content:
        return _read_archive(file, len(content)) if content[:2] == b"PK" else _read_legacy(content)


def _read_archive(file: BinaryIO, size: int) -> Any:
    left = size
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        main = next((name for name in entries if name.count("/") <= 1 and name.rpartition("/")[2] == "data.pkl"), None)
        if main is None:
            raise ValueError("an archive without a data.pkl")
        folder = main.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise ValueError("a TorchScript program, expected a dict of weights")

        def record(name: str) -> bytearray:
            """Reads an entry; its checksum is compared with the last of its bytes."""
            nonlocal left
            entry = entries[name]
            left -= entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or left < 0:
                raise ValueError("entries that are compressed or overlap, which torch doesn't write")
            data = bytearray(entry.file_size)
            with archive.open(entry) as stream, memoryview(data) as target:
                for start in range(0, len(data), 1 << 20):
                    piece = stream.read(1 << 20)
                    target[start : start + len(piece)] = piece
            return data

        if f"{folder}byteorder" in entries and record(f"{folder}byteorder") != b"little":
            raise ValueError("numbers in big-endian order, expected little-endian ones")
        storages = _Storages()
        machine = SafeUnpickler(io.BytesIO(record(main)), size, _CALLS, _CONSTANTS, storages.find)
        loaded = machine.load()
        for key, storage in storages.by_key.items():
            if storage.nbytes:
                storage.data = record(f"{folder}data/{key}")
        return machine.finished(loaded)


_MAGIC = 0x1950A86A20F9469CFC6C


def _read_legacy(content: mmap.mmap) -> Any:
    """Pickles of a number, a version and the machine, the object, and the keys of its storages, whose bytes follow."""
    size, storages = len(content), _Storages()
    if SafeUnpickler(content, size).read_object() != _MAGIC:
        raise ValueError("no file of torch")
    version, system = (SafeUnpickler(content, size).read_object() for _ in range(2))
    if version != 1001 or not system["little_endian"]:
        raise ValueError("a version or byte order that is not known")
    machine = SafeUnpickler(content, size, _CALLS, _CONSTANTS, storages.find)
    loaded = machine.load()
    for key in SafeUnpickler(content, size).read_object():
        storage = storages.by_key[key]
        count, data = int.from_bytes(content.read(8), "little"), content.read(storage.nbytes)
        if count != storage.count or len(data) != storage.nbytes:
            raise ValueError("it ends within a tensor")
        storage.data = bytearray(data)
    return machine.finished(loaded)


def check_weights(weights: Any, path: str | Path, wanted: Mapping[str, torch.Tensor] | None = None) -> None:
    """Checks that something read from a checkpoint is a state dict.

    Args:
        weights: should be tensors or arrays of finite numbers, by name.
        path: of the file, for messages.
        wanted: the model's state dict; where a name is in both, both are of floating-point numbers, or neither.

    Raises:
        CheckpointError: they are not.
    """
    if not isinstance(weights, Mapping):
        kind = type(weights).__name__
        raise CheckpointError(f"{path} holds a {kind} in the place of weights, expected a dict of arrays by name")
    for name, weight in weights.items():
        if not isinstance(name, str) or not isinstance(weight, torch.Tensor | np.ndarray):
            text = f"{path} holds {name!r}, a {type(weight).__name__}, among its weights"
            inner = next((f"{key!r}" for key, value in weights.items() if isinstance(value, Mapping)), "")
            remedy = f": save what it holds under {inner} as a file of its own" if inner else ""
            raise CheckpointError(f"{text}, expected arrays by name{remedy}")
        tensor = torch.as_tensor(weight)
        own = wanted.get(name) if wanted is not None else None
        if tensor.is_complex() or (own is not None and own.is_floating_point() != tensor.is_floating_point()):
            expected = "real numbers" if own is None else str(own.dtype).removeprefix("torch.")
            came = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"weight {name} of {path} is of {came}, expected {expected}: save it as such")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"weight {name} of {path} has entries that are NaN or infinite: the file is damaged, or the training "
                "that wrote it had diverged; take an earlier checkpoint"
            )
