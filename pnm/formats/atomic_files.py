"""Files that are written whole or not at all: readers see the old file or the new one, whoever is killed when."""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pnm.errors import UserError

MADE = ".made-by-pnm"
ENDING = ".partial"  # of files that are being written; a killed writer leaves one


class WriteError(UserError):
    """A file cannot be written, as where the disk is full."""


@contextmanager
def atomic_file(path: str | Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends, and is gone if the block fails.

    Args:
        path: its folder is made.
        sync: wait until the disk has it, so that not even a power cut leaves less than a whole file.

    Raises:
        WriteError: the file cannot be written; the message names it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{ENDING}")  # no two writers share it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # not of this file: what the block itself told
            raise
        raise WriteError(f"{path} can't be written ({error.strerror}): make room, or name another file") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """As :func:`atomic_file`, for writers that want a file's name: that of one to be made, of the same ending."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{ENDING}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise WriteError(f"{path} can't be written ({error.strerror}): make room, or name another file") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, *, sync: bool = False) -> None:
    """Writes a file by :func:`atomic_file`."""
    with atomic_file(path, sync=sync) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 by :func:`atomic_file`."""
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder that takes the place of ``path`` when the block ends, and is gone if the block fails.

    Args:
        overwrite: replace a folder that is there, if it was made by this function: a hidden file in it says so, for
            nobody's own files are to be lost. An empty folder is replaced anyway.

    Raises:
        UserError: something is there.
        WriteError: it can't be written.
    """
    path = Path(path).absolute()
    check_new_folder(path, overwrite=overwrite)
    unlike = uuid.uuid4().hex
    temporary, before = (path.with_name(f".{path.name}.{unlike}{ending}") for ending in (ENDING, f"{ENDING}.before"))
    try:
        temporary.mkdir(parents=True)
        (temporary / MADE).touch()
        yield temporary
        if path.exists():
            os.replace(path, before)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise WriteError(f"{path} can't be written ({error.strerror}): make room, or name another folder") from None
    finally:
        for leftover in (temporary, before):
            shutil.rmtree(leftover, ignore_errors=True)


def check_new_folder(path: Path, *, overwrite: bool = False) -> None:
    """A UserError if a file is there, or a folder that holds something and is not to be replaced."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: name a folder for the output")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{path} exists already and isn't empty: name another folder, or add --overwrite")
    if not (path / MADE).is_file():
        raise UserError(
            f"{path} was not made by this program, and so is not overwritten: name another folder, or remove it"
        )


def check_writable(path: str | Path) -> None:
    """A UserError unless :func:`atomic_file` can write this file; its folder is made."""
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        _try_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror}): name another file") from None


def check_folder_writable(folder: str | Path, what: str) -> None:
    """A UserError, which calls the folder ``what``, unless it is there, or can be made, and can be written to."""
    try:
        _try_folder(Path(folder))
    except OSError as error:
        raise UserError(f"{what} {folder} is not writable ({error.strerror}); choose another") from None


def _try_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def put_in_place(whole: Path, path: Path) -> None:
    """Lets a file that is whole, and on the same disk, take the place of ``path``; a WriteError if it can't."""
    try:
        os.replace(whole, path)
    except OSError as error:
        raise WriteError(f"{path} can't be written ({error.strerror}): make room, or name another file") from None
