"""Semantic labels as files of pixels have them: numbers of classes, and one or more for no class.

An example, of two classes that a file calls 7 and 8, and 0 where there is none::

    >>> values = np.array([[7, 8, 0]], np.uint8)
    >>> labels = places_of(values, {7: 0, 8: 1}, {0}, "a.png", "")
    >>> labels.tolist(), numbers_of_places(labels, [7, 8], 0).tolist()
    ([[0, 1, -1]], [[7, 8, 0]])
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

import numpy as np

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, Category
from pnm.errors import UserError, listed
from pnm.formats.folders import stem

_UNKNOWN = -2


def places_of(
    values: np.ndarray, places: Mapping[int, int], void: Collection[int], name: str | Path, advice: str
) -> np.ndarray:
    """Places in a list of classes, (H, W) int32.

    Args:
        values: (H, W) uint8 or uint16 of a file.
        places: of each number of a class.
        void: numbers that stand for no class. A number of a class is no such, even if it is among them.
        name: of the file, for messages.
        advice: what to do about numbers that are neither.

    Raises:
        UserError: there are some; the message counts their pixels.
    """
    table = np.full(2**16 if values.dtype == np.uint16 else 256, _UNKNOWN, np.int32)
    for number, place in [*((number, NO_CLASS) for number in void), *places.items()]:
        if number < len(table):
            table[number] = place
    labels = table[values]
    if labels.min(initial=0) == _UNKNOWN:
        strange, pixels = np.unique(values[labels == _UNKNOWN], return_counts=True)
        each = [f"{value} ({count} pixels)" for value, count in zip(strange.tolist(), pixels.tolist())]
        known = f"{min(places)} to {max(places)}" if places else "none"
        raise UserError(f"{name} has values that no class has, {listed(each)}; the classes have {known}: {advice}")
    return labels


def numbers_of_places(labels: np.ndarray, numbers: Sequence[int], void: int) -> np.ndarray:
    """(H, W) uint8, or uint16 if a number needs it, of places in a list of classes.

    Args:
        labels: (H, W), ``NO_CLASS`` where there is none.
        numbers: of each class.
        void: what stands for no class.
    """
    most = max([*numbers, void])
    table = np.array([*numbers, void], np.uint8 if most < 256 else np.uint16)
    return table[np.where(labels == NO_CLASS, len(numbers), labels)]


def where_changed(new: np.ndarray, old: np.ndarray, meaning: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Values to be written over an old file's: the old ones stay where they mean what is wanted.

    Args:
        new, old: (H, W) values.
        meaning, before: (H, W) what they stand for.
    """
    return np.where(meaning == before, old, new)


def names_as_categories(names: Iterable[str], first: int = 0) -> tuple[Category, ...]:
    """Classes numbered on from ``first``."""
    return tuple(Category(name, number) for number, name in enumerate(names, first))


def png_names(images: Sequence[AnnotatedImage], ending: str = ".png") -> list[str]:
    """Files of labels, with the folders and names of the images.

    Raises:
        UserError: two images differ in their endings only; a name leads out of the folder.
    """
    names: dict[str, str] = {}
    for image in images:
        check_inside(image.name, "image")
        file = stem(image.name) + ending
        if file in names:
            raise UserError(f"images {names[file]} and {image.name} would both have the labels {file}: rename one")
        names[file] = image.name
    return list(names)


def check_inside(name: str, what: str) -> None:
    """A UserError if a relative path with slashes leads out of its folder."""
    windows = PureWindowsPath(name)
    if not windows.name or windows.anchor or ".." in windows.parts or "\0" in name:
        raise UserError(f"{what} {name!r} leads out of its folder: expected a name in it")


def first_png(folder: Path) -> Path | None:
    """Some PNG of a folder or one in it, the first that is met; links to folders are not followed, and photographs in
    its folder "images" don't count."""
    for here, folders, files in os.walk(folder):
        is_top = Path(here) == folder
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (is_top and name == "images"))
        for name in sorted(files):
            if name.lower().endswith(".png") and not name.startswith("."):
                return Path(here, name)
    return None
