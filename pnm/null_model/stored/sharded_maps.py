"""Weight maps that several machines make: maps in one folder, a manifest for each shard until all are there.

A shard's manifest is ``shards/K-of-N/manifest.jsonl`` in the folder of the maps. A shard that is through has a row for
each of its label files there, in their order, so that rows can be put into the order of the data set.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pnm.errors import UserError
from pnm.null_model.stored.folder_lock import folder_locked
from pnm.null_model.stored.manifest import MANIFEST, MapRow, WeightMapParameters, check_header, map_name, read_manifest
from pnm.null_model.stored.writer import WriteSummary, put_manifest, remove_orphans, write_shard
from pnm.shards import Shard, all_shards, check_one_count, raise_faults

_SHARDS = "shards"


def _check_count(folder: Path, of: int) -> None:
    shards = folder / _SHARDS
    check_one_count([path.name for path in shards.iterdir()] if shards.is_dir() else [], of, shards)


def _distinct(label_files: Sequence[str | Path]) -> list[str]:
    return list(dict.fromkeys(map(str, label_files)))


def write_map_shard(
    folder: str | Path, parameters: WeightMapParameters, label_files: Sequence[str | Path], shard: Shard, **running: Any
) -> WriteSummary:
    """Makes the weight maps of a shard of the label files. Other shards may be made at the same time.

    Args:
        label_files: all of the data set.
        running: ``workers``, ``overwrite`` and ``progress`` of :func:`pnm.null_model.stored.writer.write_weight_maps`,
            which has the same errors.

    Raises:
        UserError: there are shards of another number.
    """
    folder = Path(folder)
    _check_count(folder, shard.of)
    own = folder / _SHARDS / shard.folder_name
    return write_shard(folder, own, parameters, shard.part(_distinct(label_files)), **running)


def merge_map_shards(
    folder: str | Path,
    parameters: WeightMapParameters,
    label_files: Sequence[str | Path],
    of: int,
    *,
    overwrite: bool = False,
) -> int:
    """Makes the manifest of the data set from those of its shards, and removes maps of no label file; their number.

    The folder is then, to the byte, what one run would have made. Maps are not read: that each is there is all that is
    looked at.

    Raises:
        UserError: shards lack maps, are damaged or of other parameters, the message names them; shards of another
            number, or a manifest of other parameters without ``overwrite``.
    """
    folder, files = Path(folder), _distinct(label_files)
    with folder_locked(folder):
        _check_count(folder, of)
        if (folder / MANIFEST).exists() and not overwrite:
            check_header(read_manifest(folder, parameters), folder, parameters)
        present = {path.relative_to(folder).as_posix() for path in folder.glob("maps/??/*.png")}
        rows: list[MapRow | None] = [None] * len(files)
        faults = {}
        for shard in all_shards(of):
            own = shard.part(files)
            try:
                rows[shard.number - 1 :: of] = _whole_rows(folder, parameters, shard, own, present) if own else []
            except UserError as error:
                faults[shard] = str(error)
        raise_faults(faults, of)
        whole = list(dict.fromkeys(row for row in rows if row))
        put_manifest(folder, parameters, whole)
        removed = remove_orphans(folder, whole)
        shutil.rmtree(folder / _SHARDS, ignore_errors=True)
    return removed


def _whole_rows(
    folder: Path, parameters: WeightMapParameters, shard: Shard, files: Sequence[str], present: set[str]
) -> list[MapRow]:
    """A row for each label file of a shard; a UserError if it isn't through, or a map is gone."""
    own = folder / _SHARDS / shard.folder_name
    if not (own / MANIFEST).is_file():
        raise UserError(f"there is no {own / MANIFEST}")
    manifest = read_manifest(own, parameters)
    check_header(manifest, own, parameters)
    if manifest.torn or manifest.damaged or [row.label for row in manifest.rows] != [Path(file).name for file in files]:
        raise UserError(f"{own / MANIFEST} has not one row for each of its {len(files)} label files")
    gone = [row for row in manifest.rows if map_name(row.label_digest) not in present]
    if gone:
        raise UserError(f"{len(gone)} of its {len(files)} maps are missing, such as that of {gone[0].label}")
    return manifest.rows
