"""Annotations in memory that have what is hard on formats: holes, parts, frames, overlaps, single pixels, crowds."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pnm.annotations.annotation_set import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Category,
    Segments,
    object_masks,
)
from pnm.masks.crops import crop_array, paste

HEIGHT, WIDTH = 20, 24
IMAGES = ("street/0001.jpg", "straße/ünï.jpg", "empty.jpg")


def blank() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH), bool)


def filled(*slices: tuple[slice, slice]) -> np.ndarray:
    mask = blank()
    for one in slices:
        mask[one] = True
    return mask


def masks() -> dict[str, np.ndarray]:
    """By name, in the order of drawing; only "over" lies on another ("ring")."""
    ring = filled(np.s_[2:9, 2:9])
    ring[4:6, 4:6] = False
    return {
        "ring": ring,
        "parts": filled(np.s_[2:5, 11:14], np.s_[7:9, 15:18]),
        "frame": filled(np.s_[12:20, 0:6]),
        "over": filled(np.s_[7:11, 5:11]),
        "px": filled(np.s_[0:1, 23:24]),
    }


def instance_set(
    names: tuple[str, ...], *, crowd: bool = False, overlaps: bool = True, images: tuple[str, ...] = IMAGES
) -> AnnotationSet:
    """Objects of the classes in turn on the first two images, none on the third."""
    things = []
    for n, (name, mask) in enumerate(masks().items()):
        if overlaps or name != "over":
            things.append(AnnotatedObject(n % len(names), crop=crop_array(mask), id=n + 1))
    if crowd:
        things.append(AnnotatedObject(0, crop=crop_array(filled(np.s_[14:18, 12:20])), id=77, iscrowd=True))
    listed = tuple(AnnotatedImage(name, HEIGHT, WIDTH, n) for n, name in enumerate(images, 1))
    content = {image.name: tuple(things) for image in listed[:2]}
    categories = tuple(Category(name, n) for n, name in enumerate(names, 1))
    return AnnotationSet("coco", "instance", categories, listed, lambda image: content.get(image.name, ()))


def semantic_set(names: tuple[str, ...], *, images: tuple[str, ...] = IMAGES) -> AnnotationSet:
    """Labels of all classes, and of none, on the first two images; the third is void."""
    labels = np.arange(HEIGHT * WIDTH, dtype=np.int32).reshape(HEIGHT, WIDTH) // 7 % (len(names) + 1) - 1
    void = np.full_like(labels, -1)
    listed = tuple(AnnotatedImage(name, HEIGHT, WIDTH) for name in images)
    content = {image.name: labels for image in listed[:2]}
    categories = tuple(Category(name) for name in names)
    return AnnotationSet("other", "semantic", categories, listed, lambda image: content.get(image.name, void).copy())


def panoptic_set(images: tuple[str, ...] = IMAGES) -> AnnotationSet:
    """Three things, one of them a crowd, and stuff on the first two images; the third is void."""
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    ids[:10] = 70000
    for number, name in ((5, "ring"), (300, "px"), (9, "frame")):
        ids[masks()[name]] = number
    segments = tuple(
        AnnotatedObject(category, id=number, iscrowd=number == 9)
        for category, number in ((1, 70000), (0, 5), (2, 300), (0, 9))
    )
    categories = (Category("car", 3), Category("sky", 119, False), Category("person", 1))
    listed = tuple(AnnotatedImage(name, HEIGHT, WIDTH, n) for n, name in enumerate(images, 1))
    content = {image.name: Segments(ids, segments) for image in listed[:2]}
    nothing = Segments(np.zeros_like(ids), ())
    return AnnotationSet("other", "panoptic", categories, listed, lambda image: content.get(image.name, nothing))


def arrays(annotations: AnnotationSet, image: AnnotatedImage) -> list[np.ndarray]:
    """(H, W) bool of each object."""
    return [paste(crop, *image.size) for crop in object_masks(image, annotations.read(image))]


def topmost(things: list[np.ndarray]) -> list[np.ndarray]:
    """What can be seen of each mask, later ones being on top, brute force."""
    seen, above = [], blank()
    for mask in reversed(things):
        seen.append(mask & ~above)
        above |= mask
    return seen[::-1]


def image_of(annotations: AnnotationSet, name: str) -> AnnotatedImage:
    return next(image for image in annotations.images if image.name == name)


def with_content(annotations: AnnotationSet, change) -> AnnotationSet:
    """What is read, changed by a function of (image, content)."""
    return replace(annotations, read=lambda image: change(image, annotations.read(image)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
