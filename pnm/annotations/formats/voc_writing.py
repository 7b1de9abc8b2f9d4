"""Pascal VOC's segmentation PNGs and lists of images, see :mod:`pnm.annotations.formats.voc`."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotationSet
from pnm.annotations.formats.class_lists import check_same_classes
from pnm.annotations.formats.label_maps import png_names
from pnm.annotations.formats.painted_objects import NOTHING, Covered, numbers_within
from pnm.annotations.formats.png_encoding import palette_png
from pnm.annotations.formats.voc_classes import (
    BACKGROUND_NAME,
    BORDER,
    MOST,
    VOC_NAMES,
    VocClasses,
    labelmap_text,
    numbered,
    read_values,
    voc_palette,
)
from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.folders import stem

_FORMAT = "voc"
logger = logging.getLogger(__name__)


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """PNGs and lists of images; ``labelmap.txt`` where classes aren't VOC's.

    Of objects that overlap, the later one has the pixels. No border is drawn. Crowds become border, as the challenge
    passes over what it calls difficult; semantic pixels of no class do so, too.

    Raises:
        UserError: more than 254 classes, or objects of an image; two images with one name but for the ending.
    """
    if not parts:
        return
    check_same_classes(parts)
    png_names([image for annotations in parts.values() for image in annotations.images])
    first = next(iter(parts.values()))
    classes = _classes(first)
    if classes.names[1:] != VOC_NAMES or classes.labelmap is not None:
        write_text(output / "labelmap.txt", classes.labelmap or labelmap_text(classes))
    covered, crowds = Covered(), 0
    for annotations in parts.values():
        for image in annotations.images:
            if annotations.task == "semantic":
                _write_labels(annotations, image, classes, output)
            else:
                crowds += _write_objects(annotations, image, classes, output, covered)
    covered.log(logger, "Pascal VOC's PNGs")
    if crowds:
        logger.warning("Pascal VOC has no crowds: %d are written as border, which isn't evaluated", crowds)
    _write_lists(parts, output)


def _classes(annotations: AnnotationSet) -> VocClasses:
    names = tuple(category.name for category in annotations.categories)
    if annotations.task == "instance" and BACKGROUND_NAME in names:
        raise UserError("a class of objects is called background, which Pascal VOC calls what is none: rename it")
    raw = annotations.raw if annotations.format == _FORMAT else None
    if isinstance(raw, VocClasses) and names in (raw.names, raw.names[1:]):
        return raw
    return numbered(names)


def _write_lists(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    lists = {split or "default": [stem(image.name) for image in one.images] for split, one in parts.items()}
    if {"train", "val"} <= lists.keys():
        lists.setdefault("trainval", sorted([*lists["train"], *lists["val"]]))
    for split, names in lists.items():
        write_text(output / f"ImageSets/Segmentation/{split}.txt", "".join(f"{name}\n" for name in names))


def _write_png(path: Path, values: np.ndarray, colours: np.ndarray, old: tuple[Path, np.ndarray] | None) -> None:
    """A PNG; ``old`` a file with its values, which is copied if it has the same."""
    same = old is not None and np.array_equal(old[1], values)
    write_bytes(path, old[0].read_bytes() if old is not None and same else palette_png(values, colours))


def _write_labels(annotations: AnnotationSet, image: AnnotatedImage, classes: VocClasses, output: Path) -> None:
    names = [category.name for category in annotations.categories]
    table = np.array([*map(classes.names.index, names), BORDER], np.uint8)
    labels = annotations.read(image)
    values = table[np.where(labels == NO_CLASS, len(names), labels)]
    old = None
    if _is_own(annotations, image, classes):
        old = image.raw.labels, read_values(image.raw.labels, classes, count=len(classes.names))
    _write_png(output / "SegmentationClass" / f"{stem(image.name)}.png", values, classes.colours, old)


def _is_own(annotations: AnnotationSet, image: AnnotatedImage, classes: VocClasses) -> bool:
    """Whether an image's PNGs were read from this format, with the same classes."""
    return annotations.format == _FORMAT and image.raw is not None and image.raw.classes is classes


def _write_objects(
    annotations: AnnotationSet, image: AnnotatedImage, classes: VocClasses, output: Path, covered: Covered
) -> int:
    """Writes both PNGs of an image; the number of its crowds."""
    objects = annotations.read(image)
    if len(objects) > MOST:
        raise UserError(f"image {image.name} has {len(objects)} objects, Pascal VOC's PNGs have place for {MOST}")
    numbers = numbers_within([thing.id for thing in objects], MOST)
    of_object = [BORDER if thing.iscrowd else number for thing, number in zip(objects, numbers)]
    of_class = [BORDER if thing.iscrowd else thing.category + 1 for thing in objects]
    places = covered.paint(image, objects)
    painted = np.where(places == NOTHING, len(objects), places)
    values, labels = (np.array([*row, 0], np.uint8)[painted] for row in (of_object, of_class))
    old_objects = old_labels = None
    if _is_own(annotations, image, classes):
        before = read_values(image.raw.objects, numbered(()))
        labels_before = read_values(image.raw.labels, classes, count=len(classes.names))
        renamed = [number for number, thing in zip(of_object, objects) if thing.raw != thing.category]
        same = (values == np.where(before == BORDER, 0, before)) & ~np.isin(values, renamed)
        values, labels = np.where(same, before, values), np.where(same, labels_before, labels)
        old_objects, old_labels = (image.raw.objects, before), (image.raw.labels, labels_before)
    name = f"{stem(image.name)}.png"
    _write_png(output / "SegmentationObject" / name, values, voc_palette(), old_objects)
    _write_png(output / "SegmentationClass" / name, labels, classes.colours, old_labels)
    return sum(thing.iscrowd for thing in objects)
