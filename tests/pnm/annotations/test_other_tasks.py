"""Annotations of one task as those of another, against small maps written by hand."""

import numpy as np
import pytest

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotatedObject, AnnotationSet, Category, Segments
from pnm.annotations.other_tasks import as_task
from pnm.errors import UserError
from pnm.masks.crops import crop_array, paste

IMAGE = AnnotatedImage("a.png", 3, 4)
CLASSES = (Category("cat", 1), Category("dog", 2))


def mask(*rows):
    return crop_array(np.array([[c == "#" for c in row] for row in rows]))


OBJECTS = (
    AnnotatedObject(0, crop=mask("##..", "##..", "...."), id=5),
    AnnotatedObject(1, crop=mask(".##.", ".##.", "...."), id=6),
    AnnotatedObject(0, crop=mask("####", "####", "####"), id=7, iscrowd=True),
)


def set_of(task, content, categories=CLASSES):
    return AnnotationSet("coco", task, categories, (IMAGE,), lambda image: content)


def test_later_objects_lie_on_top_and_crowds_below():
    labels = as_task(set_of("instance", OBJECTS), "semantic").read(IMAGE)
    assert labels.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    labels = as_task(set_of("instance", OBJECTS[:2]), "semantic").read(IMAGE)
    assert labels.tolist() == [[0, 1, 1, -1], [0, 1, 1, -1], [-1] * 4]


def test_a_class_for_pixels_of_no_object():
    changed = as_task(set_of("instance", OBJECTS[:2]), "semantic", "background")
    assert [category.name for category in changed.categories] == ["background", "cat", "dog"]
    assert changed.read(IMAGE).tolist() == [[1, 2, 2, 0], [1, 2, 2, 0], [0] * 4]
    with pytest.raises(UserError, match="there is a class dog already"):
        as_task(set_of("instance", OBJECTS), "semantic", "dog")


def test_objects_to_segments_leave_out_what_is_hidden():
    hidden = (AnnotatedObject(0, crop=mask(".#..", "....", "....")), *OBJECTS[:2])
    content = as_task(set_of("instance", hidden), "panoptic").read(IMAGE)
    assert content.ids.tolist() == [[2, 3, 3, 0], [2, 3, 3, 0], [0] * 4]
    assert [(thing.id, thing.category) for thing in content.segments] == [(2, 0), (3, 1)]
    content = as_task(set_of("instance", OBJECTS[:2]), "panoptic", "rest").read(IMAGE)
    assert content.ids.tolist() == [[1, 2, 2, 3], [1, 2, 2, 3], [3] * 4]
    assert [(thing.id, thing.category) for thing in content.segments] == [(1, 1), (2, 2), (3, 0)]


SEGMENTS = Segments(
    np.array([[9, 9, 4, 4], [9, 7, 7, 4], [0, 7, 7, 4]], np.int32),
    (AnnotatedObject(1, id=9), AnnotatedObject(2, id=4), AnnotatedObject(0, id=7, iscrowd=True)),
)
PANOPTIC = (*CLASSES, Category("sky", 30, False))


def test_segments_to_labels_and_objects():
    annotations = set_of("panoptic", SEGMENTS, PANOPTIC)
    assert as_task(annotations, "semantic").read(IMAGE).tolist() == [[1, 1, 2, 2], [1, 0, 0, 2], [NO_CLASS, 0, 0, 2]]
    things = as_task(annotations, "instance")
    assert [category.name for category in things.categories] == ["cat", "dog"]
    first, second = things.read(IMAGE)
    assert (first.id, first.category, first.iscrowd, second.id, second.iscrowd) == (9, 1, False, 7, True)
    assert np.array_equal(paste(first.crop, 3, 4), SEGMENTS.ids == 9)


def test_regions_of_labels_become_objects():
    labels = np.array([[0, 1, 0, 0], [1, 0, 0, 1], [-1, 1, 1, 1]], np.int32)
    objects = as_task(set_of("semantic", labels), "instance").read(IMAGE)
    areas = [(thing.category, int(thing.crop.pixels.sum())) for thing in objects]
    assert areas == [(0, 5), (1, 6)]  # corners join
    only = as_task(set_of("semantic", labels), "instance", "cat")
    assert [category.name for category in only.categories] == ["dog"]
    assert [thing.category for thing in only.read(IMAGE)] == [0]
    with pytest.raises(UserError, match="--unlabelled is sky, but the classes are cat, dog"):
        as_task(set_of("semantic", labels), "instance", "sky")


def test_labels_to_segments():
    labels = np.array([[0, 1, 0, 0], [1, 0, 0, 1], [-1, 1, 1, 1]], np.int32)
    content = as_task(set_of("semantic", labels), "panoptic").read(IMAGE)
    assert content.ids.tolist() == (labels + 1).tolist()
    assert [(thing.id, thing.category) for thing in content.segments] == [(1, 0), (2, 1)]


def test_stuff_alone_has_no_objects():
    stuff = tuple(category._replace(isthing=False) for category in PANOPTIC)
    with pytest.raises(UserError, match="none of the classes are things"):
        as_task(set_of("panoptic", SEGMENTS, stuff), "instance")
    with pytest.raises(UserError, match="leave it out"):
        as_task(set_of("panoptic", SEGMENTS, PANOPTIC), "semantic", "background")
