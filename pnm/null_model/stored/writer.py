"""Makes offline weight maps: threads compute, one of them writes the manifest, and a kill costs only work in flight."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats.atomic_files import WriteError, write_bytes, write_text
from pnm.formats.label_png import decode_label_png, decode_panoptic_png, encode_grey16_png, read_bytes
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.stored.check import fault_of_map, map_of_threads, orphan_files
from pnm.null_model.stored.folder_lock import folder_locked
from pnm.null_model.stored.manifest import (
    MANIFEST,
    Manifest,
    MapRow,
    WeightMapParameters,
    check_header,
    digest_of,
    header_line,
    map_name,
    read_manifest,
)
from pnm.null_model.stored.surprisal import check_map_locality, encode_surprisal

logger = logging.getLogger(__name__)


class Seconds(NamedTuple):
    """Where the time went, in seconds of all workers together."""

    read: float = 0.0  # and decode
    model: float = 0.0
    write: float = 0.0  # and encode


class WriteSummary(NamedTuple):
    """What :func:`write_weight_maps` did: maps written, kept and removed, errors of label files, and what it took."""

    written: int
    kept: int
    removed: int
    failures: list[str]
    bytes_written: int
    elapsed: float
    seconds: Seconds


class _Outcome(NamedTuple):
    row: MapRow | None  # None: the label file is no label map, ``failure`` says why
    failure: str = ""
    bytes_written: int = 0
    seconds: Seconds = Seconds()


def make_map(
    label_data: bytes, name: str | Path, parameters: WeightMapParameters
) -> tuple[bytes, tuple[int, int], Seconds]:
    """The PNG of one label file's surprisals, its (height, width), and the time that decoding, model and encoding took.

    Raises:
        UserError: the label file is not a label map, or not a panoptic PNG where the parameters say so.
    """
    times = [time.perf_counter()]
    labels = (decode_panoptic_png if parameters.labels == "panoptic" else decode_label_png)(label_data, name)
    times.append(time.perf_counter())
    ignore_label = parameters.ignore_label
    pnm = pixel_null_model(labels, parameters.locality, ignore_label=ignore_label, border=parameters.border)
    times.append(time.perf_counter())
    png = encode_grey16_png(encode_surprisal(pnm, labels == ignore_label))
    times.append(time.perf_counter())
    height, width = labels.shape
    return png, (height, width), Seconds(*(end - start for start, end in zip(times, times[1:])))


class _Maker:
    """Makes the map of one label file after another, for threads."""

    def __init__(self, folder: Path, parameters: WeightMapParameters, rows: Sequence[MapRow]):
        self.folder, self.parameters = folder, parameters
        self.known = {row.label_digest: row for row in rows}

    def __call__(self, label_file: str | Path) -> _Outcome:
        try:
            return self._make(label_file)
        except WriteError:  # no fault of the label file
            raise
        except UserError as error:
            return _Outcome(None, str(error))

    def _make(self, label_file: str | Path) -> _Outcome:
        start = time.perf_counter()
        data = read_bytes(label_file)
        digest, name = digest_of(data), Path(label_file).name
        row = self.known.get(digest)
        if row and not fault_of_map(self.folder, row):
            return _Outcome(row._replace(label=name))
        reading = time.perf_counter() - start
        png, size, seconds = make_map(data, label_file, self.parameters)
        start = time.perf_counter()
        write_bytes(self.folder / map_name(digest), png)
        row = MapRow(name, digest, digest_of(png), *size)
        seconds = seconds._replace(read=seconds.read + reading, write=seconds.write + time.perf_counter() - start)
        return _Outcome(row, bytes_written=len(png), seconds=seconds)


def _opened_manifest(folder: Path, parameters: WeightMapParameters, overwrite: bool) -> Manifest:
    """The manifest, made where there is none, with a line that was cut off removed."""
    path = folder / MANIFEST
    if overwrite:
        path.unlink(missing_ok=True)
        for leftover in orphan_files(folder, ()):
            leftover.unlink()
    if not path.exists():
        write_text(path, header_line(parameters))
    manifest = read_manifest(folder, parameters)
    check_header(manifest, folder, parameters)
    if manifest.torn:
        os.truncate(path, manifest.size)
    return manifest


def put_manifest(folder: Path, parameters: WeightMapParameters, rows: Sequence[MapRow]) -> None:
    """Writes a manifest anew."""
    write_text(folder / MANIFEST, "".join([header_line(parameters), *(row.line() for row in rows)]))


def remove_orphans(folder: Path, rows: Sequence[MapRow]) -> int:
    """Removes maps that belong to none of the rows, and what killed writers left; the number of the maps."""
    orphans = orphan_files(folder, (row.label_digest for row in rows))
    for path in orphans:
        path.unlink()
    return sum(path.suffix == ".png" for path in orphans)


class _Progress(NamedTuple):
    """What came of label files, and the rows that the manifest lists now, in the order in which they came to it."""

    outcomes: list[_Outcome]
    listed: list[MapRow]


def _make_all(
    own: Path, make: _Maker, files: Sequence[str], listed: Sequence[MapRow], workers: int, progress: bool
) -> _Progress:
    """Makes maps and adds them, one after the other, to the manifest in the folder ``own``."""
    done, seen = _Progress([], list(listed)), set(listed)
    bar = tqdm(total=len(files), desc=make.parameters.dataset, unit="map", disable=not progress)
    with (own / MANIFEST).open("a", encoding="utf-8") as lines:
        for outcome in map_of_threads(make, files, workers, bar):
            done.outcomes.append(outcome)
            if outcome.row and outcome.row not in seen:
                lines.write(outcome.row.line())
                lines.flush()
                done.listed.append(outcome.row)
                seen.add(outcome.row)
    return done


def write_weight_maps(
    folder: str | Path,
    parameters: WeightMapParameters,
    label_files: Sequence[str | Path],
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> WriteSummary:
    """Makes the weight map of each label file that has none, or a damaged one, and removes maps of no label file.

    May be killed at any moment and run again. The folder's bytes in the end depend on the label files and parameters
    alone. A label file that cannot be read is told in the summary, and costs no other its map; nothing is removed then.

    Args:
        folder: what :func:`pnm.null_model.stored.maps.weight_folder` names.
        label_files: all of the data set; an empty list makes an empty manifest and removes nothing.
        workers: threads; nearly all of the work is done outside of Python's lock.
        overwrite: start anew whatever the folder holds; else maps of other parameters are an error.

    Raises:
        UserError: parameters that cannot be, a folder of other parameters, one that is being written or not writable.
    """
    _check(parameters, workers)
    start, folder, files = time.perf_counter(), Path(folder), list(dict.fromkeys(map(str, label_files)))
    with folder_locked(folder):
        manifest = _opened_manifest(folder, parameters, overwrite)
        make = _Maker(folder, parameters, manifest.rows)
        outcomes, listed = _make_all(folder, make, files, manifest.rows, workers, progress)
        rows = list(dict.fromkeys(outcome.row for outcome in outcomes if outcome.row))
        removed = 0
        if rows and all(outcome.row for outcome in outcomes):
            if manifest.damaged or listed != rows:
                put_manifest(folder, parameters, rows)
            removed = remove_orphans(folder, rows)
    return _summary(outcomes, removed, start)


def write_shard(
    folder: str | Path,
    own: str | Path,
    parameters: WeightMapParameters,
    label_files: Sequence[str | Path],
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> WriteSummary:
    """As :func:`write_weight_maps` for a part of the label files, with a manifest of its own; nothing is removed.

    When all maps are made, that manifest has a row for each of the label files, in their order.

    Args:
        folder: of the whole data set, where the maps go; those that its manifest lists need not be made again.
        own: folder of this part's manifest.
    """
    _check(parameters, workers)
    start, folder, own, files = time.perf_counter(), Path(folder), Path(own), list(map(str, label_files))
    with folder_locked(own):
        manifest = _opened_manifest(own, parameters, overwrite)
        known = [] if overwrite else _rows_of_whole(folder, parameters)
        if overwrite:  # of maps that may be other ones from now on
            (folder / MANIFEST).unlink(missing_ok=True)
        make = _Maker(folder, parameters, [*known, *manifest.rows])
        outcomes, listed = _make_all(own, make, files, manifest.rows, workers, progress)
        rows = [outcome.row for outcome in outcomes if outcome.row]
        if len(rows) == len(files) and (manifest.damaged or listed != rows):
            put_manifest(own, parameters, rows)
    return _summary(outcomes, 0, start)


def _rows_of_whole(folder: Path, parameters: WeightMapParameters) -> list[MapRow]:
    """Those of an earlier run over the data set; a UserError if it was one of other parameters."""
    if not (folder / MANIFEST).exists():
        return []
    manifest = read_manifest(folder, parameters)
    check_header(manifest, folder, parameters)
    return manifest.rows


def _check(parameters: WeightMapParameters, workers: int) -> None:
    check_map_locality(parameters.locality, parameters.border)
    if workers < 1:
        raise UserError(f"workers is {workers}, expected a positive number")


def _summary(outcomes: Sequence[_Outcome], removed: int, start: float) -> WriteSummary:
    return WriteSummary(
        written=sum(outcome.bytes_written > 0 for outcome in outcomes),
        kept=sum(bool(outcome.row) and not outcome.bytes_written for outcome in outcomes),
        removed=removed,
        failures=[outcome.failure for outcome in outcomes if not outcome.row],
        bytes_written=sum(outcome.bytes_written for outcome in outcomes),
        elapsed=time.perf_counter() - start,
        seconds=Seconds(*(sum(times) for times in zip(*(outcome.seconds for outcome in outcomes)))),
    )
