"""Checks a folder of weight maps against its label files: what is missing, stale, damaged or left over."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats.atomic_files import ENDING
from pnm.formats.label_png import png_size, read_bytes
from pnm.null_model.stored.manifest import (
    MANIFEST,
    MapRow,
    WeightMapParameters,
    check_header,
    digest_of,
    map_name,
    read_manifest,
)

_MAP_NAME = re.compile(r"maps/([0-9a-f]{2})/\1[0-9a-f]{22}\.png")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Finding(NamedTuple):
    """Something wrong: ``kind`` is missing, stale, damaged, orphan or unreadable, ``text`` names the file."""

    kind: str
    text: str


def map_of_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, progress: tqdm
) -> Iterator[Result]:
    """``map(function, items)`` in threads, in order and a few items ahead; whatever ends it leaves no thread behind."""
    with ThreadPoolExecutor(workers) as pool, progress:
        try:
            ahead: deque = deque()
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 4 * workers:
                    yield ahead.popleft().result()
                    progress.update()
            while ahead:
                yield ahead.popleft().result()
                progress.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def fault_of_map(folder: Path, row: MapRow) -> Finding | None:
    """None if the row's map is what was written when the row was."""
    path = folder / map_name(row.label_digest)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        return Finding("missing", f"map {path} of {row.label} {reason}")
    if digest_of(data) != row.map_digest or png_size(data, path) != (row.height, row.width):
        return Finding("damaged", f"map {path} of {row.label} is damaged")
    return None


def orphan_files(folder: Path, label_digests: Iterable[str]) -> list[Path]:
    """Maps of no label file, and temporary files of writers that were killed. Files of other names are not ours."""
    wanted = {map_name(digest) for digest in label_digests}
    names = {path: path.relative_to(folder).as_posix() for path in folder.glob("maps/??/*.png")}
    orphans = [path for path, name in names.items() if _MAP_NAME.fullmatch(name) and name not in wanted]
    return sorted(orphans + list(folder.glob(f"maps/??/.*{ENDING}")) + list(folder.glob(f".{MANIFEST}.*{ENDING}")))


def check_weight_maps(
    folder: str | Path,
    parameters: WeightMapParameters,
    label_files: Sequence[str | Path],
    *,
    workers: int = 1,
    progress: bool = False,
) -> list[Finding]:
    """Reads every label file and map, and says all that is wrong; an empty list if every label file has its map.

    Running :func:`.writer.write_weight_maps` mends all but unreadable label files. Nothing is written.

    Raises:
        UserError: there are no maps at all, or they have other parameters.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, parameters)
    check_header(manifest, folder, parameters)
    of_digest = {row.label_digest: row for row in manifest.rows}
    listed = {(row.label, row.label_digest) for row in manifest.rows}
    names = {row.label for row in manifest.rows}

    def check(label_file: str | Path) -> tuple[str, Finding | None]:
        name = Path(label_file).name
        try:
            digest = digest_of(read_bytes(label_file))
        except UserError as error:
            return "", Finding("unreadable", str(error))
        if (name, digest) in listed:
            return digest, fault_of_map(folder, of_digest[digest])
        if name in names and digest not in of_digest:
            return digest, Finding("stale", f"{label_file} has changed since its weight map was made")
        return digest, Finding("missing", f"{label_file} has no weight map")

    bar = tqdm(total=len(label_files), desc=f"{parameters.dataset}: checking", unit="map", disable=not progress)
    checked = list(map_of_threads(check, label_files, workers, bar))
    findings = [finding for _, finding in checked if finding]
    current = {(Path(file).name, digest) for file, (digest, _) in zip(label_files, checked)}
    findings += [Finding("damaged", f"{folder / MANIFEST} line {line} is damaged") for line in manifest.damaged]
    if manifest.torn:
        findings.append(Finding("damaged", f"{folder / MANIFEST}: its last line is incomplete"))
    if any(finding.kind == "unreadable" for finding in findings):  # whose maps are left over cannot be told
        return findings
    left = [row for row in manifest.rows if (row.label, row.label_digest) not in current]
    findings += [Finding("orphan", f"{folder / MANIFEST} lists {row.label} as it is no more") for row in left]
    digests = {digest for digest, _ in checked}
    return findings + [Finding("orphan", f"{path} belongs to no label file") for path in orphan_files(folder, digests)]
