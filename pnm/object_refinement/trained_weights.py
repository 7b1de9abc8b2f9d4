"""Trained weights by name: ``pnm://universal-small`` comes with this package, others are fetched once and kept.

``weights/index.json`` lists them, ``{name: {"file", "bytes", "sha256", "url"}}``; those without "url" lie beside it.
Fetched ones are kept in ``$PNM_CACHE``, by default ``~/.cache/pnm``. ``$PNM_WEIGHTS_MIRROR``, a folder or a web address
that has the files under their names, is asked in place of "url".
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from pnm.errors import UserError
from pnm.formats.fetched_files import Wanted, fetch, is_wanted

SCHEME = "pnm://"
DEFAULT_WEIGHTS = f"{SCHEME}universal-small"
_FOLDER = Path(__file__).resolve().parent / "weights"
_CACHE, _MIRROR = "PNM_CACHE", "PNM_WEIGHTS_MIRROR"


class TrainedWeights(NamedTuple):
    """A checkpoint that has a name.

    Attributes:
        file: its name in the package, in the cache and at a mirror.
        wanted: size and digest.
        url: where it is published; "" if it comes with the package.
    """

    file: str
    wanted: Wanted
    url: str = ""


def trained_weights(index: Path = _FOLDER / "index.json") -> dict[str, TrainedWeights]:
    """All checkpoints that have names."""
    rows = json.loads(index.read_text("utf-8"))
    return {
        name: TrainedWeights(row["file"], Wanted(row["bytes"], row["sha256"]), row.get("url", ""))
        for name, row in rows.items()
    }


def weights_file(weights: str | Path) -> Path:
    """The file of a checkpoint, fetched if need be.

    Args:
        weights: ``pnm://NAME``, a NAME that is no file here, or a file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: no such name; a file that cannot be had, or is another than it should be.
    """
    path = Path(weights)
    text = str(weights)
    if not text.startswith(SCHEME):
        if path.is_file():
            return path
        if text not in trained_weights():
            raise FileNotFoundError(f"weights {text} are neither a file nor one of {_names()}: check the path")
    name = text.removeprefix(SCHEME).strip("/")
    if name not in trained_weights():
        raise UserError(f"there are no weights {SCHEME}{name}, expected one of {_names()}, or a file")
    return _found(name, trained_weights()[name])


def _names() -> str:
    return ", ".join(SCHEME + name for name in trained_weights())


def _found(name: str, one: TrainedWeights) -> Path:
    shipped, mirror = _FOLDER / one.file, os.environ.get(_MIRROR, "")
    if not one.url and (shipped.is_file() or not mirror):
        if not is_wanted(shipped, one.wanted):
            state = "damaged" if shipped.is_file() else "missing"
            raise UserError(f"{shipped}, which comes with this package, is {state}: install pnm again, or name a file")
        return shipped
    if mirror and not mirror.startswith(("http://", "https://")):
        return _in_folder(Path(mirror), one)
    url = f"{mirror.rstrip('/')}/{one.file}" if mirror else one.url
    kept = _cache() / f"{one.wanted.sha256[:12]}-{one.file}"
    if not is_wanted(kept, one.wanted):
        fetch(url, kept, one.wanted, remedy=_remedy(name, kept))
    return kept


def _in_folder(folder: Path, one: TrainedWeights) -> Path:
    path = folder / one.file
    if not is_wanted(path, one.wanted):
        state = "is another file than expected" if path.is_file() else "does not exist"
        raise UserError(f"{path}, a mirror's by {_MIRROR}, {state}: put the file of SHA-256 {one.wanted.sha256} there")
    return path


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(_CACHE) or Path(base) / "pnm")


def _remedy(name: str, kept: Path) -> str:
    return (
        f"run the same command again, set {_MIRROR} to a folder or address that has it, or put the file at {kept} "
        f"({SCHEME}{name})"
    )
