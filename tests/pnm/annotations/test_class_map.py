"""Classes renamed, joined, reordered and left out, in objects, maps and segments."""

import numpy as np
import pytest

from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotatedObject, AnnotationSet, Category, Segments
from pnm.annotations.class_map import read_class_map, with_class_map, with_classes
from pnm.errors import UserError
from pnm.masks.crops import crop_array

IMAGE = AnnotatedImage("a.png", 2, 3)
CATEGORIES = (Category("cat", 3), Category("dog", 5), Category("grass", 9, False), Category("sand", 7, False))


def set_of(task, content):
    return AnnotationSet("coco", task, CATEGORIES, (IMAGE,), lambda image: content)


def test_the_file(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("\ufeffcat, animal\r\ndog,animal\n\n*,\n", encoding="utf-8")
    assert read_class_map(path) == {"cat": "animal", "dog": "animal", "*": ""}


def test_objects():
    objects = tuple(AnnotatedObject(k, crop=crop_array(np.ones((2, 3), bool)), id=k) for k in range(4))
    mapped = with_class_map(set_of("instance", objects), {"dog": "pet", "cat": "tiger", "*": ""})
    assert [category.name for category in mapped.categories] == ["pet", "tiger"]
    assert [(thing.id, thing.category) for thing in mapped.read(IMAGE)] == [(0, 1), (1, 0)]


def test_labels():
    labels = np.array([[0, 1, 2], [3, NO_CLASS, 0]], np.int32)
    mapped = with_class_map(set_of("semantic", labels), {"cat": "animal", "dog": "animal", "grass": "", "sand": "sand"})
    assert [category.isthing for category in mapped.categories] == [True, False]
    assert mapped.read(IMAGE).tolist() == [[0, 0, -1], [1, -1, 0]]


def test_segments_of_stuff_that_become_one_class_are_joined():
    ids = np.array([[10, 11, 12], [13, 0, 10]], np.int32)
    segments = tuple(AnnotatedObject(k, id=10 + k) for k in range(4))
    names = {"cat": "animal", "dog": "animal", "grass": "ground", "sand": "ground"}
    mapped = with_class_map(set_of("panoptic", Segments(ids, segments)), names)
    content = mapped.read(IMAGE)
    assert content.ids.tolist() == [[10, 11, 12], [12, 0, 10]]
    assert [(thing.id, thing.category) for thing in content.segments] == [(10, 0), (11, 0), (12, 1)]


def test_a_segment_left_out_is_void():
    ids = np.array([[10, 11, 12], [13, 0, 10]], np.int32)
    segments = tuple(AnnotatedObject(k, id=10 + k) for k in range(4))
    content = with_class_map(set_of("panoptic", Segments(ids, segments)), {"dog": "dog", "*": ""}).read(IMAGE)
    assert content.ids.tolist() == [[0, 11, 0], [0, 0, 0]] and [thing.id for thing in content.segments] == [11]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"cat": "cat"}, "doesn't say what becomes of dog, grass, sand: add lines, or one with"),
        ({"cow": "cow", "*": ""}, "lists cow, but the classes are cat, dog"),
        ({"*": ""}, "leaves no class"),
        ({"cat": "x", "grass": "x", "*": ""}, "makes things and stuff one class, x"),
    ],
)
def test_maps_that_cannot_be(names, message):
    with pytest.raises(UserError, match=message):
        with_class_map(set_of("instance", ()), names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n", "line 1 is 'cat': expected old,new"),
        ("cat,a\ncat,b\n", "line 2: class cat is listed before"),
        ("", "is empty"),
    ],
)
def test_files_that_cannot_be(text, message, tmp_path):
    (tmp_path / "names.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_class_map(tmp_path / "names.csv")
    with pytest.raises(FileNotFoundError, match=r"none.csv is missing: expected a CSV with lines old,new"):
        read_class_map(tmp_path / "none.csv")


def test_an_order_with_classes_that_do_not_occur():
    objects = tuple(AnnotatedObject(k, crop=crop_array(np.ones((2, 3), bool)), id=k, raw={"k": k}) for k in range(4))
    ordered = with_classes(set_of("instance", objects), ["sand", "cow", "dog", "grass", "cat"])
    assert [category.name for category in ordered.categories] == ["sand", "cow", "dog", "grass", "cat"]
    assert ordered.format == "coco" and len({category.id for category in ordered.categories}) == 1
    assert [(thing.raw["k"], thing.category) for thing in ordered.read(IMAGE)] == [(0, 4), (1, 2), (2, 3), (3, 0)]
    with pytest.raises(
        UserError, match="annotations of grass, sand, but the classes that were given are cat, dog: add"
    ):
        with_classes(set_of("instance", ()), ["cat", "dog"])
