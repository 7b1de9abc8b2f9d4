"""Mapillary Vistas' PNGs of 16 bits: ``class << 8 | instance``, and the file that says what the classes are.

Each value of a class that has instances is a thing, all values of another class are one segment of stuff. The class
"Unlabeled" is void.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category, Content, Segments
from pnm.annotations.formats.panoptic_content import classes_of, instances_of
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError, listed
from pnm.formats.coco_instances import read_json
from pnm.formats.folders import files_below
from pnm.formats.label_png import png_size_of, read_label_png

_EXPECTED = '{"labels": [{"name": ..., "readable": ..., "instances": true or false}, ...]}'
_VOID = ("unlabeled", "void--unlabeled")


class _Classes(NamedTuple):
    """Classes of a config.

    Attributes:
        categories: those that aren't void.
        places: in them, of each number; None of void.
        instances: whether each number has them.
    """

    categories: tuple[Category, ...]
    places: list[int | None]
    instances: list[bool]


def instance_annotations(name: str, task: str, folder: Path, config: Path, images: Path) -> AnnotationSet:
    """Annotations of the PNGs in a folder.

    Args:
        name: of the format.
        task: "panoptic", "instance" or "semantic".
        folder: of the PNGs.
        config: the JSON of the classes.
        images: their folder, if it is there.

    Raises:
        FileNotFoundError: no PNG in the folder.
        UserError: the config makes no sense. What is wrong with a PNG is told when its image is read.
    """
    classes = _read_config(config)
    files = files_below(folder, ".png")
    if not files:
        raise FileNotFoundError(f"{folder} has no PNG in it: expected one for each image")
    known = ImageFolder(images) if images.is_dir() else None
    annotated = tuple(
        AnnotatedImage(
            (known and known.of_stem(file)) or f"{file[:-4]}.jpg", *png_size_of(folder / file), raw=folder / file
        )
        for file in files
    )
    things = [place for place, category in enumerate(classes.categories) if category.isthing]
    kept = tuple(c for c in classes.categories if c.isthing or task != "instance")
    return AnnotationSet(name, task, kept, annotated, _reader(task, classes, config, things), images if known else None)


def _reader(task: str, classes: _Classes, config: Path, things: list[int]) -> Callable[[AnnotatedImage], Content]:
    def read(image: AnnotatedImage) -> Content:
        segments = _segments(image.raw, classes, config)
        if task == "panoptic":
            return segments
        return instances_of(segments, things) if task == "instance" else classes_of(segments)

    return read


def _read_config(path: Path) -> _Classes:
    content = read_json(path, _EXPECTED)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, list) or not labels or len(labels) > 256:
        raise UserError(f"{path} has no list of up to 256 labels: expected {_EXPECTED}")
    for n, label in enumerate(labels):
        if not isinstance(label, dict) or not isinstance(label.get("name"), str) or "instances" not in label:
            raise UserError(f"{path}: labels[{n}] is {str(label)[:80]}, expected {_EXPECTED}")
    readable = [label.get("readable") for label in labels]
    differ = all(isinstance(text, str) and text for text in readable) and len(set(readable)) == len(labels)
    categories: list[Category] = []
    places: list[int | None] = []
    for n, label in enumerate(labels):
        if label["name"].lower() in _VOID or str(label.get("readable")).lower() in _VOID:
            places.append(None)
            continue
        places.append(len(categories))
        categories.append(_category(label, n, label["readable"] if differ else label["name"]))
    return _Classes(tuple(categories), places, [bool(label["instances"]) for label in labels])


def _category(label: dict[str, Any], number: int, name: str) -> Category:
    """Numbered from 1 on, as the panoptic JSONs have it."""
    extra = {"color": label["color"]} if "color" in label else {}
    supercategory = label["name"].rpartition("--")[0]
    extra |= {"supercategory": supercategory} if supercategory else {}
    return Category(name, number + 1, bool(label["instances"]), extra)


def _segments(png: Path, classes: _Classes, config: Path) -> Segments:
    """Segments whose ids are the values plus 1, so that 0 is void."""
    values = read_label_png(png)
    if values.dtype != np.uint16:
        raise UserError(f"{png} has 8 bits, expected 16: class << 8 | instance; PNGs of 8 bits are those in labels/")
    of_class = values >> 8
    strange = sorted(set(np.unique(of_class).tolist()) - set(range(len(classes.places))))
    if strange:
        raise UserError(
            f"{png} has classes {listed(strange)}, {config} lists 0 to {len(classes.places) - 1}: take the config of "
            "this version"
        )
    is_thing, is_void = np.array(classes.instances), np.array([place is None for place in classes.places])
    ids = np.where(is_thing[of_class], values, values & 0xFF00).astype(np.int32) + 1
    ids[is_void[of_class]] = 0
    numbers = [k for k in np.unique(ids).tolist() if k]
    segments = [AnnotatedObject(classes.places[(k - 1) >> 8] or 0, id=k) for k in numbers]
    return Segments(ids, tuple(segments))
