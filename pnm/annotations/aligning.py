"""Predictions brought to the images and classes of a ground truth, whose names, order and size may be others."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pnm.annotations.annotation_set import (
    NO_CLASS,
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Segments,
    object_masks,
)
from pnm.annotations.formats.coco import image_numbers, numbers_of
from pnm.errors import UserError, listed
from pnm.formats.coco_instances import read_coco_categories, read_json
from pnm.formats.folders import stem
from pnm.formats.semantic_maps import image_name
from pnm.masks.crops import crop_array, paste

Size = tuple[int, int]  # (height, width)


def aligned(pred: AnnotationSet, truth: AnnotationSet, *, resize: bool = False) -> AnnotationSet:
    """Predictions in the classes of a ground truth, of images called as in it.

    Images belong together if their names are alike: whole, without the ending, or without the folders and what
    Cityscapes appends. One that the ground truth doesn't have keeps its name, so that it can be told.

    Args:
        resize: to the size of the true images: labels and segments take the nearest pixel, masks half of bilinear
            interpolation, outlines are scaled.

    Raises:
        UserError: a predicted class isn't one of the truth's, or two predictions are of one image.
    """
    places, truth = _places(pred, truth), numbered(truth)
    images: list[AnnotatedImage] = []
    own: dict[str, AnnotatedImage] = {}
    of_name = _by_names(truth)
    free = itertools.count(1 + max((image.id for image in truth.images if isinstance(image.id, int)), default=0))
    for image in pred.images:
        true = next((of_name[name] for name in _names(image) if name in of_name), None)
        if true is None:
            new = replace(image, id=next(free))
        else:
            new = true if resize else replace(true, height=image.height, width=image.width)
        if new.name in own:
            raise UserError(f"predictions {own[new.name].name} and {image.name} are both of image {new.name}: keep one")
        images.append(new)
        own[new.name] = image

    def read(image: AnnotatedImage) -> Any:
        before = own[image.name]
        content = _in_classes(pred.read(before), places)
        return content if image.size == before.size else resized(content, before, image.size)

    return replace(pred, categories=truth.categories, images=tuple(images), read=read)


def numbered(annotations: AnnotationSet) -> AnnotationSet:
    """The same with a number for each image and class, the one that COCO files made of them have."""
    images = zip(annotations.images, image_numbers(annotations.images))
    categories = zip(annotations.categories, numbers_of([category.id for category in annotations.categories]))
    return replace(
        annotations,
        images=tuple(replace(image, id=number) for image, number in images),
        categories=tuple(category._replace(id=number) for category, number in categories),
    )


def with_ids(annotations: AnnotationSet, info: Path) -> AnnotationSet:
    """The same with the numbers that a COCO JSON gives to images and classes, by their names.

    Args:
        info: a JSON with "images": [{"id", "file_name"}] and "categories": [{"id", "name"}].

    Raises:
        FileNotFoundError, UserError: it is no such JSON, or an image or class isn't in it.
    """
    expected = 'COCO\'s lists {"images": [{"id", "file_name"}], "categories": [{"id", "name"}]}'
    content = read_json(info, expected)
    rows = content.get("images") if isinstance(content, dict) else None
    fits = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    if not fits or not all(type(row.get("id")) is int and isinstance(row.get("file_name"), str) for row in rows or ()):
        raise UserError(f"{info} has no list of images with whole numbers as ids: expected {expected}")
    number_of = {row["name"]: row["id"] for row in read_coco_categories(info)}
    known = tuple(AnnotatedImage(row["file_name"], 1, 1, row["id"]) for row in rows or ())
    of_name = _by_names(replace(annotations, images=known))
    images = []
    for image in annotations.images:
        own = next((of_name[name] for name in _names(image) if name in of_name), None)
        if own is None:
            raise UserError(f"{info} doesn't list image {image.name}: give the one that the results were made with")
        images.append(replace(image, id=own.id))
    strange = [category.name for category in annotations.categories if category.name not in number_of]
    if strange:
        raise UserError(f"{info} doesn't list class {listed(strange)}: give the one that the results were made with")
    categories = tuple(category._replace(id=number_of[category.name]) for category in annotations.categories)
    return replace(annotations, images=tuple(images), categories=categories)


def _places(pred: AnnotationSet, truth: AnnotationSet) -> list[int]:
    """Place among the truth's classes of each predicted one, by name; by number where names are numbers."""
    names = [category.name for category in truth.categories]
    own = [category.name for category in pred.categories]
    if all(name.isdecimal() for name in own) and len(own) <= len(names) and not set(own) <= set(names):
        return list(range(len(own)))
    strange = [name for name in own if name not in names]
    if strange:
        raise UserError(
            f"predicted class {listed(strange)} isn't in the ground truth, whose classes are {listed(names, 20)}; "
            "rename or leave out classes with --map, a CSV with lines old,new"
        )
    return [names.index(name) for name in own]


def _names(image: AnnotatedImage) -> tuple[str, ...]:
    return image.name, stem(image.name), image_name(image.name)


def _by_names(truth: AnnotationSet) -> dict[str, AnnotatedImage]:
    """Images by all that they may be called; a name that two could have is none's."""
    of_name: dict[str, AnnotatedImage] = {}
    for way in (2, 1, 0):  # the surest last, so that it wins
        names = [_names(image)[way] for image in truth.images]
        count = Counter(names)
        for name, image in zip(names, truth.images):
            if count[name] == 1:
                of_name[name] = image
    return of_name


def _in_classes(content: Any, places: list[int]) -> Any:
    if isinstance(content, np.ndarray):
        return np.array([*places, NO_CLASS], np.int32)[content]
    if isinstance(content, Segments):
        return Segments(content.ids, tuple(_moved(thing, places) for thing in content.segments))
    return tuple(_moved(thing, places) for thing in content)


def _moved(thing: AnnotatedObject, places: list[int]) -> AnnotatedObject:
    return replace(thing, category=places[thing.category])


def resized(content: Any, image: AnnotatedImage, size: Size) -> Any:
    """What is on an image, at another (height, width), see :func:`aligned`."""
    if isinstance(content, np.ndarray):
        return _nearest(content, size)
    if isinstance(content, Segments):
        ids = _nearest(content.ids, size)
        present = set(np.unique(ids).tolist())
        return Segments(ids, tuple(thing for thing in content.segments if thing.id in present))
    scale = np.array([size[1] / image.width, size[0] / image.height])
    masks = object_masks(image, content)
    return tuple(
        replace(thing, polygons=tuple(outline * scale for outline in thing.polygons), redrawn=True)
        if thing.polygons is not None
        else thing.with_crop(crop_array(resized_mask(paste(mask, *image.size), size)))
        for thing, mask in zip(content, masks)
    )


def _nearest(labels: np.ndarray, size: Size) -> np.ndarray:
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, labels.shape))
    return labels[rows[:, None], columns]


def resized_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """(H, W) bool of another size: from one half of the bilinear interpolation on."""
    import cv2

    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
