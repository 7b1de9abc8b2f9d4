"""Pascal VOC's segmentation: palette PNGs of classes and of objects, and lists of images.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, section 4 of the development kit's document::

    ImageSets/Segmentation/{train,val,...}.txt    a name without ending in each line
    JPEGImages/*.jpg
    SegmentationClass/*.png                       0 background, 1... classes, 255 border
    SegmentationObject/*.png                      0 background, 1... objects, 255 border
    labelmap.txt                                  classes and colours, where they aren't VOC's (CVAT, Datumaro)

An object's class is that of most of its pixels. The border is of no class and no object.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pnm.annotations.annotation_format import SPLITS, AnnotationFormat, Source
from pnm.annotations.annotation_set import (
    NO_CLASS,
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Category,
)
from pnm.annotations.formats.label_maps import check_inside, places_of
from pnm.annotations.formats.voc_classes import (
    BACKGROUND,
    BORDER,
    MOST,
    VOC_NAMES,
    VocClasses,
    numbered,
    read_labelmap,
    read_values,
)
from pnm.annotations.formats.voc_writing import write
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError, listed
from pnm.formats.folders import files_below, stem
from pnm.formats.label_png import png_size_of
from pnm.masks.crops import crop_segments

NAME = "voc"
CLASSES, OBJECTS, LISTS = "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"


class VocFiles(NamedTuple):
    """PNGs of an image; ``raw`` of what is read here."""

    labels: Path
    objects: Path | None
    classes: VocClasses


def recognises(path: Path) -> bool:
    """Whether a folder has one of class PNGs in it."""
    return (path / CLASSES).is_dir()


def read(source: Source) -> AnnotationSet:
    """Objects, or classes where those are asked for, or there are no objects.

    Raises:
        FileNotFoundError: no such folder or list.
        UserError: no listed image has labels; the labelmap makes no sense. What is wrong with a PNG is told when its
            image is read.
    """
    root, classes = source.path, _classes(source)
    if not recognises(root):
        raise FileNotFoundError(f"{root} has no folder {CLASSES}: name the folder that has it and ImageSets in it")
    remarks = []
    task = source.task or "instance"
    if task == "instance" and not (root / OBJECTS).is_dir():
        if source.task:
            raise UserError(
                f"{root} has no folder {OBJECTS}, so it is read as semantic only: add it, or say --task semantic"
            )
        task = "semantic"
        remarks.append(f"{root} has no folder {OBJECTS}: classes are read, and no objects")
    folders = [CLASSES] if task == "semantic" else [CLASSES, OBJECTS]
    names = _listed_names(root, source.split)
    labelled = [name for name in names if all((root / folder / f"{name}.png").is_file() for folder in folders)]
    if not labelled:
        raise UserError(f"none of {len(names)} images of {root} has PNGs in {' and '.join(folders)}: check the folder")
    if len(labelled) < len(names):
        without = [name for name in names if name not in set(labelled)]
        remarks.append(f"{len(without)} listed images have no labels, and are left out: {listed(without)}")
    images, folder = _images(source, labelled, classes)
    categories = [Category(name, number) for number, name in enumerate(classes.names)]
    return AnnotationSet(
        NAME,
        task,
        tuple(categories if task == "semantic" else categories[1:]),
        images,
        _labels if task == "semantic" else _objects,
        folder,
        classes,
        tuple(remarks),
    )


def _classes(source: Source) -> VocClasses:
    labelmap = source.path / "labelmap.txt"
    if source.classes is not None:
        return numbered(source.classes)
    return read_labelmap(labelmap) if labelmap.is_file() else numbered(VOC_NAMES)


def _listed_names(root: Path, split: str | None) -> list[str]:
    """Names of a list, of all lists, or of all PNGs where there is no list."""
    folder = root / LISTS
    lists = [file for file in files_below(folder, ".txt")] if folder.is_dir() else []
    if split is not None:
        if f"{split}.txt" not in lists:
            there = listed([stem(file) for file in lists]) or "none"
            raise FileNotFoundError(f"{folder / split}.txt is missing: expected a list of images; there is {there}")
        lists = [f"{split}.txt"]
    if not lists:
        return [stem(file) for file in files_below(root / CLASSES, ".png")]
    names: dict[str, None] = {}
    for file in lists:
        try:
            lines = (folder / file).read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{folder / file} cannot be read ({error}): expected a name in each line") from None
        for n, line in enumerate(lines, 1):
            if line.strip():
                check_inside(line.strip(), f"{folder / file}, line {n}:")
                names[line.strip()] = None
    return list(names)


def _images(
    source: Source, names: Sequence[str], classes: VocClasses
) -> tuple[tuple[AnnotatedImage, ...], Path | None]:
    """Annotated images and their folder; without one, they are taken for JPEGs."""
    folder = source.images or source.path / "JPEGImages"
    known = ImageFolder(folder) if source.images or folder.is_dir() else None
    objects = (source.path / OBJECTS).is_dir()
    images = []
    for name in names:
        labels, parts = (source.path / kind / f"{name}.png" for kind in (CLASSES, OBJECTS))
        file = known.of_stem(f"{name}.png") if known else None
        raw = VocFiles(labels, parts if objects else None, classes)
        images.append(AnnotatedImage(file or f"{name}.jpg", *png_size_of(labels), raw=raw))
    return tuple(images), folder if known else None


def _labels(image: AnnotatedImage) -> np.ndarray:
    path, _, classes = image.raw
    places = {number: number for number in range(len(classes.names))}
    values = read_values(path, classes, count=len(places))
    return places_of(values, places, {BORDER}, path, "name all classes, in a labelmap.txt or by --classes")


def _objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
    """The objects by their numbers."""
    labels, path = _labels(image), image.raw.objects
    values = read_values(path, numbered(()))
    if values.shape != labels.shape:
        raise UserError(f"{path} is {values.shape}, {image.raw.labels} {labels.shape}: expected PNGs of one size")
    present = [number for number in np.unique(values).tolist() if BACKGROUND < number <= MOST]
    classes = [_class_of(labels[values == number], path, number) - 1 for number in present]
    return tuple(
        AnnotatedObject(category, crop=crop, id=number, raw=category)
        for category, number, crop in zip(classes, present, crop_segments(values, present))
    )


def _class_of(labels: np.ndarray, path: Path, number: int) -> int:
    inside = labels[(labels != BACKGROUND) & (labels != NO_CLASS)]
    if not inside.size:
        raise UserError(f"{path}: object {number} has no class in {CLASSES}: draw it there, or take the object out")
    return int(np.bincount(inside).argmax())


def splits(path: Path) -> tuple[str, ...]:
    """The lists in ImageSets/Segmentation but trainval, which has train and val in it."""
    return tuple(name for name in SPLITS if (path / LISTS / f"{name}.txt").is_file())


FORMAT = AnnotationFormat(
    NAME,
    "Pascal VOC segmentation (a folder with SegmentationClass, SegmentationObject and ImageSets)",
    ("instance", "semantic"),
    ("instance", "semantic"),
    recognises,
    read,
    write,
    is_folder=True,
    has_numbers=True,
    image_place=lambda split, name: f"JPEGImages/{name}",
    splits=splits,
)
