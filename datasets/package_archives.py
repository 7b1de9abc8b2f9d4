"""Reads the files inside packages without installing them: ``.deb``, ``.whl`` and Qt's resource files (``.rcc``)."""

import io
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pnm.errors import UserError

_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60
_RCC_COMPRESSED, _RCC_FOLDER, _RCC_ZSTANDARD = 1, 2, 4


def package_files(path: str | Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The wanted files of a package, in its own order.

    Args:
        path: a ``.deb``, or a ``.whl`` (any zip).
        wanted: is asked with each path in the package. Files in a resource file ``a.rcc`` have paths ``a.rcc/inner``;
            such a file is opened if ``wanted("a.rcc")``, and its pictures are asked for in turn.

    Yields:
        The path (without ``./`` or a slash at its beginning) and the content.

    Raises:
        UserError: it is no package of these kinds, is damaged, or is compressed in a way that can't be read here.
    """
    path = Path(path)
    members = _deb_files if path.suffix == ".deb" else _zip_files
    try:
        for name, content in members(path, wanted):
            if not name.endswith(".rcc"):
                yield name, content
                continue
            for inner, inner_content in resource_files(content):
                if wanted(f"{name}/{inner}"):
                    yield f"{name}/{inner}", inner_content
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise UserError(f"{path} can't be read as a package ({error}): remove it and fetch it again") from None


def _zip_files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith("/") and wanted(name):
                yield name, archive.read(name)


def _deb_files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    name, content = _deb_data(path)
    if name.endswith(".zst"):  # Ubuntu's; Python reads it from version 3.14 on
        content = _decompressed_by_zstd(path, content)
    with tarfile.open(None, "r:*", io.BytesIO(content)) as archive:
        for member in archive:
            inner = member.name.removeprefix("./").lstrip("/")
            if not member.isfile() or not wanted(inner):  # links lead to files that are members themselves
                continue
            file = archive.extractfile(member)
            if file is not None:
                yield inner, file.read()


def _deb_data(path: Path) -> tuple[str, bytes]:
    """The name and content of ``data.tar.*``, a member of the ``ar`` archive that a ``.deb`` is: headers of 60 ASCII
    characters (name 16, time 12, owner 6, group 6, mode 8, size 10, end 2), contents filled up to even lengths."""
    with path.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise UserError(f"{path} is no Debian package: remove it and fetch it again")
        while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
            if not size.isdigit():
                break
            if name.startswith("data.tar"):
                return name, file.read(int(size))
            file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise UserError(f"{path} is no whole Debian package (it has no data.tar): remove it and fetch it again")


def _decompressed_by_zstd(path: Path, content: bytes) -> bytes:
    try:
        return subprocess.run(["zstd", "-dc"], input=content, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise UserError(f"{path} is compressed by Zstandard: install the program zstd") from None
    except subprocess.CalledProcessError:
        raise UserError(f"{path} is damaged (zstd can't read it): remove it and fetch it again") from None


def resource_files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in a Qt resource file, as ``rcc --binary`` makes them (format versions 1 to 3).

    The header, all big-endian: ``qres``, version, offsets of tree, data and names. Tree entries: offset of the name
    (u32), flags (u16), then for a folder its count of children and the first child's entry (u32 each), for a file
    country and language (u16 each) and the offset of its data; 8 more bytes (time) from version 2 on. Names: length
    (u16), hash (u32), UTF-16. Data: length (u32) and bytes; compressed ones have the full length (u32) before zlib's.
    Zstandard's are left out: pictures, which are compressed already, are stored plainly.

    Raises:
        UserError: it is no such file.
    """
    if content[:4] != b"qres" or len(content) < 20:
        raise UserError("a resource file in the package is not one of Qt's: fetch the package again")
    version, tree, data, names = struct.unpack_from(">4I", content, 4)
    entry_size = 14 if version < 2 else 22
    waiting = [(0, "")]
    while waiting:
        entry, parent = waiting.pop()
        offset = tree + entry * entry_size
        name_offset, flags = struct.unpack_from(">IH", content, offset)
        path = parent + _resource_name(content, names + name_offset) if entry else ""
        if flags & _RCC_FOLDER:
            count, first = struct.unpack_from(">II", content, offset + 6)
            waiting += [(child, f"{path}/" if path else "") for child in range(first, first + count)]
        elif not flags & _RCC_ZSTANDARD:
            (data_offset,) = struct.unpack_from(">I", content, offset + 10)
            yield path, _resource_data(content, data + data_offset, bool(flags & _RCC_COMPRESSED))


def _resource_name(content: bytes, offset: int) -> str:
    (length,) = struct.unpack_from(">H", content, offset)
    return content[offset + 6 : offset + 6 + 2 * length].decode("utf-16-be")


def _resource_data(content: bytes, offset: int, is_compressed: bool) -> bytes:
    (length,) = struct.unpack_from(">I", content, offset)
    stored = content[offset + 4 : offset + 4 + length]
    return zlib.decompress(stored[4:]) if is_compressed else stored
