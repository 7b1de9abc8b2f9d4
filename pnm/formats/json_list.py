"""A JSON list too long to keep in memory: its items stay in the file.

The file is read through once, in windows of some megabytes; of each item only its first byte and the one after its last
are kept, and it is parsed anew when it is asked for::

    >>> path = Path(getfixture("tmp_path")) / "list.json"
    >>> _ = path.write_text('[{"a": 1}, 20]')
    >>> items = JsonList(path, "a list", lambda n, item: None)
    >>> items._starts.tolist(), items._ends.tolist(), list(items.read([1]))
    ([1, 11], [9, 13], [20])
"""

import json
import logging
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pnm.errors import UserError

logger = logging.getLogger(__name__)

_CHUNK = 2**24  # bytes
_FIRST_CHUNK = 2**16  # where one item is wanted
_LARGE = 10**8  # bytes, a few seconds
_MARK = "\xef\xbb\xbf"  # of UTF-8, which some editors write
_decode = json.JSONDecoder().raw_decode
_not_space = re.compile(r"[^ \t\n\r]").search


class JsonList:
    """The items of a JSON file that is a list (UTF-8), of which only the places in the file are in memory.

    Args:
        path: of the file.
        expected: what it should be, for messages.
        visit: called with the number, from 0, and the content of each item, in order, as the file is read through.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it can't be read, or isn't a list in JSON.
    """

    def __init__(self, path: Path, expected: str, visit: Callable[[int, Any], None]):
        self._path = path
        self._starts, self._ends = array("q"), array("q")
        with _opened(path, expected) as file:
            self._state = _state(file)
            if self._state[0] > _LARGE:
                logger.info("reading through %s (%d MB)", path, self._state[0] // 10**6)
            for start, end, item in _items(file, path, expected):
                visit(len(self._starts), item)
                self._starts.append(start)
                self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, numbers: Iterable[int]) -> Iterator[Any]:
        """The content of items.

        Raises:
            UserError: the file is not what it was.
        """
        with _opened(self._path, "the file that was read before") as file:
            if _state(file) != self._state:
                raise UserError(f"{self._path} has been changed since it was opened: run the same command again")
            for n in numbers:
                file.seek(self._starts[n])
                yield json.loads(file.read(self._ends[n] - self._starts[n]))


def first_item(path: Path, expected: str) -> Any:
    """The first item of a JSON file that is a list; None of an empty one. Raises as :class:`JsonList` does."""
    with _opened(path, expected) as file:
        return next((item for _, _, item in _items(file, path, expected, _FIRST_CHUNK)), None)


def is_list(path: Path, expected: str) -> bool:
    """Whether a JSON file is a list, as far as its first characters tell. Raises as :class:`JsonList` does."""
    with _opened(path, expected) as file:
        return file.read(4096).removeprefix(_MARK.encode("latin-1")).lstrip(b" \t\n\r").startswith(b"[")


def _opened(path: Path, expected: str) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): expected {expected}") from None


def _state(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _items(file: BinaryIO, path: Path, expected: str, chunk: int = _CHUNK) -> Iterator[tuple[int, int, Any]]:
    """First byte, byte after the last and content of each item; ``chunk`` bytes are read at first."""
    reader = _Reader(file, chunk)
    try:
        if not reader.take("["):
            raise UserError(f"{path} is not a list: expected {expected}")
        if not reader.take("]"):
            yield reader.item()
            while not reader.take("]"):
                if not reader.take(","):
                    raise ValueError("expected ',' or ']'")
                yield reader.item()
        if not reader.at_end():
            raise ValueError("expected nothing after the list")
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        what = getattr(error, "msg", str(error))
        raise UserError(f"{path} is not JSON ({what}, near byte {reader.byte}): expected {expected}") from None


class _Reader:
    """Goes through a file; a window of it is in memory, in Latin-1, in which a character is a byte.

    All that JSON consists of is ASCII, and no byte of another UTF-8 character looks like it.
    """

    def __init__(self, file: BinaryIO, chunk: int):
        self._file, self._text, self._at, self._first = file, "", 0, 0
        self._more(max(chunk, len(_MARK)))
        if self._text.startswith(_MARK):
            self._at = len(_MARK)

    @property
    def byte(self) -> int:
        return self._first + self._at

    def _more(self, size: int) -> None:
        """Drops what has been passed and reads on."""
        data = self._file.read(size)
        self._ended = not data
        self._text = self._text[self._at :] + data.decode("latin-1")
        self._first, self._at = self.byte, 0
        self._ascii = self._text.isascii()

    def at_end(self) -> bool:
        """Passes white space; True if nothing follows."""
        while True:
            visible = _not_space(self._text, self._at)
            self._at = visible.start() if visible else len(self._text)
            if self._at < len(self._text) or self._ended:
                return self._at == len(self._text)
            self._more(_CHUNK)

    def take(self, character: str) -> bool:
        """Passes white space and, if it follows, a character."""
        follows = not self.at_end() and self._text[self._at] == character
        self._at += follows
        return follows

    def item(self) -> tuple[int, int, Any]:
        """Passes white space and a value."""
        self.at_end()
        while True:
            try:
                content, end = _decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
                self._more(max(_CHUNK, len(self._text)))
                continue
            if end + len("e+1") <= len(self._text) or self._ended:
                break
            self._more(_CHUNK)  # what looks like a whole number may go on
        start, self._at = self._at, end
        if not self._ascii:
            content = json.loads(self._text[start:end].encode("latin-1"))
        return self._first + start, self._first + end, content
