"""Scenes of objects whose masks are known pixel by pixel, in memory, for tests of formats of annotations."""

import numpy as np
from PIL import Image

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category, object_masks
from pnm.masks.crops import MaskCrop, crop_array, paste

SIZE = (20, 24)
NAMES = ("street/0001.jpg", "street/Übung 2.png", "empty.jpg")
CATEGORIES = (Category("cat", 3), Category("dog", 9))


def box(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def pixels(*boxes, holes=()):
    """(H, W) bool with boxes (x0, y0, x1, y1) of foreground, and of background."""
    mask = np.zeros(SIZE, np.bool_)
    for value, some in ((True, boxes), (False, holes)):
        for x0, y0, x1, y1 in some:
            mask[y0:y1, x0:x1] = value
    return mask


def scene():
    """(object, its pixels) of two images: holes, parts, on the frame, overlapping, one pixel, a crowd, polygons."""
    ring, parts = pixels((2, 2, 9, 9), holes=[(4, 4, 7, 7)]), pixels((12, 1, 15, 4), (17, 6, 20, 9))
    frame, over, one = pixels((18, 15, 24, 20)), pixels((5, 5, 12, 12)), pixels((2, 12, 3, 13))
    crowd, touching = pixels((8, 10, 16, 19), holes=[(10, 12, 12, 14)]), pixels((0, 0, 2, 2), (2, 2, 4, 4))
    slanted = np.array([[1.25, 1.5], [20.75, 3.0], [11.3, 18.9]])
    first = [
        (AnnotatedObject(0, crop=crop_array(ring), id=101, attributes={"occluded": True}), ring),
        (AnnotatedObject(1, (box(12, 1, 15, 4), box(17, 6, 20, 9)), id=102), parts),
        (AnnotatedObject(0, (box(18, 15, 24, 20),), id=103), frame),
        (AnnotatedObject(1, (box(5, 5, 12, 12),), id=104, attributes={"colour": "red"}), over),
        (AnnotatedObject(0, crop=crop_array(one), id=105), one),
        (AnnotatedObject(0, crop=crop_array(crowd), id=106, iscrowd=True), crowd),
    ]
    second = [(AnnotatedObject(1, crop=crop_array(touching), id=107), touching)]
    image = AnnotatedImage("any", *SIZE)
    triangle = AnnotatedObject(0, (slanted,), id=108)
    return first, [*second, (triangle, paste(object_masks(image, [triangle])[0], *SIZE))]


def scene_set(folder=None, format="coco", **others):
    """The scene as a set of three images, the last of which is empty, and the masks by image."""
    every = dict(zip(NAMES, (*scene(), [])))
    images = tuple(AnnotatedImage(name, *SIZE, n + 7) for n, name in enumerate(NAMES))
    annotations = AnnotationSet(
        format, "instance", CATEGORIES, images, lambda image: tuple(o for o, _ in every[image.name]), folder, **others
    )
    return annotations, {name: [mask for _, mask in pairs] for name, pairs in every.items()}


def write_images(folder, names=NAMES, size=SIZE):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1], (90, 120, 90)).save(folder / name)


def masks_of(annotations, name):
    """(N, H, W) bool of an image of a set."""
    image = next(image for image in annotations.images if image.name == name)
    crops = object_masks(image, annotations.read(image))
    return np.array([paste(crop, *image.size) for crop in crops]).reshape(-1, *image.size)


def assert_same_masks(annotations, masks):
    assert {image.name for image in annotations.images} == set(masks)
    for name, expected in masks.items():
        np.testing.assert_array_equal(masks_of(annotations, name), np.array(expected).reshape(-1, *SIZE), name)


def redraw(annotations, name, number, mask):
    """The set with another mask of one object."""

    def read(image):
        objects = list(annotations.read(image))
        if image.name == name:
            objects[number] = objects[number].with_crop(mask if isinstance(mask, MaskCrop) else crop_array(mask))
        return tuple(objects)

    from dataclasses import replace

    return replace(annotations, read=read)
