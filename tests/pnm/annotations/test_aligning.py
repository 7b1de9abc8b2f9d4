"""Predictions of other names, orders and sizes beside a ground truth."""

import numpy as np
import pytest

from pnm.annotations.aligning import aligned, resized
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category, Segments
from pnm.errors import UserError
from pnm.masks.crops import crop_array, paste


def set_of(task, names, images, content=None):
    listed = tuple(AnnotatedImage(name, *size) for name, size in images)
    return AnnotationSet("x", task, tuple(map(Category, names)), listed, lambda image: (content or {})[image.name])


TRUTH = set_of(
    "semantic", ["sky", "road"], [("a/1.jpg", (2, 2)), ("b/2.jpg", (2, 2)), ("c_000000_000001_leftImg8bit.png", (2, 2))]
)


def test_images_by_name_stem_or_frame_and_classes_by_name():
    content = {name: np.array([[0, 1], [1, -1]], np.int32) for name in ("2.png", "a/1.png", "c_000000_000001_pred.png")}
    pred = aligned(set_of("semantic", ["road", "sky"], [(name, (2, 2)) for name in content], content), TRUTH)
    assert [image.name for image in pred.images] == ["b/2.jpg", "a/1.jpg", "c_000000_000001_leftImg8bit.png"]
    assert [image.id for image in pred.images] == [2, 1, 3]
    assert all(pred.read(image).tolist() == [[1, 0], [0, -1]] for image in pred.images)


def test_an_image_that_is_not_there_keeps_its_name():
    pred = aligned(set_of("semantic", ["sky"], [("z.png", (2, 2))], {"z.png": np.zeros((2, 2), np.int32)}), TRUTH)
    assert pred.images[0].name == "z.png" and pred.images[0].id == 4


def test_two_predictions_of_one_image():
    with pytest.raises(UserError, match="predictions a/1.png and a/1.tif are both of image a/1.jpg: keep one"):
        aligned(set_of("semantic", ["sky"], [("a/1.png", (2, 2)), ("a/1.tif", (2, 2))]), TRUTH)


def test_a_class_that_is_not_there():
    with pytest.raises(UserError, match="class sea isn't in the ground truth, whose classes are sky, road; .* --map"):
        aligned(set_of("semantic", ["sky", "sea"], []), TRUTH)


def test_numbers_stand_for_the_truths_classes_in_order():
    content = {"a/1.png": np.array([[0, 1], [1, 1]], np.int32)}
    pred = aligned(set_of("semantic", ["0", "1"], [("a/1.png", (2, 2))], content), TRUTH)
    assert pred.read(pred.images[0]).tolist() == [[0, 1], [1, 1]]


def test_resizing():
    image = AnnotatedImage("a", 4, 6)
    labels = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert resized(labels, AnnotatedImage("a", 2, 3), (4, 6)).tolist() == labels.repeat(2, 0).repeat(2, 1).tolist()
    assert resized(labels.repeat(2, 0).repeat(2, 1), image, (2, 3)).tolist() == labels.tolist()
    ids = np.array([[1, 1, 1, 2]], np.int32)
    small = resized(
        Segments(ids, (AnnotatedObject(0, id=1), AnnotatedObject(0, id=2))), AnnotatedImage("a", 1, 4), (1, 1)
    )
    assert small.ids.tolist() == [[1]] and [thing.id for thing in small.segments] == [1]
    mask = np.zeros((2, 3), bool)
    mask[:, 1:] = True
    square = np.array([[1.0, 0], [3, 0], [3, 2], [1, 2]])
    drawn, outlined = resized(
        (AnnotatedObject(0, crop=crop_array(mask)), AnnotatedObject(0, polygons=(square,))),
        AnnotatedImage("a", 2, 3),
        (4, 6),
    )
    assert np.array_equal(paste(drawn.crop, 4, 6), mask.repeat(2, 0).repeat(2, 1))
    assert outlined.polygons[0].tolist() == (2 * square).tolist() and outlined.redrawn


def test_resized_only_if_asked_for():
    content = {"a/1.png": np.array([[0, 1, 1, 1]] * 4, np.int32)}
    pred = set_of("semantic", ["sky", "road"], [("a/1.png", (4, 4))], content)
    assert aligned(pred, TRUTH).images[0].size == (4, 4)
    whole = aligned(pred, TRUTH, resize=True)
    assert whole.images[0].size == (2, 2) and whole.read(whole.images[0]).tolist() == [[1, 1], [1, 1]]
