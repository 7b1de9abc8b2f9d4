"""Offsets on disk: made once for the images of a folder, and used for the results of every model, without a network.

A folder holds ``manifest.jsonl`` and a PNG for each image, 16-bit grey: probability of a boundary times 256 plus the
bin of the direction, without loss. Measured: 0.42 bytes a pixel for what a small network says of scenes of 192 x 256,
0.04 for the truth of Cityscapes' maps. The manifest's first line says which model made them and how they are used; each
further line ties the SHA-256 of an image file to a map and the map's SHA-256. An image that changes has no offsets any
more. Several processes may add to a folder.
"""

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pnm.errors import UserError
from pnm.formats.atomic_files import WriteError, write_bytes, write_text
from pnm.formats.label_png import decode_label_png, encode_grey16_png, read_bytes
from pnm.interior_offsets.directions import check_bins
from pnm.interior_offsets.field import InteriorOffsets, packed, unpacked
from pnm.interior_offsets.shifting import Shift, check_steps
from pnm.programs import program

FORMAT = 1
MANIFEST = "manifest.jsonl"
_KIND = "interior offsets"
_DIGEST = re.compile("[0-9a-f]{64}")
_REMEDY = f"make them with {' '.join(program('refine'))}, --config-file, MODEL.WEIGHTS and --offsets"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OffsetSource:
    """What the offsets of a folder have in common.

    ``model`` tells the network and its weights from others; ``bins`` is m; the others are how a shift is made of them
    where nobody says otherwise, see :meth:`pnm.interior_offsets.field.InteriorOffsets.shift`.
    """

    model: str
    bins: int = 8
    threshold: float = 0.5
    scale: float = 1.0
    steps: int = 8

    def shift(self, offsets: InteriorOffsets) -> Shift:
        """Which pixels of an image take whose label."""
        return offsets.shift(self.threshold, scale=self.scale, steps=self.steps)


class _Row(NamedTuple):
    image: str
    image_digest: str
    map_digest: str
    height: int
    width: int


def _map_name(image_digest: str) -> str:
    return f"maps/{image_digest[:2]}/{image_digest[:24]}.png"


def _row_of(line: bytes) -> _Row | None:
    """None if the line is none that a writer writes: torn, or changed."""
    try:
        fields = json.loads(line)
        row = _Row(*(fields[key] for key in _Row._fields))
        digests = all(_DIGEST.fullmatch(digest) for digest in (row.image_digest, row.map_digest))
        sides = all(type(side) is int and side > 0 for side in (row.height, row.width))
    except (ValueError, KeyError, TypeError):
        return None
    return row if digests and sides and isinstance(row.image, str) else None


def _check_of(source: OffsetSource) -> str:
    """Tells whether somebody has changed a header."""
    return hashlib.sha256(json.dumps(asdict(source)).encode()).hexdigest()


def _source_of(line: bytes, path: Path) -> OffsetSource:
    """The header.

    Raises:
        UserError: it is none of this format.
    """
    try:
        fields = json.loads(line)
        kind, check = (fields.pop("kind"), fields.pop("format")), fields.pop("check")
        source = OffsetSource(**fields)
        check_bins(source.bins)
        check_steps(source.steps, source.scale)
        right = 0 < source.threshold < 1 and check == _check_of(source)
    except (ValueError, KeyError, TypeError, AttributeError):
        kind, right = None, False
    if kind != (_KIND, FORMAT) or not right:
        raise UserError(
            f"{path} is no manifest of offsets (format {FORMAT}): choose another folder, or delete this one"
        )
    return source


class StoredOffsets:
    """The offsets in a folder; may be used from several threads, and added to from several processes.

    Attributes:
        source: what made them.

    Raises:
        UserError: there are none, or the manifest is of something else.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        try:
            first, *lines = path.read_bytes().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder} has no offsets ({MANIFEST} is missing): {_REMEDY}") from None
        self.source = _source_of(first, path)
        rows = [row for row in map(_row_of, lines) if row]
        if len(rows) < sum(bool(line) for line in lines):
            logger.warning("%s: %d line(s) make no sense and are passed over", path, sum(map(bool, lines)) - len(rows))
        self._rows = {row.image_digest: row for row in rows}
        self._names = {row.image for row in rows}

    def __len__(self) -> int:
        return len(self._rows)

    def has(self, image_file: str | Path) -> bool:
        """Whether there are whole offsets of an image file as it is now."""
        digest = hashlib.sha256(read_bytes(image_file, "image")).hexdigest()
        path = self.folder / _map_name(digest)
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest() == self._rows[digest].map_digest
        except (KeyError, OSError):
            return False

    def read(self, image_file: str | Path) -> InteriorOffsets:
        """The offsets of an image file, which is not decoded.

        Raises:
            UserError: there are none, the image has changed since, or the map is missing or damaged.
        """
        digest = hashlib.sha256(read_bytes(image_file, "image")).hexdigest()
        row = self._rows.get(digest)
        if row is None:
            stale = Path(image_file).name in self._names
            what = "has changed since its offsets were made, or is another image" if stale else "has no offsets"
            raise UserError(f"{image_file} {what} in {self.folder}: {_REMEDY}")
        path = self.folder / _map_name(digest)
        data = read_bytes(path, f"the offsets of {image_file},")
        if hashlib.sha256(data).hexdigest() != row.map_digest:
            raise UserError(f"{path}, the offsets of {image_file}, is damaged: {_REMEDY}")
        values = decode_label_png(data, path)
        if values.shape != (row.height, row.width):
            raise UserError(f"{path} is not of the size that {MANIFEST} says: {_REMEDY}")
        return unpacked(values, self.source.bins)

    def add(self, image_file: str | Path, offsets: InteriorOffsets) -> None:
        """Stores the offsets of an image file; once this returns, they outlive the process.

        Raises:
            WriteError: the folder cannot be written.
        """
        digest = hashlib.sha256(read_bytes(image_file, "image")).hexdigest()
        png = encode_grey16_png(packed(offsets))
        row = _Row(Path(image_file).name, digest, hashlib.sha256(png).hexdigest(), *offsets.size)
        write_bytes(self.folder / _map_name(digest), png)
        _append(self.folder / MANIFEST, json.dumps(row._asdict()) + "\n")
        self._rows[digest] = row
        self._names.add(row.image)


def _append(path: Path, text: str) -> None:
    """Adds to a file at once, so that lines stay whole, whoever else adds some."""
    try:
        with path.open("ab", buffering=0) as file:
            file.write(text.encode())
    except OSError as error:
        raise WriteError(f"{path} can't be written ({error.strerror}): make room, or name another folder") from None


def open_offsets(folder: str | Path, source: OffsetSource) -> StoredOffsets:
    """The offsets that a model has stored in a folder, which is made where it is missing.

    Raises:
        UserError: the folder has offsets of another model, or something else in it.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} has no {MANIFEST}, but other files: choose a new or empty folder for offsets")
        header: dict[str, Any] = {"kind": _KIND, "format": FORMAT, **asdict(source), "check": _check_of(source)}
        write_text(folder / MANIFEST, json.dumps(header) + "\n")
    elif not (folder / MANIFEST).read_bytes().endswith(b"\n"):
        _append(folder / MANIFEST, "\n")  # a writer was killed in the midst of a line
    stored = StoredOffsets(folder)
    if (stored.source.model, stored.source.bins) != (source.model, source.bins):
        raise UserError(
            f"the offsets in {folder} are of another model or other weights: choose another folder, or leave "
            "--config-file away to use them as they are"
        )
    return stored
