"""The one rule by which files are found in a folder and the folders in it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pnm.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class SameNameError(UserError):
    """Two files of one folder, or of folders in it, are of images of one name."""


def files_below(folder: str | Path, *endings: str) -> list[str]:
    """Paths below a folder, with slashes, sorted, of files whose names end so, in whatever case.

    Links to files and folders are followed; a folder that is met again, as in a loop of links, is not entered twice.
    Hidden files and folders (``._a.png``, ``.ipynb_checkpoints``) are passed over.

    Args:
        endings: such as ".png" or "_pred.txt".
    """
    wanted = tuple(ending.lower() for ending in endings)
    return sorted(path for path in _walk(str(folder), "", set()) if path.lower().endswith(wanted))


def label_pngs_below(folder: str | Path) -> list[str]:
    """As :func:`files_below` of PNGs; those in the folder's own "images" are photographs, if there are others."""
    files = files_below(folder, ".png")
    return [file for file in files if not file.startswith("images/")] or files


def one_file_each(named: Iterable[tuple[str, Path]], folder: str | Path, kind: str) -> dict[str, Path]:
    """Files of a folder by the names of their images, sorted.

    Args:
        named: (name of the image, file).
        kind: of the files, as messages call them.

    Raises:
        FileNotFoundError: there are none.
        SameNameError: two are of one image.
    """
    by_name: dict[str, Path] = {}
    for name, file in named:
        if name in by_name:
            raise SameNameError(f"{by_name[name]} and {file} are both of image {name}: keep one of them in {folder}")
        by_name[name] = file
    if not by_name:
        raise FileNotFoundError(f"{folder} has no {kind} in it: check the path")
    return dict(sorted(by_name.items()))


def overlap(one: Path, other: Path) -> bool:
    """Whether a path is the other or lies in it, or the other way round; links are followed."""
    one, other = one.resolve(), other.resolve()
    return one == other or one in other.parents or other in one.parents


def check_apart(images: Path, output: Path, what: str, *, of: str = "--images", taken_for: str = "images") -> None:
    """A UserError if one folder is the other or lies in it: ``what`` is written would be taken for images.

    Args:
        of, taken_for: what the user calls the folder, and what is in it.
    """
    if overlap(images, output):
        raise UserError(
            f"--output {output} and {of} {images} lie one in the other, and {what} would be taken for {taken_for}: "
            f"choose an output folder beside the {taken_for}'"
        )


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
