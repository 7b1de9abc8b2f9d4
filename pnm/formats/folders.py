"""The one rule by which files are found in a folder and the folders in it."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def files_below(folder: str | Path, *endings: str) -> list[str]:
    """Paths below a folder, with slashes, sorted, of files whose names end so, in whatever case.

    Links to files and folders are followed; a folder that is met again, as in a loop of links, is not entered twice.
    Hidden files and folders (``._a.png``, ``.ipynb_checkpoints``) are passed over.

    Args:
        endings: such as ".png" or "_pred.txt".
    """
    wanted = tuple(ending.lower() for ending in endings)
    return sorted(path for path in _walk(str(folder), "", set()) if path.lower().endswith(wanted))


def _walk(folder: str, below: str, entered: set[tuple[int, int]]) -> Iterator[str]:
    state = os.stat(folder)
    if (state.st_dev, state.st_ino) in entered:
        return
    entered.add((state.st_dev, state.st_ino))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if entry.is_dir():
                yield from _walk(entry.path, f"{path}/", entered)
            elif entry.is_file():
                yield path


def stem(path: str) -> str:
    """A relative path without its file's extension."""
    return str(PurePosixPath(path).with_suffix(""))
