"""Files fetched from the web: gone on with where a transfer ended, and in place only when size and digest are right."""

import hashlib
import urllib.error
import urllib.request
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from pnm.errors import UserError
from pnm.formats.atomic_files import put_in_place

_ATTEMPTS = 3  # connections in a row, as long as each brings something
_TIMEOUT = 60  # s without a byte
_BLOCK = 1 << 16  # bytes


class Wanted(NamedTuple):
    """What a file is known to be: its size in bytes and SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class FetchError(UserError):
    """A file cannot be had."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def is_wanted(path: Path, wanted: Wanted) -> bool:
    """Whether a file is there, of the right size and content."""
    return path.is_file() and path.stat().st_size == wanted.size and sha256_of(path) == wanted.sha256


def fetch(url: str, path: Path, wanted: Wanted, *, remedy: str = "run the same command again") -> None:
    """Fetches a file; what a broken transfer left, ``<path>.part``, is gone on with if the server can do that.

    Processes that fetch the same file wait for each other.

    Args:
        url: http or https.
        path: its folder is made; a file that is right already is left as it is.
        remedy: what a person can do, for messages.

    Raises:
        FetchError: no connection, a broken transfer, or another file than is wanted.
        WriteError: the disk is full, or the like.
    """
    from iopath.common.file_io import file_lock

    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{url} is no web address, expected http:// or https://: {remedy}")
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(path)):
            if is_wanted(path, wanted):
                return
            _receive_all(url, part, wanted, remedy)
            if sha256_of(part) != wanted.sha256:
                part.unlink()
                raise FetchError(f"{url} is another file than expected (its SHA-256 is not {wanted.sha256}): {remedy}")
            put_in_place(part, path)
    except OSError as error:
        raise FetchError(f"{path} can't be written ({error.strerror or error}): make room, or {remedy}") from None


def _receive_all(url: str, part: Path, wanted: Wanted, remedy: str) -> None:
    """Connects until ``part`` has all bytes."""
    for attempt in range(_ATTEMPTS):
        before = _size(part)
        cause = _receive(url, part, wanted.size)
        now = _size(part)
        if now == wanted.size:
            return
        if now > wanted.size:
            part.unlink()
            raise FetchError(f"{url} is larger than the {wanted.size} bytes expected, so it is another file: {remedy}")
        if cause is not None and (now <= before or attempt == _ATTEMPTS - 1):
            raise FetchError(f"{url} cannot be had ({cause}): {remedy}")
    raise FetchError(f"{url}: {_size(part)} of {wanted.size} bytes arrived, which are kept: {remedy}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path, size: int) -> str | None:
    """Adds what one connection brings to ``part``; why it failed, if it did."""
    first = _size(part)
    if first >= size:
        part.unlink()
        first = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={first}-"} if first else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            goes_on = response.status == 206 and _starts_at(response.headers.get("Content-Range", "")) == first
            received = first if goes_on else 0
            with part.open("ab" if goes_on else "wb") as file:
                while received <= size and (block := response.read(_BLOCK)):
                    file.write(block)
                    received += len(block)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is there is no beginning of this file
            part.unlink(missing_ok=True)
        return f"{error.code} {error.reason}"
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    return None


def _starts_at(content_range: str) -> int | None:
    """The first byte of ``bytes FIRST-LAST/SIZE``."""
    first = content_range.removeprefix("bytes").strip().partition("-")[0]
    return int(first) if first.isdecimal() else None
