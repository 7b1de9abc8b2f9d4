"""Cityscapes' PNGs of ids, written of sets that have its classes, see :mod:`pnm.annotations.formats.cityscapes`."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet
from pnm.annotations.formats.label_file import label_file_png
from pnm.annotations.formats.label_maps import png_names
from pnm.annotations.formats.painted_objects import NOTHING, Covered
from pnm.annotations.formats.png_encoding import grey_png
from pnm.cityscapes_classes import CITYSCAPES_CLASSES, CITYSCAPES_INSTANCE_CLASSES, FIRST_INSTANCE
from pnm.errors import UserError, listed
from pnm.formats.atomic_files import write_bytes
from pnm.formats.label_png import read_label_png

_FORMAT = "cityscapes"
INSTANCES, LABELS = "_gtFine_instanceIds.png", "_gtFine_labelIds.png"
SUFFIX = "_leftImg8bit"  # of images
_UNLABELED = 0
logger = logging.getLogger(__name__)


class CityscapesFiles(NamedTuple):
    """PNGs of an image's ids; ``raw`` of one that is read as instances."""

    labels: Path | None
    instances: Path


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``gtFine/<split>/.../*_gtFine_labelIds.png``, and ``*_gtFine_instanceIds.png`` of objects.

    Of objects that overlap, the later one has the pixels. Pixels of nothing are 0, "unlabeled"; in what was read from
    Cityscapes they stay what they were. An object's id stays if it is Cityscapes' for its class. Crowds become groups.

    Raises:
        UserError: classes that aren't Cityscapes'; more than 1000 objects of a class on an image.
    """
    covered = Covered()
    for split, annotations in parts.items():
        label_ids = _label_ids(annotations)
        folder = output / "gtFine" / split
        for image, name in zip(annotations.images, png_names(annotations.images, "")):
            frame = name.removesuffix(SUFFIX)
            if annotations.task == "semantic":
                png = label_file_png(annotations, image, label_ids, _UNLABELED, _FORMAT)
                write_bytes(folder / f"{frame}{LABELS}", png)
            else:
                _write_objects(annotations, image, label_ids, folder / frame, covered)
    covered.log(logger, "Cityscapes' PNGs")


def _label_ids(annotations: AnnotationSet) -> list[int]:
    """Of the categories."""
    classes = CITYSCAPES_CLASSES if annotations.task == "semantic" else CITYSCAPES_INSTANCE_CLASSES
    ids = {name: number for number, name in classes.items()}
    strange = [category.name for category in annotations.categories if category.name not in ids]
    if strange:
        raise UserError(
            f"Cityscapes has no {'classes' if annotations.task == 'semantic' else 'classes of objects'} "
            f"{listed(strange)}: rename them as one of {', '.join(ids)}, leave them out, or write another format"
        )
    return [ids[category.name] for category in annotations.categories]


def _write_objects(
    annotations: AnnotationSet, image: AnnotatedImage, label_ids: Sequence[int], path: Path, covered: Covered
) -> None:
    """``path`` is that of both PNGs without their endings."""
    objects = annotations.read(image)
    numbers = _numbers(objects, label_ids, image)
    places = covered.paint(image, objects)
    painted = np.where(places == NOTHING, len(objects), places)
    values = np.array([*numbers, _UNLABELED], np.uint16)[painted]
    labels = np.array([*(label_ids[thing.category] for thing in objects), _UNLABELED], np.uint8)[painted]
    if annotations.format == _FORMAT and isinstance(image.raw, CityscapesFiles):
        values, labels = _over_old(image.raw, values, labels)
    for ending, content in ((INSTANCES, values), (LABELS, labels)):
        write_bytes(path.with_name(path.name + ending), grey_png(content))


def _numbers(objects: Sequence[AnnotatedObject], label_ids: Sequence[int], image: AnnotatedImage) -> list[int]:
    """Ids of the objects of an image."""
    own = [label_ids[thing.category] for thing in objects]
    kept = [
        thing.id if isinstance(thing.id, int) and not thing.iscrowd and thing.id // FIRST_INSTANCE == label else None
        for thing, label in zip(objects, own)
    ]
    taken: set[int] = set()
    numbers = []
    for thing, label, number in zip(objects, own, kept):
        if thing.iscrowd:
            numbers.append(label)
            continue
        if number is None or number in taken:
            number = _free(label, taken | {k for k in kept if k is not None}, image)
        taken.add(number)
        numbers.append(number)
    return numbers


def _free(label: int, taken: Collection[int], image: AnnotatedImage) -> int:
    first = label * FIRST_INSTANCE
    number = next((k for k in range(first, first + FIRST_INSTANCE) if k not in taken), None)
    if number is None:
        raise UserError(
            f"image {image.name} has more than {FIRST_INSTANCE} objects of class {CITYSCAPES_CLASSES[label]}, which is "
            "all that Cityscapes' ids have place for: leave some out, or write another format"
        )
    return number


def _over_old(files: CityscapesFiles, values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Instance and label ids, old ones where there is the object that was there, or still none."""
    old = read_label_png(files.instances).astype(np.int64)
    of_class = np.where(old >= FIRST_INSTANCE, old // FIRST_INSTANCE, old)
    same = values == np.where(np.isin(of_class, list(CITYSCAPES_INSTANCE_CLASSES)), old, _UNLABELED)
    old_labels = read_label_png(files.labels) if files.labels is not None else of_class
    return np.where(same, old, values).astype(np.uint16), np.where(same, old_labels, labels).astype(np.uint8)
