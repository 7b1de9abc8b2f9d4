"""The manifest of a folder of offline weight maps, and what the folder and its command are called.

``manifest.jsonl`` starts with a header (format, data set, parameters, scale); then each line ties a label file's
SHA-256 to a map and the map's SHA-256. Maps lie under ``maps/`` and are named after the digest of the label file that
they were made of: a data set that moves keeps its maps, and a label file that changes has none any more.
"""

import hashlib
import json
import os
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pnm.errors import UserError
from pnm.null_model.stored.surprisal import SURPRISAL_SCALE
from pnm.programs import program

FORMAT = 1
MANIFEST = "manifest.jsonl"
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightMapParameters:
    """What the maps of one folder have in common.

    ``dataset`` is the registered name, ``labels`` whether its label files are "semantic" label maps or "panoptic" PNGs;
    the others are arguments of :func:`pnm.null_model.null_model.pixel_null_model`.
    """

    dataset: str
    locality: int = 35
    border: str = "valid"
    ignore_label: int = 255
    labels: str = "semantic"

    def header(self) -> dict[str, Any]:
        """What the manifest's first line holds; "labels" only where they are panoptic."""
        fields = {key: value for key, value in asdict(self).items() if (key, value) != ("labels", "semantic")}
        return {"format": FORMAT, **fields, "surprisal_scale": SURPRISAL_SCALE}


class MapRow(NamedTuple):
    """One label file of a manifest: its base name, digests (hexadecimal SHA-256) of it and of its map, and its size."""

    label: str
    label_digest: str
    map_digest: str
    height: int
    width: int

    def line(self) -> str:
        """The row as it stands in the manifest."""
        fields = self._asdict()
        return json.dumps({**fields, "map": map_name(self.label_digest)}) + "\n"


class Manifest(NamedTuple):
    """A manifest as it was found.

    ``rows`` are the lines that make sense, ``damaged`` the numbers of those that don't, and ``size`` is the bytes up
    to the last line end: what follows was cut off while it was written, if anything does (``torn``).
    """

    header: dict[str, Any]
    rows: list[MapRow]
    damaged: list[int]
    size: int
    torn: bool


def default_weight_root() -> Path:
    """``$DETECTRON2_DATASETS/pnm_weights``, or ``datasets/pnm_weights``."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "pnm_weights"


def weight_folder(root: str | Path, parameters: WeightMapParameters) -> Path:
    """Where the maps of a data set lie under ``root``: those of its semantic labels and of its panoptic PNGs apart."""
    return Path(root) / (parameters.dataset + (".panoptic" if parameters.labels == "panoptic" else ""))


def header_line(parameters: WeightMapParameters) -> str:
    """First line of a manifest."""
    return json.dumps(parameters.header()) + "\n"


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def map_name(label_digest: str) -> str:
    """File name of a map, relative to the folder."""
    return f"maps/{label_digest[:2]}/{label_digest[:24]}.png"


def remedy(parameters: WeightMapParameters, folder: str | Path | None = None, overwrite: bool = False) -> str:
    """The command that makes the weight maps.

    Args:
        folder: where they belong; ``--output`` is mentioned unless that is the default place.
        overwrite: whether maps of other parameters give way; all parameters are spelt out then.
    """
    words = [*program("precompute_weights"), "--dataset", parameters.dataset]
    words += ["--locality", str(parameters.locality)]
    if parameters.labels != "semantic":
        words += ["--labels", parameters.labels]
    if parameters.border != "valid" or overwrite:
        words += ["--border", parameters.border]
    if parameters.ignore_label != (255 if parameters.labels == "semantic" else 0) or overwrite:
        words += ["--ignore-label", str(parameters.ignore_label)]
    if folder is not None and Path(folder) != weight_folder(default_weight_root(), parameters):
        words += ["--output", str(Path(folder).parent)]
    return shlex.join(words + ["--overwrite"] * overwrite)


def _row_of(line: bytes) -> MapRow | None:
    """None if the line is not what :meth:`MapRow.line` writes."""
    try:
        fields = json.loads(line)
        row = MapRow(*(fields[key] for key in MapRow._fields))
        digests = all(_DIGEST.fullmatch(digest) for digest in (row.label_digest, row.map_digest))
        sizes = all(type(side) is int and 0 < side < 2**31 for side in (row.height, row.width))
        fits = digests and sizes and isinstance(row.label, str) and fields["map"] == map_name(row.label_digest)
    except (ValueError, KeyError, TypeError):
        return None
    return row if fits else None


def read_manifest(folder: str | Path, parameters: WeightMapParameters) -> Manifest:
    """The manifest of a folder, whatever its parameters; ``parameters`` are for the command that messages give.

    Raises:
        UserError: there is none, it cannot be read, or its first line is no header of this format.
    """
    path = Path(folder) / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"data set {parameters.dataset} has no weight maps in {folder}; run: {remedy(parameters, folder)}"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    *lines, tail = content.split(b"\n")
    try:
        header = json.loads(lines[0])
        version = header["format"]
    except (IndexError, ValueError, KeyError, TypeError):
        command = remedy(parameters, folder, overwrite=True)
        raise UserError(f"{path} is damaged: its first line is no header of weight maps; run: {command}") from None
    if version != FORMAT:
        command = remedy(parameters, folder, overwrite=True)
        raise UserError(f"{path} has format {version!r}, expected {FORMAT}; run: {command}")
    rows = [_row_of(line) for line in lines[1:]]
    damaged = [number for number, row in enumerate(rows, 2) if row is None]
    return Manifest(header, [row for row in rows if row], damaged, len(content) - len(tail), bool(tail))


def check_header(manifest: Manifest, folder: str | Path, expected: WeightMapParameters) -> None:
    """A UserError that says what differs, unless the maps were made with the ``expected`` parameters."""
    differing = [key for key, value in expected.header().items() if manifest.header.get(key) != value]
    if differing:
        present = ", ".join(f"{key} {manifest.header.get(key)}" for key in differing)
        wanted = ", ".join(f"{key} {value}" for key, value in expected.header().items() if key in differing)
        raise UserError(
            f"the weight maps in {folder} have {present}, expected {wanted}; to replace them, run: "
            f"{remedy(expected, folder, overwrite=True)} (or keep them, and use another folder with --output)"
        )
