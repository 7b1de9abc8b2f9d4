"""Annotations that a person should look at before training: what is rarely meant is named, image by image.

Nothing here is an error for sure; thresholds are the constants below.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pnm.annotations.annotation_set import (
    NO_CLASS,
    NO_SEGMENT,
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Segments,
    object_masks,
)
from pnm.masks.crops import MaskCrop, crop_iou, crop_segments

TINY_PX = 16  # of an object's area
SPECK_PX, SPECK_SHARE = 10, 0.01  # a part of an object below both
SPECKS_PX, SPECKS = 8, 3  # regions of a class of a map, or of a segment, below it, if there are so many
SAME_CLASS_IOU, ANY_CLASS_IOU = 0.8, 0.9  # of objects drawn twice
BOX_SHARE, BOX_PX = 0.995, 400  # of its box, that an object fills
WHOLE_SHARE = 0.95  # of the image
COARSE_CORNERS, COARSE_PX = 5, 32**2  # at most, of an object at least so large
OUTSIDE_PX = 2.0  # that an outline leaves the image by
EMPTY_SHARE = 0.9  # of an image without any class

KINDS = {  # in the order of the page
    "empty": "no pixel",
    "twice": "drawn twice",
    "two classes": "one object, two classes",
    "box": "a box, not an outline",
    "coarse": "few corners",
    "whole": "fills the image",
    "outside": "leaves the image",
    "tiny": "tiny",
    "specks": "scattered specks",
    "unlabelled": "hardly labelled",
}


class Doubt(NamedTuple):
    """Something to look at.

    Attributes:
        kind: a key of ``KINDS``.
        image: that it is on.
        what: the class, and the id where there is one.
        mask: where it is.
        weight: of two of a kind, the greater is looked at first.
    """

    kind: str
    image: AnnotatedImage
    what: str
    mask: MaskCrop
    weight: float


def doubts_of(annotations: AnnotationSet, image: AnnotatedImage) -> list[Doubt]:
    """What is doubtful on an image."""
    content = annotations.read(image)
    if isinstance(content, np.ndarray):
        return list(_of_labels(annotations, image, content))
    if isinstance(content, Segments):
        return list(_of_segments(annotations, image, content))
    masks = object_masks(image, content)
    names = [_name(annotations, thing) for thing in content]
    found = [doubt for thing in zip(content, masks, names) for doubt in _of_object(image, *thing)]
    return found + list(_drawn_twice(image, content, masks, names))


def _name(annotations: AnnotationSet, thing: AnnotatedObject) -> str:
    name = annotations.categories[thing.category].name
    return name if thing.id is None else f"{name} {thing.id}"


def _of_object(image: AnnotatedImage, thing: AnnotatedObject, mask: MaskCrop, name: str) -> Iterator[Doubt]:
    area, box = int(np.count_nonzero(mask.pixels)), mask.pixels.size
    if thing.iscrowd:
        return
    if not area:
        yield Doubt("empty", image, name, mask, 0)
        return
    if area < TINY_PX:
        yield Doubt("tiny", image, name, mask, -area)
    if area >= BOX_SHARE * box and area >= BOX_PX and area < WHOLE_SHARE * image.height * image.width:
        yield Doubt("box", image, name, mask, area)
    elif thing.polygons is not None and area >= COARSE_PX and max(map(len, thing.polygons)) <= COARSE_CORNERS:
        yield Doubt("coarse", image, name, mask, area)
    if area >= WHOLE_SHARE * image.height * image.width:
        yield Doubt("whole", image, name, mask, area)
    specks = _specks(mask, min(SPECK_PX, SPECK_SHARE * area))
    if specks:
        yield Doubt("specks", image, name, mask, specks)
    outside = max((_outside(outline, image) for outline in thing.polygons or ()), default=0)
    if outside > OUTSIDE_PX:
        yield Doubt("outside", image, name, mask, outside)


def _specks(mask: MaskCrop, below: float) -> int:
    """Number of the parts (8 neighbours) of fewer pixels, beside a larger one."""
    number, _, stats, _ = cv2.connectedComponentsWithStats(mask.pixels.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas < below).sum()) if number > 2 else 0


def _outside(outline: np.ndarray, image: AnnotatedImage) -> float:
    """Pixels by which an outline leaves the image."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    return float(max(-low.min(), high[0] - image.width, high[1] - image.height))


def _drawn_twice(
    image: AnnotatedImage, objects: Sequence[AnnotatedObject], masks: Sequence[MaskCrop], names: Sequence[str]
) -> Iterator[Doubt]:
    for first, second in _near(masks):
        if objects[first].iscrowd or objects[second].iscrowd:
            continue
        iou = crop_iou(masks[first], masks[second])
        is_same = objects[first].category == objects[second].category
        if iou >= (SAME_CLASS_IOU if is_same else ANY_CLASS_IOU):
            both = f"{names[first]} and {names[second]}"
            yield Doubt("twice" if is_same else "two classes", image, both, masks[second], iou)


def _near(masks: Sequence[MaskCrop]) -> Iterable[tuple[int, int]]:
    """Pairs of masks whose boxes have at least half in common, without which the masks cannot be so alike."""
    sizes = np.array([mask.pixels.shape for mask in masks], np.float64).reshape(-1, 2)
    low = np.array([(mask.top, mask.left) for mask in masks], np.float64).reshape(-1, 2)
    both = np.minimum((low + sizes)[:, None], low + sizes) - np.maximum(low[:, None], low)
    shared, areas = both.clip(0).prod(axis=2), sizes.prod(axis=1)
    alike = np.triu((shared > 0.5 * np.maximum(areas[:, None], areas)) & (shared > 0), 1)
    return zip(*(place.tolist() for place in np.nonzero(alike)))


def _of_labels(annotations: AnnotationSet, image: AnnotatedImage, labels: np.ndarray) -> Iterator[Doubt]:
    yield from _of_map(image, labels, NO_CLASS, {k: c.name for k, c in enumerate(annotations.categories)})


def _of_segments(annotations: AnnotationSet, image: AnnotatedImage, content: Segments) -> Iterator[Doubt]:
    names = {thing.id: _name(annotations, thing) for thing in content.segments if not thing.iscrowd}
    yield from _of_map(image, content.ids, NO_SEGMENT, names)


def _of_map(image: AnnotatedImage, labels: np.ndarray, nothing: int, names: dict) -> Iterator[Doubt]:
    count = {label: int(pixels) for label, pixels in zip(*np.unique(labels, return_counts=True))}
    if count.get(nothing, 0) >= EMPTY_SHARE * labels.size:
        share = count[nothing] / labels.size
        yield Doubt("unlabelled", image, f"{100 * share:.1f} % are of no class", _whole(image), share)
    present = [label for label in count if label in names]
    for label, mask in zip(present, crop_segments(labels, present)):
        if count[label] >= WHOLE_SHARE * labels.size:
            yield Doubt("whole", image, str(names[label]), mask, count[label])
        specks = _specks(mask, SPECKS_PX)
        if specks >= SPECKS:
            yield Doubt("specks", image, str(names[label]), mask, specks)


def _whole(image: AnnotatedImage) -> MaskCrop:
    return MaskCrop(np.ones(image.size, np.bool_), 0, 0)
