"""Reading checkpoints without running what is inside them.

A pickle can name any function and have it called while it is read. Here a ``.pkl`` may hold NumPy arrays
and plain containers, a ``.pth`` what torch's weights-only reader admits and NumPy arrays; whatever else a
file asks for is refused before anything of it is called.
"""

import codecs
import importlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnm.errors import UserError

# NumPy 2 renamed the module that pickled arrays name.
_CORE = "numpy._core" if int(np.__version__.split(".")[0]) >= 2 else "numpy.core"
_multiarray = importlib.import_module(f"{_CORE}.multiarray")
_numeric = importlib.import_module(f"{_CORE}.numeric")


class CheckpointError(UserError):
    """The file is not a checkpoint that can be used: missing, truncated, or of another format."""


class UnsafeCheckpointError(CheckpointError):
    """The file asks for something other than arrays and containers, so reading it could execute code."""


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What pickle protocol 2 calls to rebuild ``bytes``; no other codec occurs in honest files."""
    if encoding != "latin1":
        raise UnsafeCheckpointError(f"a checkpoint may not call codec {encoding!r}")
    return codecs.encode(text, "latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode_latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
for _module in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_module}.multiarray", "_reconstruct"] = _multiarray._reconstruct
    _ADMITTED[f"{_module}.multiarray", "scalar"] = _multiarray.scalar
    _ADMITTED[f"{_module}.numeric", "_frombuffer"] = _numeric._frombuffer
for _builtins in ("builtins", "__builtin__"):
    for _type in (set, frozenset, bytearray, complex):
        _ADMITTED[_builtins, _type.__name__] = _type


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise UnsafeCheckpointError(f"it asks for {module}.{name}") from None


def _refuse(path: Path, reason: object) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{path} was refused: {reason}. A checkpoint may hold only arrays and containers; this one could "
        "execute code when read. Get it from a source you trust as plain weights, or save it again as such."
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    cause = " ".join([type(error).__name__, *str(error).splitlines()[:1]]).split(". ")[0]
    return CheckpointError(
        f"{path} is not a readable checkpoint ({cause}): it is truncated, damaged or of another format. "
        "Delete it and fetch or train it again."
    )


def load_pickle(path: str | Path) -> Any:
    """Reads a ``.pkl`` checkpoint, Python 2 ones included.

    Returns the stored object: containers, numbers, strings and NumPy arrays.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: the pickle names a class or function other than arrays and containers.
        CheckpointError: the file is truncated or not a pickle.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except UnsafeCheckpointError as error:
            raise _refuse(path, error) from None
        except Exception as error:  # a damaged pickle can raise nearly anything
            raise _damaged(path, error) from None


def _array_globals() -> list[Any]:
    dtype_classes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return [_multiarray._reconstruct, _multiarray.scalar, np.ndarray, np.dtype, *dtype_classes]


def load_torch(path: str | Path) -> Any:
    """Reads a ``.pth`` checkpoint onto the CPU with torch's weights-only reader; NumPy arrays are admitted too.

    Raises:
        FileNotFoundError: no such file.
        UnsafeCheckpointError: the file holds anything but tensors, arrays, numbers, strings and containers.
        CheckpointError: the file is truncated or not a torch file.
    """
    path = Path(path)
    with path.open("rb") as file, torch.serialization.safe_globals(_array_globals()):
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            text = str(error)
            if "GLOBAL" in text or "global" in text or "REDUCE" in text:
                reason = next((line.strip() for line in text.splitlines() if "GLOBAL" in line), text.splitlines()[0])
                raise _refuse(path, reason.split(" was not an allowed")[0]) from None
            raise _damaged(path, error) from None
        except Exception as error:
            raise _damaged(path, error) from None
