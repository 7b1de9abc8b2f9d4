"""Files of what a shard's images score: arrays and a JSON of what they belong to, in an ``.npz`` without pickle."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.formats.atomic_files import atomic_file
from pnm.scoring.scores import ImageFault, ImagesPart, ImagesState, ResultFiles
from pnm.shards import Shard

FORMAT = 1
_HEADER, _PLACES = "header", "places"
_DAMAGES = (ValueError, KeyError, TypeError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


class SideState(NamedTuple):
    """What a shard knows of one prediction.

    Attributes:
        problems: lines on what doesn't fit in the files as a whole, which all shards see.
        faults: what doesn't fit in the shard's images.
        remarks: lines that all shards see.
        images: what those that could be scored score.
    """

    problems: list[str]
    faults: list[ImageFault]
    remarks: list[str]
    images: ImagesState

    @classmethod
    def of(cls, files: ResultFiles, images: Sequence[Any], workers: int, progress: bool) -> "SideState":
        """Scores images of files that were opened for a shard."""
        whole = files.problems[: len(files.problems) - len(files.faults)]
        return cls(whole, files.faults, files.remarks, files.state(images, workers, progress))


class StateFile(NamedTuple):
    """A file as it was read, but for its arrays.

    Attributes:
        belongs: what it belongs to, by what that is called.
        shard: whose images these are.
        listed: number of all images of the ground truth.
        sides: of one or two predictions, with no arrays but ``places``.
    """

    path: Path
    belongs: dict[str, Any]
    shard: Shard
    listed: int
    sides: list[SideState]

    def part(self, side: int, places: np.ndarray) -> ImagesPart:
        """The images of a side, whose ``places`` among all that are scored are given."""
        images = self.sides[side].images
        return ImagesPart(images.keys, images.names, places, lambda name: self.array(side, name))

    def array(self, side: int, name: str) -> np.ndarray:
        """An array, read from the file; a UserError if that is damaged."""
        with _damage_told(self.path), np.load(self.path, allow_pickle=False) as arrays:
            return _member(arrays, f"{side} {name}")


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror or error})") from None
    except _DAMAGES:
        raise UserError(f"{path} is no whole state of a shard") from None


def write_state(
    path: str | Path, belongs: Mapping[str, Any], shard: Shard, listed: Sequence[Any], sides: Sequence[SideState]
) -> None:
    """Writes a file, whole or not at all.

    Args:
        belongs: what the state belongs to: states that are put together must agree in it; as JSON has it.
        listed: keys of all images of the ground truth, in its order.
    """
    places = {key: n for n, key in enumerate(listed)}
    rows, arrays = [], dict[str, np.ndarray]()
    for n, side in enumerate(sides):
        state = side.images
        row = {"problems": side.problems, "faults": side.faults, "remarks": side.remarks}
        rows.append({**row, "about": state.about, "keys": state.keys, "names": state.names})
        of_side = {**state.arrays, _PLACES: np.array([places[key] for key in state.keys], np.int64)}
        arrays |= {f"{n} {name}": array for name, array in of_side.items()}
    header = {"format": FORMAT, "belongs": dict(belongs), "shard": shard, "listed": len(listed), "sides": rows}
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with atomic_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_state(path: str | Path) -> StateFile:
    """A state's file, of which arrays are read when they are asked for.

    Raises:
        UserError: it isn't there, damaged, of another format, or says what can't be.
    """
    path = Path(path)
    with _damage_told(path):
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(_member(arrays, _HEADER).tobytes())
            if header["format"] != FORMAT:
                raise UserError(f"{path} is of format {header['format']!r}, expected {FORMAT}: make it anew")
            shard, listed = Shard(*map(_whole, header["shard"])), _whole(header["listed"])
            sides = [
                _side(row, _member(arrays, f"{n} {_PLACES}"), shard, listed) for n, row in enumerate(header["sides"])
            ]
        if not 1 <= shard.number <= shard.of or len(sides) not in (1, 2):
            raise ValueError
        return StateFile(path, dict(header["belongs"]), shard, listed, sides)


def _member(arrays: Mapping[str, Any], name: str) -> np.ndarray:
    """An array of an archive, which also gives what is none, as bytes."""
    array = arrays[name]
    if not isinstance(array, np.ndarray):
        raise ValueError
    return array


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _side(row: Mapping[str, Any], places: np.ndarray, shard: Shard, listed: int) -> SideState:
    """What the header says of a prediction; a ValueError or its like if it can't be."""
    keys, names = list(row["keys"]), [str(name) for name in row["names"]]
    if len(set(keys)) != len(keys) or len(names) != len(keys) or places.shape != (len(keys),):
        raise ValueError
    if places.dtype != np.int64 or len(np.unique(places)) != len(places):
        raise ValueError
    if places.size and not ((places >= 0) & (places < listed) & (places % shard.of == shard.number - 1)).all():
        raise ValueError
    faults = [ImageFault(_whole(place), str(line)) for place, line in row["faults"]]
    lines = [[str(line) for line in row[name]] for name in ("problems", "remarks")]
    return SideState(lines[0], faults, lines[1], ImagesState(dict(row["about"]), keys, names, {_PLACES: places}))
