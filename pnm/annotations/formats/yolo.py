"""YOLO segmentation labels: a text file for each image, with a line ``class x1 y1 x2 y2 ...`` for each object.

https://docs.ultralytics.com/datasets/segment/. Coordinates are parts of the image's width and height. An object is one
polygon, so that parts and holes are joined to it by seams, which have no area; COCO's rule makes the very same pixels
of it. Ultralytics' own drawing cuts coordinates off to whole pixels and draws the outline, too, so that a mask grows
below and to the right and a seam gets a pixel wide: 191 random blobs in 640 x 427 grew by 6 % in the median. A number
after the last point is the score of a prediction (``save_conf``). What has no place: several polygons of an object,
attributes, and that an object stands for a crowd, which is written as any.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import yaml

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category, object_masks
from pnm.annotations.formats.entry_checks import label_names, read_text
from pnm.annotations.formats.yolo_layout import (
    SPLITS,
    Layout,
    Pair,
    class_names,
    find_yaml,
    folder_layout,
    named_splits,
    read_layout,
)
from pnm.annotations.image_folder import image_size
from pnm.annotations.outlines import mask_outlines, one_outline
from pnm.errors import UserError
from pnm.formats.atomic_files import write_text
from pnm.formats.folders import files_below
from pnm.masks.crops import MaskCrop

logger = logging.getLogger(__name__)

NAME = "yolo"
_BEYOND = 0.01  # by which coordinates may lie outside of 0 to 1, as in Ultralytics; they are cut off
_BOX = (4, 5)  # numbers after the class: x, y, width, height, and a score
_TRIED, _LONGEST = 20, 2**20  # files and bytes of a row that are looked at to recognise a folder
_DECIMALS = 9  # of a pixel: what multiplication by the size adds to a coordinate is beyond


class _Labels(NamedTuple):
    """Lines of a file as they are, and its path below the data set, with slashes; None if it is elsewhere."""

    path: Path
    name: str | None
    lines: tuple[str, ...]


def recognises(path: Path) -> bool:
    """Whether there is a data.yaml, or text files of which the first has a row of numbers."""
    try:
        if find_yaml(path) is not None:
            return True
        folder = path / "labels" if (path / "labels").is_dir() else path
        rows = (_first_row(folder / name) for name in files_below(folder, ".txt")[:_TRIED]) if path.is_dir() else ()
        return any(
            len(row) > max(_BOX) and row[0].isdecimal() and all(0 <= float(v) <= 1 for v in row[1:]) for row in rows
        )
    except (OSError, ValueError):
        return False


def _first_row(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        words = file.readline(_LONGEST).split()
    return words if path.name != "classes.txt" else []


def read(source: Source) -> AnnotationSet:
    """Objects of a data set: of a data.yaml, of the folder it is in, or of a folder of labels with images and classes.

    An image is called by its path below the folder that all images are in, e.g. ``images`` of ``images/train`` and
    ``images/val``, or ``images/train`` with that split alone. One without a file of labels has no objects.

    Raises:
        FileNotFoundError, UserError: files are missing or damaged, or all labels are boxes.
    """
    file = find_yaml(source.path) or (source.path if source.path.is_file() else None)
    if file is None:
        layout = folder_layout(source.path, source.images, source.classes, source.split)
    else:
        layout = _named_layout(file, source)
    names = layout.names if source.classes is None else dict(enumerate(source.classes))
    images = tuple(_image(pair, layout) for pair in layout.pairs)
    places = {number: place for place, number in enumerate(names)}

    def read_objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        lines = enumerate(image.raw.lines)
        return tuple(_object(text, n, image, places) for n, text in lines if text.strip() and not _is_box(text))

    categories = tuple(Category(name, number) for number, name in names.items())
    remarks = layout.remarks + _remarks(images, layout, source.path)
    return AnnotationSet(
        NAME, "instance", categories, images, read_objects, layout.images, dict(layout.content), remarks
    )


def _named_layout(file: Path, source: Source) -> Layout:
    """The data set of a data.yaml, with the images of the folder that was named where its own are missing."""
    try:
        return read_layout(file, source.split, source.images)
    except FileNotFoundError:
        if source.images is None:
            raise
        labels = file.parent / "labels"
        only = [name for name in SPLITS if (labels / name).is_dir()]
        split = source.split or (only[0] if len(only) == 1 else None)
        return folder_layout(file.parent, source.images, list(class_names(file).values()), split)


def _image(pair: Pair, layout: Layout) -> AnnotatedImage:
    image, path = pair
    text = read_text(path, "labels, a line for each object") if path.is_file() else ""
    below = path.relative_to(layout.root).as_posix() if path.is_relative_to(layout.root) else None
    labels = _Labels(path, below, tuple(text.splitlines()))
    return AnnotatedImage(image.relative_to(layout.images).as_posix(), *image_size(image), raw=labels)


def _is_box(line: str) -> bool:
    return len(line.split()) - 1 in _BOX


def _remarks(images: tuple[AnnotatedImage, ...], layout: Layout, path: Path) -> tuple[str, ...]:
    rows = [(image, line) for image in images for line in image.raw.lines if line.strip()]
    boxes = [image.raw.path for image, line in rows if _is_box(line)]
    if boxes and len(boxes) == len(rows):
        raise UserError(
            f"{path}: all {len(boxes)} labels are boxes, as in {boxes[0]}, which have no masks: segment them first, "
            "e.g. by a model that takes boxes, or name the labels of a segmentation data set"
        )
    without = sum(not pair.labels.is_file() for pair in layout.pairs)
    lines = [f"{path}: {len(boxes)} labels left out that are boxes, as in {boxes[0]}"] if boxes else []
    lines += [f"{path}: {without} of {len(images)} images have no file of labels, and so no objects"] if without else []
    return tuple(lines)


def _object(line: str, number: int, image: AnnotatedImage, places: Mapping[int, int]) -> AnnotatedObject:
    where = f"{image.raw.path}: line {number + 1}"
    try:
        kind, *values = map(float, line.split())
    except ValueError:
        raise UserError(f"{where} is {line[:60]!r}, expected numbers: class x1 y1 x2 y2 x3 y3 ...") from None
    if kind not in places:
        raise UserError(f"{where}: class {line.split()[0]} is not one of {len(places)}, add its name to data.yaml")
    if len(values) < 6:
        raise UserError(f"{where} has {len(values)} numbers after the class, expected three points or more")
    score = values.pop() if len(values) % 2 else None
    points = np.array(values).reshape(-1, 2)
    fits = (points >= -_BEYOND).all() and (points <= 1 + _BEYOND).all() and (score is None or 0 <= score <= 1)
    if not fits:
        raise UserError(f"{where}: {line[:60]!r} has numbers outside 0 to 1: divide x by the width and y by the height")
    pixels = np.round(np.clip(points, 0, 1) * (image.width, image.height), _DECIMALS)
    return AnnotatedObject(places[int(kind)], (pixels,), score=score, raw=number)


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``data.yaml`` and ``labels/<split>/<image>.txt``, "train" without a name; images belong in ``images/<split>``.

    A whole data set that was one of YOLO stays where it was in its folder. Ultralytics wants both "train" and "val".
    """
    names: dict[int, str] | None = None
    content: dict[str, Any] = {}
    for split, annotations in parts.items():
        numbers = _numbers(annotations)
        named = {number: category.name for number, category in zip(numbers, annotations.categories)}
        if names not in (None, named):
            raise UserError(f"splits differ in their classes, {names} and {named}: give all the same")
        names = named
        files = _files(annotations, split)
        for image in annotations.images:
            text = "".join(f"{line}\n" for line in _lines(annotations, image, numbers))
            if text or not _stays(annotations, split) or image.raw.path.is_file():
                write_text(output / files[image.name], text)
        raw = dict(annotations.raw or {}) if annotations.format == NAME else {}
        if not _stays(annotations, split):
            raw = {key: value for key, value in raw.items() if key not in SPLITS}
            raw[split or "train"] = f"images/{split or 'train'}"
        if not _stays(annotations, split) or PurePath(str(raw.get("path", ""))).is_absolute():
            raw.pop("path", None)  # then it is the folder of data.yaml; "." would be the working directory's
        content |= raw
    if "val" not in content:
        logger.warning("Ultralytics wants a split val, too: make one with --val 0.1, or add it to data.yaml")
    whole = {key: value for key, value in content.items() if key not in ("names", "nc")}
    write_text(
        output / "data.yaml", yaml.safe_dump({**whole, "names": names or {}}, sort_keys=False, allow_unicode=True)
    )


def _numbers(annotations: AnnotationSet) -> list[int]:
    """Of the classes: as they were, or from 0."""
    own = annotations.format == NAME
    return [c.id if own and c.id is not None else n for n, c in enumerate(annotations.categories)]


def _stays(annotations: AnnotationSet, split: str) -> bool:
    """Whether the files of a whole data set with a data.yaml keep their places in it."""
    own = annotations.format == NAME and not split and bool(annotations.raw)
    return own and all(image.raw.name for image in annotations.images)


def _files(annotations: AnnotationSet, split: str) -> dict[str, str]:
    """Files of labels, with slashes, by names of images."""
    if _stays(annotations, split):
        return {image.name: image.raw.name for image in annotations.images}
    names = label_names([image.name for image in annotations.images], ".txt")
    return {image: f"labels/{split or 'train'}/{name}" for image, name in names.items()}


def _lines(annotations: AnnotationSet, image: AnnotatedImage, numbers: list[int]) -> Iterator[str]:
    """Lines of an image: boxes, and objects that are as they were, stay as they are."""
    objects = annotations.read(image)
    old = image.raw.lines if annotations.format == NAME else ()
    at = {n: line for n, line in enumerate(old) if line.strip() and _is_box(line)}
    for n, (thing, crop) in enumerate(zip(objects, object_masks(image, objects))):
        place = thing.raw if old and thing.raw is not None else len(old) + n
        if place < len(old) and not thing.redrawn and float(old[place].split()[0]) == numbers[thing.category]:
            at[place] = old[place].strip()
        elif crop.pixels.any():
            at[place] = _line(thing, crop, image, numbers[thing.category])
    return (line for _, line in sorted(at.items()))


def _line(thing: AnnotatedObject, crop: MaskCrop, image: AnnotatedImage, number: int) -> str:
    points = _outline(thing, crop, image) / (image.width, image.height)
    values = [*points.reshape(-1).tolist(), *([] if thing.score is None else [thing.score])]
    return " ".join([str(number), *(f"{value:.15g}" for value in values)])


def _outline(thing: AnnotatedObject, crop: MaskCrop, image: AnnotatedImage) -> np.ndarray:
    """The one polygon of an object: its own where that is in the image, or polygons that don't overlap, or new ones."""
    if thing.polygons:
        whole = one_outline(thing.polygons)
        if (whole >= 0).all() and (whole <= (image.width, image.height)).all():
            again = object_masks(image, [AnnotatedObject(0, (np.round(whole, _DECIMALS),))])[0]
            if _same(again, crop):
                return whole
    return one_outline(mask_outlines(crop))


def _same(one: MaskCrop, other: MaskCrop) -> bool:
    return one[1:] == other[1:] and np.array_equal(one.pixels, other.pixels)


def splits(path: Path) -> tuple[str, ...]:
    """Those that data.yaml names and that have images."""
    file = find_yaml(path)
    return named_splits(file) if file else ()


FORMAT = AnnotationFormat(
    NAME,
    "YOLO segmentation labels (a data.yaml, labels/*.txt)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=True,
    no_place_for=("crowds", "empty objects"),
    has_numbers=True,
    image_place=lambda split, name: f"images/{split or 'train'}/{name}",
    splits=splits,
)
