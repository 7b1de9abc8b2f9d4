"""Results of images, one record after another in a file that may end anywhere: what a killed run leaves is used.

A folder holds one file for each process that wrote. Each file starts with a header that says what the records belong
to; each record has its length and CRC-32, so one that was cut off is noticed, and what stands before it is kept.
"""

import json
import logging
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pnm.errors import UserError
from pnm.formats.image_files import Key

logger = logging.getLogger(__name__)

_MARK = b"PNM1"
_FRAME = struct.Struct("<4sQI")  # mark, bytes of the record, their CRC-32
_COUNT = struct.Struct("<Q")
_ENDING = ".records"


class Record(NamedTuple):
    """What was made of an image: something that JSON can hold, and the bytes of files."""

    meta: Any
    blobs: tuple[bytes, ...] = ()


class Place(NamedTuple):
    """Where a record stands."""

    path: Path
    offset: int
    length: int


def _frame(key: Key | None, record: Record) -> bytes:
    head = json.dumps([key, record.meta, [len(blob) for blob in record.blobs]]).encode()
    body = b"".join([_COUNT.pack(len(head)), head, *record.blobs])
    return _FRAME.pack(_MARK, len(body), zlib.crc32(body)) + body


def _unpacked(body: bytes) -> tuple[Key | None, Record]:
    at = _COUNT.size + _COUNT.unpack_from(body)[0]
    key, meta, lengths = json.loads(body[_COUNT.size : at])
    blobs = []
    for length in lengths:
        blobs.append(body[at : at + length])
        at += length
    return key, Record(meta, tuple(blobs))


class RecordFile:
    """One process's records, in a file of its own that is made with the first of them.

    Args:
        folder: made where it is missing.
        header: what the records belong to, see :func:`find_records`.
    """

    def __init__(self, folder: Path, header: Mapping[str, str]):
        self._folder, self._header = folder, header
        self._file: BinaryIO | None = None

    def append(self, key: Key, record: Record) -> None:
        """Writes a record; once this returns, it outlives the process.

        Raises:
            UserError: the file can't be written, e.g. because the disk is full.
        """
        try:
            self._opened().write(_frame(key, record))
            self._opened().flush()
        except OSError as error:
            raise UserError(
                f"{self._folder} can't be written ({error.strerror}): make room and run the same command again, which "
                "goes on where it was, or choose another output"
            ) from None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = (self._folder / f"{os.getpid()}-{uuid.uuid4().hex}{_ENDING}").open("xb")
            self._file.write(_frame(None, Record(dict(self._header))))
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def find_records(folder: Path, header: Mapping[str, str]) -> dict[Key, Place]:
    """Whole records of all files in a folder, by key; of equal keys, the one in the first file.

    Raises:
        UserError: a file has another header; the message says in what and what to do.
    """
    places: dict[Key, Place] = {}
    for path in sorted(folder.glob(f"*{_ENDING}")):
        records = _records_of(path)
        _, first, _ = next(records, (None, None, None))
        if first is None:
            continue
        differing = [name for name in header if header[name] != first.meta.get(name)]
        if differing:
            raise UserError(
                f"{folder} holds the beginning of a run of other {' and '.join(differing)}: delete it to start anew, "
                "or choose another output"
            )
        for key, _, place in records:
            if key is not None:
                places.setdefault(key, place)
    return places


def _records_of(path: Path) -> Iterator[tuple[Key | None, Record, Place]]:
    """Whole records from the start of a file, the header first, with their keys."""
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at + _FRAME.size <= size:
            mark, length, checksum = _FRAME.unpack(file.read(_FRAME.size))
            place = Place(path, at + _FRAME.size, length)
            body = file.read(length) if mark == _MARK and place.offset + length <= size else b""
            if not body or zlib.crc32(body) != checksum:
                break
            yield *_unpacked(body), place
            at = place.offset + length
        if at < size:
            logger.info("%s: %d bytes at its end are no whole record and are passed over", path, size - at)


def read_record(place: Place) -> Record:
    """The record that :func:`find_records` found there."""
    with place.path.open("rb") as file:
        file.seek(place.offset)
        return _unpacked(file.read(place.length))[1]
