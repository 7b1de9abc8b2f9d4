"""What the shards of a run wrote of a refined output, each into a folder of its own below that of the run."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pnm.errors import UserError, listed
from pnm.formats.atomic_files import write_text
from pnm.formats.image_files import Key
from pnm.predictions.records import Place, find_records
from pnm.shards import all_shards, check_one_count, counts_in, raise_faults

_BROKEN = "not_refined.json"  # of a shard that went through


def _folders(folder: Path) -> list[str]:
    """Names of the shards' folders, sorted."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [name for name in names if counts_in([name])]


def check_shard_folders(folder: Path, of: int) -> None:
    """A UserError if a run's folder has shards of another number than ``of``."""
    check_one_count(_folders(folder), of, folder)


def records_of_run(folder: Path, header: Mapping[str, str]) -> dict[Key, Place]:
    """Records of a run's own folder and of those of its shards, whatever their number; errors as :func:`find_records`.

    Of equal keys, the record that was found first counts: they hold the same.
    """
    places = find_records(folder, header)
    for name in _folders(folder):
        for key, place in find_records(folder / name, header).items():
            places.setdefault(key, place)
    return places


def write_broken(folder: Path, broken: Mapping[Key, str]) -> None:
    """Keeps in a shard's folder which images it could not refine, and why, in the place of what it said before."""
    if broken:
        write_text(folder / _BROKEN, json.dumps(list(broken.items())))
    else:
        (folder / _BROKEN).unlink(missing_ok=True)


def _broken_in(folder: Path) -> dict[Key, str]:
    path = folder / _BROKEN
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError):
        return {}  # the images count as missing


def records_of_shards(
    folder: Path, header: Mapping[str, str], every: Sequence[Key], wanted: Collection[Key], of: int
) -> tuple[dict[Key, Place], dict[Key, str]]:
    """Records of all shards of a run, whole or not at all, and why the images could not be refined that lack one.

    Args:
        folder: of the run.
        header: what the records belong to.
        every: keys that the run was split by.
        wanted: those of them that were to be refined.
        of: number of the shards.

    Raises:
        UserError: shards lack images, or belong to another run; the message names them.
    """
    check_shard_folders(folder, of)
    places: dict[Key, Place] = {}
    broken: dict[Key, str] = {}
    known, faults = set(wanted), {}
    for shard in all_shards(of):
        own = folder / shard.folder_name
        try:
            present = find_records(own, header)
        except UserError as error:
            faults[shard] = str(error)
            continue
        keys = [key for key in shard.part(every) if key in known]
        told = _broken_in(own)
        broken |= {key: told[key] for key in keys if key in told and key not in present}
        lacking = [key for key in keys if key not in present and key not in told]
        if lacking:
            faults[shard] = f"{len(lacking)} of its {len(keys)} images are missing in {own}: {listed(lacking)}"
        places |= present
    raise_faults(faults, of)
    return places, broken
