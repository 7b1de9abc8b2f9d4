"""Classes by other names: renamed, joined, put in another order, or left out."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pnm.annotations.annotation_set import (
    CHANGED,
    NO_CLASS,
    NO_SEGMENT,
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Category,
    Segments,
)
from pnm.errors import UserError, listed

OTHERS = "*"


def read_class_map(path: str | Path) -> dict[str, str]:
    """New names of classes by old ones, from a CSV with ``old,new`` in each line.

    Several old classes may get one new name; an empty new name leaves a class out; a line ``*,new`` says what becomes
    of all classes that aren't listed. The new classes have the order of their first lines.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't such a file, or lists a class twice.
    """
    path, names = Path(path), {}
    try:
        rows = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: expected a CSV with lines old,new") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}): expected a CSV with lines old,new") from None
    for n, row in enumerate(rows, 1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != 2 or not row[0].strip():
            raise UserError(f"{path}, line {n} is {','.join(row)[:60]!r}: expected old,new")
        old, new = (cell.strip() for cell in row)
        if old in names:
            raise UserError(f"{path}, line {n}: class {old} is listed before; give each class one line")
        names[old] = new
    if not names:
        raise UserError(f"{path} is empty: expected a CSV with lines old,new")
    return names


def with_class_map(annotations: AnnotationSet, names: Mapping[str, str]) -> AnnotationSet:
    """Annotations whose classes are renamed as :func:`read_class_map` says; what is of no new class is left out.

    A new class is a thing if all that become it are. Segments of stuff that become one class are joined.

    Raises:
        UserError: a class isn't listed, a listed one isn't there, or things and stuff become one class.
    """
    known = [category.name for category in annotations.categories]
    if OTHERS not in names and (unlisted := [name for name in known if name not in names]):
        raise UserError(
            f"the class map (--map) doesn't say what becomes of {listed(unlisted, 10)}: add lines, or one with *,"
        )
    absent = [name for name in names if name not in known and name != OTHERS]
    if absent:
        raise UserError(f"the class map lists {listed(absent)}, but the classes are {listed(known, 20)}")
    new_of = [names.get(name, names.get(OTHERS, "")) for name in known]
    order = [name for name in dict.fromkeys(names.values()) if name and name in new_of]
    if not order:
        raise UserError("the class map leaves no class: give at least one a new name")
    categories = [_joined(name, [c for c, new in zip(annotations.categories, new_of) if new == name]) for name in order]
    places = [order.index(new) if new else NO_CLASS for new in new_of]
    mapped = _Mapped(annotations, places, [category.isthing for category in categories])
    return replace(annotations, format=CHANGED, categories=tuple(categories), read=mapped.read)


def with_classes(annotations: AnnotationSet, names: Sequence[str]) -> AnnotationSet:
    """Annotations whose classes are in another order, and may be joined by some that don't occur, as in a part of a
    data set.

    Raises:
        UserError: a class that isn't among the names.
    """
    known = {category.name: category for category in annotations.categories}
    strange = [name for name in known if name not in names]
    if strange:
        raise UserError(
            f"there are annotations of {listed(strange)}, but the classes that were given are {listed(names, 20)}: add "
            "them, or rename or leave them out with a class map"
        )
    kinds = {category.isthing for category in annotations.categories}
    isthing = kinds != {False}
    categories = tuple(known.get(name, Category(name, isthing=isthing)) for name in dict.fromkeys(names))
    if any(category.id is None for category in categories):
        categories = tuple(category._replace(id=None) for category in categories)
    places = [list(dict.fromkeys(names)).index(name) for name in known]
    mapped = _Mapped(annotations, places, [category.isthing for category in categories], join=False)
    return replace(annotations, categories=categories, read=mapped.read)


def _joined(name: str, old: Sequence[Category]) -> Category:
    if len({category.isthing for category in old}) > 1:
        raise UserError(f"the class map makes things and stuff one class, {name}: give them two names")
    return Category(name, None, old[0].isthing, old[0].raw if len(old) == 1 else {})


class _Mapped:
    """What is on an image, in the new classes."""

    def __init__(
        self, annotations: AnnotationSet, places: Sequence[int], is_thing: Sequence[bool], *, join: bool = True
    ):
        self._read, self._places, self._is_thing, self._join = annotations.read, places, is_thing, join

    def read(self, image: AnnotatedImage) -> Any:
        content = self._read(image)
        if isinstance(content, np.ndarray):
            return np.array([*self._places, NO_CLASS], np.int32)[content]  # NO_CLASS is the last one
        if isinstance(content, Segments):
            return self._segments(content)
        return tuple(self._kept(content))

    def _kept(self, objects: Iterable[AnnotatedObject]) -> Iterable[AnnotatedObject]:
        for thing in objects:
            place = self._places[thing.category]
            if place != NO_CLASS:
                yield replace(thing, category=place)

    def _segments(self, content: Segments) -> Segments:
        if not self._join:
            return Segments(content.ids, tuple(self._kept(content.segments)))
        kept: dict[Any, AnnotatedObject] = {}  # the first of each segment of stuff, and all others
        new_ids: dict[Any, Any] = {NO_SEGMENT: NO_SEGMENT}
        for thing in self._kept(content.segments):
            is_stuff = not self._is_thing[thing.category] and not thing.iscrowd
            first = kept.setdefault(("stuff", thing.category) if is_stuff else thing.id, thing)
            new_ids[thing.id] = first.id
        ids, index = np.unique(content.ids, return_inverse=True)
        renumbered = np.array([new_ids.get(number, NO_SEGMENT) for number in ids.tolist()], np.int32)
        return Segments(renumbered[index].reshape(content.ids.shape), tuple(kept.values()))
