"""Machine code of kernels, kept on disk and run without numba, of which only llvmlite is imported.

numba compiles a function around a kernel that takes its arguments as :mod:`pnm.kernel_arguments` has them. Its object
code is written to a file beside the kernel's module, or in ``NUMBA_CACHE_DIR``, with a digest of everything it depends
on: code, kinds of arguments, versions, processor. A file of another digest is not used but made anew. What a kernel
needs at run time, such as memory for its own arrays, it finds in numba's two small C libraries, which are loaded by
themselves.
"""

import builtins
import ctypes
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pnm.kernel_arguments import INTERFACE, Entry, entry_function, number_of_arrays, number_of_results

ENDING = ".kernel"
_DIGEST_SIZE = 32
_NOT_KEPT = (OSError, ImportError, RuntimeError, ValueError, AttributeError)  # another numba than is known here


def entry_of(kernel: Any, kinds: tuple) -> Entry:
    """The machine code of a kernel for arguments of these kinds: from its file, or compiled and kept."""
    results, arrays = number_of_results(kernel.py_func), number_of_arrays(kinds)
    name = f"{kernel.__module__}.{kernel.__qualname__}-{hashlib.sha256(repr(kinds).encode()).hexdigest()[:8]}{ENDING}"
    digest = _digest(kernel, kinds)
    places = [folder / name for folder in folders(kernel.py_func.__code__.co_filename)]
    with suppress(*_NOT_KEPT):
        code = _kept(places, digest)
        if code is not None:
            return Entry(*_loaded(code), arrays, results)
    address, owner, code = _compiled(kernel, kinds)
    if code is not None:
        _keep(places, digest, code)
    return Entry(address, owner, arrays, results)


def _kept(places: Sequence[Path], digest: bytes) -> bytes | None:
    """Machine code with this digest, if one of the files has it whole."""
    for place in places:
        with suppress(OSError):
            content = place.read_bytes()
            code = content[2 * _DIGEST_SIZE :]
            if content[: 2 * _DIGEST_SIZE] == digest + hashlib.sha256(code).digest():
                return code
    return None


def _keep(places: Sequence[Path], digest: bytes, code: bytes) -> None:
    """Writes machine code to the first place that can be written to."""
    for place in places:
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(digest + hashlib.sha256(code).digest() + code)
            return


def folders(source: str) -> Iterator[Path]:
    """Where machine code of a module's kernels may be, the preferred place first."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(os.environ["NUMBA_CACHE_DIR"]) / "pnm_kernels"
        return
    if Path(source).is_file():  # not typed in
        yield Path(source).parent / "__pycache__"
        yield Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "pnm_kernels"


def _digest(kernel: Any, kinds: tuple) -> bytes:
    """Of everything that machine code depends on."""
    from llvmlite import binding as llvm

    options = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_") and k != "NUMBA_CACHE_DIR")
    parts = [INTERFACE, kernel.fingerprint.hex(), repr(kinds), *options, _numba_version(), sys.version]
    parts += [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), np.__version__]
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _numba_version() -> str:
    """With the commit that it was made of."""
    file = _numba_folder() / "_version.py"
    return file.read_text("utf-8") if file.is_file() else importlib.metadata.version("numba")


@functools.cache
def _numba_folder() -> Path:
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        raise ImportError("numba is not installed: pip install numba")
    return Path(spec.origin).parent


def _numbas_library(name: str) -> Any:
    """One of numba's modules in C, without numba itself."""
    if name in sys.modules:
        return sys.modules[name]
    path = _numba_folder().joinpath(*name.split(".")[1:])
    path = path.with_name(path.name + importlib.machinery.EXTENSION_SUFFIXES[0])
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@functools.cache
def _symbols() -> dict[str, int]:
    """Addresses of what numba's machine code may call, by the names that numba gives it."""
    helpers, runtime = _numbas_library("numba._helperlib"), _numbas_library("numba.core.runtime._nrt_python")
    symbols = {f"numba_{name}": address for name, address in helpers.c_helpers.items()}
    symbols |= {n if n.startswith("_") else f"NRT_{n}": address for n, address in runtime.c_helpers.items()}
    symbols |= {f"PyExc_{e.__name__}": id(e) for e in _built_in_errors()}
    return symbols | {"_Py_NoneStruct": id(None)}


def _built_in_errors() -> list[type[BaseException]]:
    values = vars(builtins).values()
    return [value for value in values if isinstance(value, type) and issubclass(value, BaseException)]


@functools.cache
def _ready() -> Any:
    """llvmlite's interface, with numba's symbols; an Exception if numba isn't what it was."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, address in _symbols().items():
        llvm.add_symbol(name, address)
    return llvm


def _loaded(code: bytes) -> tuple[int, Any]:
    """Address of the function in machine code, and what keeps it in memory."""
    llvm, length = _ready(), code.index(b"\0")
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code[length + 1 :]))
    engine.finalize_object()
    return engine.get_function_address(code[:length].decode()), engine


def _compiled(kernel: Any, kinds: tuple) -> tuple[Any, Any, bytes | None]:
    """Address of a function that numba compiles, what keeps it in memory, and its code if it can be kept."""
    import numba

    record = numba.types.CPointer(numba.types.voidptr)
    records = [record] * (number_of_arrays(kinds) + 2)
    function = numba.cfunc(numba.types.void(*records), error_model="numpy")(entry_function(kernel, kinds))
    code = None
    with suppress(*_NOT_KEPT, TypeError):
        code = _object_code(function)
    return function.address, function, code


def _object_code(function: Any) -> bytes | None:
    """Name and object code of a compiled function; None if it calls anything that wouldn't be there."""
    library = function._library
    declared = {one.name for one in library._final_module.functions if one.is_declaration}
    process = ctypes.CDLL(None)
    for name in declared:
        if not (name.startswith("llvm.") or name in _symbols() or hasattr(process, name)):
            return None
    return function.native_name.encode() + b"\0" + library.serialize_using_object_code()[2][0]
