"""Cityscapes: label and instance ids as PNGs, in folders of splits and cities.

https://github.com/mcordts/cityscapesScripts#dataset-structure::

    gtFine/{train,val,test}/<city>/<frame>_gtFine_instanceIds.png    class * 1000 + n; of a group the class alone
    gtFine/{train,val,test}/<city>/<frame>_gtFine_labelIds.png       0 to 33
    gtFine/cityscapes_panoptic_<split>.json                          of its script createPanopticImgs
    leftImg8bit/{train,val,test}/<city>/<frame>_leftImg8bit.png

Objects are those of the eight classes that are evaluated, a group of them is a crowd; classes are the nineteen that
are evaluated. Other pixels are of no object and no class.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat, Source, joined
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category
from pnm.annotations.formats.cityscapes_writing import INSTANCES, LABELS, SUFFIX, CityscapesFiles, write
from pnm.annotations.formats.coco_panoptic import panoptic_annotations
from pnm.annotations.formats.label_file import LabelFile, read_label_file
from pnm.annotations.formats.label_maps import first_png
from pnm.annotations.image_folder import ImageFolder
from pnm.cityscapes_classes import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_INSTANCE_CLASSES,
    CITYSCAPES_VOID_IDS,
    FIRST_INSTANCE,
)
from pnm.errors import UserError, listed
from pnm.formats.cityscapes import frame_name
from pnm.formats.coco_panoptic import panoptic_folder
from pnm.formats.folders import files_below
from pnm.formats.label_png import png_size_of, read_label_png
from pnm.masks.crops import crop_segments

NAME = "cityscapes"
SPLITS = ("train", "val", "test", "train_extra")
_LICENCE_PLATE = 255  # -1 as a byte
_ADVICE = "train ids belong in files *_gtFine_labelTrainIds.png, which aren't read: give the label ids"


class _Folders(NamedTuple):
    """Where annotations are: ``labels`` has cities in it, or splits if they are all read; ``fine`` is gtFine."""

    fine: Path
    split: str | None
    labels: Path
    images: Path | None


def recognises(path: Path) -> bool:
    """Whether a folder's first PNG is named as Cityscapes' are; of one with gtFine in it, the first in there."""
    try:
        png = first_png(path / "gtFine" if (path / "gtFine").is_dir() else path) if path.is_dir() else None
    except OSError:
        return False
    return png is not None and "_gtFine_" in png.name


def read(source: Source) -> AnnotationSet:
    """Objects, classes or segments of a split, or of all; names of images have the split before them only then.

    Raises:
        FileNotFoundError: no such folder, split, or files in it.
        UserError: of a panoptic JSON that makes no sense. What is wrong with a PNG is told when its image is read.
    """
    folders = _folders(source)
    task = source.task or "instance"
    if task == "panoptic":
        return _panoptic(source, folders)
    ending = LABELS if task == "semantic" else INSTANCES
    files = files_below(folders.labels, ending)
    if not files:
        raise FileNotFoundError(f"{folders.labels} has no *{ending} in it: check the folder, or make them of polygons")
    classes = CITYSCAPES_CLASSES if task == "semantic" else CITYSCAPES_INSTANCE_CLASSES
    categories = tuple(
        Category(name, number, number in CITYSCAPES_INSTANCE_CLASSES) for number, name in classes.items()
    )
    known = ImageFolder(folders.images) if folders.images is not None else None
    images = tuple(_image(folders.labels, file.removesuffix(ending), ending, known) for file in files)
    reader = _objects if task == "instance" else read_label_file
    return AnnotationSet(NAME, task, categories, images, reader, folders.images)


def _folders(source: Source) -> _Folders:
    path, split = source.path, source.split
    if path.parent.name == "gtFine" and path.name in SPLITS and split is None:
        path, split = path.parent, path.name
    fine = path / "gtFine" if (path / "gtFine").is_dir() else path
    there = [name for name in SPLITS if (fine / name).is_dir()]
    if split is None and len(there) == 1:
        split = there[0]
    if split is not None and not (fine / split).is_dir():
        raise FileNotFoundError(
            f"{fine / split} is not a folder: there is {listed(there) or 'no split'}; check --split"
        )
    if not fine.is_dir():
        raise FileNotFoundError(f"{fine} is not a folder: expected gtFine, or the one that it is in")
    images = source.images or fine.parent / "leftImg8bit"
    if split is not None and (images / split).is_dir():
        images = images / split
    known = source.images is not None or images.is_dir()
    return _Folders(fine, split, fine / split if split else fine, images if known else None)


def _image(folder: Path, frame: str, ending: str, known: ImageFolder | None) -> AnnotatedImage:
    """Of ``<city>/<frame>``."""
    labels, instances = folder / f"{frame}{LABELS}", folder / f"{frame}{INSTANCES}"
    name = f"{frame}{SUFFIX}.png"
    if known is not None:
        name = known.of_stem(name) or known.of_stem(f"{frame}.png") or name
    raw = (
        CityscapesFiles(labels if labels.is_file() else None, instances) if ending == INSTANCES else _label_file(labels)
    )
    return AnnotatedImage(name, *png_size_of(folder / f"{frame}{ending}"), raw=raw)


def _label_file(path: Path) -> LabelFile:
    places = {number: place for place, number in enumerate(CITYSCAPES_CLASSES)}
    void = (*CITYSCAPES_VOID_IDS, _LICENCE_PLATE)
    return LabelFile(path, tuple(CITYSCAPES_CLASSES.values()), places, void, _ADVICE)


def _objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
    """Groups, then objects, by their numbers."""
    values = read_label_png(image.raw.instances)
    places = {number: place for place, number in enumerate(CITYSCAPES_INSTANCE_CLASSES)}
    category = {k: places.get(k // FIRST_INSTANCE if k >= FIRST_INSTANCE else k) for k in np.unique(values).tolist()}
    kept: Mapping[int, int] = {k: place for k, place in category.items() if place is not None}
    return tuple(
        AnnotatedObject(kept[k], crop=crop, id=k, iscrowd=k < FIRST_INSTANCE)
        for k, crop in zip(kept, crop_segments(values, list(kept)))
    )


def _panoptic(source: Source, folders: _Folders) -> AnnotationSet:
    """Segments of ``cityscapes_panoptic_<split>.json``."""
    wanted = f"cityscapes_panoptic_{folders.split or '*'}.json"
    files = sorted(folders.fine.glob(wanted))
    if not files:
        raise FileNotFoundError(
            f"{folders.fine / wanted} is missing: make it with cityscapesscripts' createPanopticImgs, or read "
            "instances (--task)"
        )
    if len(files) > 1:
        raise UserError(f"{folders.fine} has {listed([file.name for file in files])}: name one of the splits (--split)")
    annotations = panoptic_annotations(NAME, source, files[0], panoptic_folder(files[0]))
    images = tuple(replace(image, name=_frame_file(image)) for image in annotations.images)
    return replace(annotations, images=images, folder=folders.images)


def _frame_file(image: AnnotatedImage) -> str:
    """The image's file: the JSON calls it ``<frame>_gtFine_leftImg8bit.png``, which there isn't."""
    frame = frame_name(image.name)
    return f"{frame.split('_')[0]}/{frame}{SUFFIX}.png" if frame else image.name


def image_place(split: str, name: str) -> str:
    """``leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png``."""
    path = PurePosixPath(name)
    file = path.with_name(path.stem.removesuffix(SUFFIX) + SUFFIX + path.suffix)
    return joined("leftImg8bit", split, str(file))


def splits(path: Path) -> tuple[str, ...]:
    """Those that there are, if there are several."""
    fine = path / "gtFine" if (path / "gtFine").is_dir() else path
    return tuple(name for name in SPLITS if (fine / name).is_dir())


FORMAT = AnnotationFormat(
    NAME,
    "Cityscapes (a folder with gtFine/<split>/<city>/*_gtFine_instanceIds.png)",
    ("instance", "semantic", "panoptic"),
    ("instance", "semantic"),
    recognises,
    read,
    write,
    is_folder=True,
    image_place=image_place,
    splits=splits,
)
