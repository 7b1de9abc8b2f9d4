"""Annotations of one task as those of another: objects painted on a map of classes, things out of segments..."""

from collections.abc import Callable
from dataclasses import replace
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
    object_masks,
)
from pnm.errors import UserError
from pnm.masks.crops import crop_segments


def as_task(annotations: AnnotationSet, task: str, unlabelled: str | None = None) -> AnnotationSet:
    """Annotations as those of another task.

    - instance to semantic or panoptic: objects are painted in their order, later ones on top; crowds first. Pixels of
      no object are of the class ``unlabelled``, which becomes the first, or of none.
    - panoptic to semantic: crowds are of their class. To instance: the things; crowds stay crowds.
    - semantic to instance: each connected region (8 neighbours) of a class is an object; ``unlabelled`` names a class
      of which none are made, such as "background". To panoptic: each class is one segment, stuff.

    Raises:
        UserError: there is no such class, or it is there already.
    """
    if annotations.task == task:
        return annotations
    change = _CHANGES[annotations.task, task]
    return replace(change(annotations, unlabelled), format=CHANGED, task=task)


def _painted(image: AnnotatedImage, objects: tuple[AnnotatedObject, ...]) -> np.ndarray:
    """(H, W) int32: one more than the place of the object on top, 0 where there is none."""
    numbers = np.zeros(image.size, np.int32)
    masks = object_masks(image, objects)
    order = sorted(range(len(objects)), key=lambda n: not objects[n].iscrowd)
    for n in order:
        height, width = masks[n].pixels.shape
        window = numbers[masks[n].top : masks[n].top + height, masks[n].left : masks[n].left + width]
        window[masks[n].pixels] = n + 1
    return numbers


def _with_background(annotations: AnnotationSet, unlabelled: str | None) -> tuple[Category, ...]:
    if unlabelled is None:
        return annotations.categories
    if unlabelled in {category.name for category in annotations.categories}:
        raise UserError(f"there is a class {unlabelled} already: give pixels of no object another name (--unlabelled)")
    numbers = [category.id for category in annotations.categories]
    return Category(unlabelled, 0 if 0 not in numbers else None, isthing=False), *annotations.categories


def _objects_to_labels(annotations: AnnotationSet, unlabelled: str | None) -> AnnotationSet:
    shift = unlabelled is not None

    def read(image: AnnotatedImage) -> np.ndarray:
        objects = annotations.read(image)
        classes = [0 if shift else NO_CLASS, *(thing.category + shift for thing in objects)]
        return np.array(classes, np.int32)[_painted(image, objects)]

    return replace(annotations, categories=_with_background(annotations, unlabelled), read=read)


def _objects_to_segments(annotations: AnnotationSet, unlabelled: str | None) -> AnnotationSet:
    shift = unlabelled is not None

    def read(image: AnnotatedImage) -> Segments:
        objects = annotations.read(image)
        numbers = _painted(image, objects)
        present = np.bincount(numbers.reshape(-1), minlength=len(objects) + 1) > 0
        segments = [
            replace(thing, category=thing.category + shift, polygons=None, crop=None, id=n, raw=None)
            for n, thing in enumerate(objects, 1)
            if present[n]
        ]
        if shift and present[0]:
            segments.append(AnnotatedObject(0, id=len(objects) + 1))
            numbers[numbers == 0] = len(objects) + 1
        return Segments(numbers, tuple(segments))

    return replace(annotations, categories=_with_background(annotations, unlabelled), read=read)


def _segments_to_labels(annotations: AnnotationSet, unlabelled: str | None) -> AnnotationSet:
    _none_to_name(unlabelled)

    def read(image: AnnotatedImage) -> np.ndarray:
        content: Segments = annotations.read(image)
        class_of = {thing.id: thing.category for thing in content.segments} | {NO_SEGMENT: NO_CLASS}
        ids, index = np.unique(content.ids, return_inverse=True)
        return np.array([class_of[k] for k in ids.tolist()], np.int32)[index].reshape(content.ids.shape)

    return replace(annotations, read=read)


def _segments_to_objects(annotations: AnnotationSet, unlabelled: str | None) -> AnnotationSet:
    _none_to_name(unlabelled)
    things = [place for place, category in enumerate(annotations.categories) if category.isthing]
    if not things:
        raise UserError("none of the classes are things: there are no objects to take out of the segments")

    def read(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        content: Segments = annotations.read(image)
        chosen = [thing for thing in content.segments if thing.category in things]
        masks = crop_segments(content.ids, [_number(thing) for thing in chosen])
        return tuple(
            replace(thing, category=things.index(thing.category), crop=mask, raw=None)
            for thing, mask in zip(chosen, masks)
            if mask.pixels.size
        )

    return replace(annotations, categories=tuple(annotations.categories[k] for k in things), read=read)


def _number(thing: AnnotatedObject) -> int:
    assert isinstance(thing.id, int)
    return thing.id


def _labels_to_objects(annotations: AnnotationSet, unlabelled: str | None) -> AnnotationSet:
    names = [category.name for category in annotations.categories]
    if unlabelled is not None and unlabelled not in names:
        raise UserError(f"--unlabelled is {unlabelled}, but the classes are {', '.join(names[:20])}: name one of them")
    kept = [place for place, name in enumerate(names) if name != unlabelled]

    def read(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        import cv2

        labels, objects = annotations.read(image), []
        for place in np.unique(labels).tolist():
            if place in kept:
                number, regions = cv2.connectedComponents((labels == place).astype(np.uint8), connectivity=8)
                for mask in crop_segments(regions, range(1, number)):
                    objects.append(AnnotatedObject(kept.index(place), crop=mask))
        return tuple(objects)

    categories = tuple(annotations.categories[place]._replace(isthing=True) for place in kept)
    return replace(annotations, categories=categories, read=read)


def _labels_to_segments(annotations: AnnotationSet, unlabelled: str | None) -> AnnotationSet:
    _none_to_name(unlabelled)

    def read(image: AnnotatedImage) -> Segments:
        labels = annotations.read(image)
        present = [place for place in np.unique(labels).tolist() if place != NO_CLASS]
        return Segments(labels + 1, tuple(AnnotatedObject(place, id=place + 1) for place in present))

    categories = tuple(category._replace(isthing=False) for category in annotations.categories)
    return replace(annotations, categories=categories, read=read)


def _none_to_name(unlabelled: str | None) -> None:
    if unlabelled is not None:
        raise UserError("--unlabelled is for objects that become a map, or a map that becomes objects: leave it out")


_CHANGES: dict[tuple[str, str], Callable[[AnnotationSet, Any], AnnotationSet]] = {
    ("instance", "semantic"): _objects_to_labels,
    ("instance", "panoptic"): _objects_to_segments,
    ("panoptic", "semantic"): _segments_to_labels,
    ("panoptic", "instance"): _segments_to_objects,
    ("semantic", "instance"): _labels_to_objects,
    ("semantic", "panoptic"): _labels_to_segments,
}
