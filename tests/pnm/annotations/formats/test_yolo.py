"""YOLO's labels of segments: rows are read by their documentation, and masks come back pixel for pixel."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from outlined_scenes import (
    NAMES,
    SIZE,
    assert_same_masks,
    box,
    masks_of,
    pixels,
    redraw,
    scene_set,
    write_images,
)

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category
from pnm.annotations.formats import yolo
from pnm.annotations.known_formats import format_of, read_annotations
from pnm.errors import UserError
from pnm.masks.crops import crop_array

NAMED = "names: {0: cat, 1: dog}\n"
ROWS = "1 0.25 0.1 0.5 0.1 0.5 0.5 0.25 0.5\n"  # x 6 to 12, y 2 to 10 of 20 x 24
MASK = pixels((6, 2, 12, 10))


def data_set(root, text="train: images/train\nval: images/val\n" + NAMED, images=("train/a.jpg", "val/b.jpg")):
    write_images(root / "images", images)
    (root / "data.yaml").write_text(text, encoding="utf-8")
    return root


def label(root, name, text):
    path = root / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def test_rows_are_polygons(tmp_path):
    root = data_set(tmp_path)
    label(root, "train/a.txt", b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode() + b"\r\n0 0 0 1 0 1 1 0.875\r\n")
    for path in (root, root / "data.yaml"):
        assert format_of(path) is yolo.FORMAT
        annotations = read_annotations(Source(path))
        assert [c.name for c in annotations.categories] == ["cat", "dog"] and annotations.folder == root / "images"
        assert [image.name for image in annotations.images] == ["train/a.jpg", "val/b.jpg"]
    first, second = annotations.read(annotations.images[0])
    assert (first.category, first.score, second.category, second.score) == (1, None, 0, 0.875)
    np.testing.assert_array_equal(masks_of(annotations, "train/a.jpg")[0], MASK)
    assert annotations.read(annotations.images[1]) == ()
    assert annotations.remarks == (f"{root / 'data.yaml'}: 1 of 2 images have no file of labels, and so no objects",)
    assert [i.name for i in read_annotations(Source(root, split="val")).images] == ["b.jpg"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("path: .\ntrain: ../train/images\nvalid: ./val/images\nnc: 2\n", ["train/images/a.jpg", "val/images/b.jpg"]),
        ("path: /gone/away\ntrain: train/images\nnames: [x, y]\n", ["a.jpg"]),
        ("train: [train/images, val/images]\nnames: {'0': x, '1': y}\n", ["train/images/a.jpg", "val/images/b.jpg"]),
        ("train: list.txt\nnames: [x, y]\n", ["train/images/a.jpg", "val/images/b.jpg"]),
        ("train: train\\images\nval: nowhere\ntest:\nnames: [x, y]\n", ["a.jpg"]),
    ],
)
def test_places_of_images(tmp_path, text, names):
    write_images(tmp_path, ["train/images/a.jpg", "val/images/b.jpg"])
    (tmp_path / "list.txt").write_text("\ufeff./train/images/a.jpg\r\n\r\nval/images/b.jpg\r\n", encoding="utf-8")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_text(ROWS)
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    annotations = read_annotations(Source(tmp_path))
    assert [image.name for image in annotations.images] == names
    np.testing.assert_array_equal(masks_of(annotations, names[0]), [MASK])
    if "nowhere" in text:
        assert "val is nowhere, which is not there" in annotations.remarks[0]


def test_a_folder_of_labels(tmp_path):
    write_images(tmp_path / "pictures", ["x/a.jpg", "b.png"])
    label(tmp_path, "x/a.txt", ROWS)
    folder = tmp_path / "labels"
    assert format_of(folder) is yolo.FORMAT
    annotations = read_annotations(Source(folder, images=tmp_path / "pictures", classes=["cat", "dog"]))
    assert_same_masks(annotations, {"b.png": [], "x/a.jpg": [MASK]})
    with pytest.raises(UserError, match=r"name its classes \(--classes\)"):
        read_annotations(Source(folder, images=tmp_path / "pictures"))
    label(tmp_path, "classes.txt", "cat\ndog\n")
    assert len(read_annotations(Source(folder, images=tmp_path / "pictures")).categories) == 2
    with pytest.raises(UserError, match=r"name the folder of its images \(--images\)"):
        read_annotations(Source(folder))
    label(tmp_path, "c.txt", ROWS)
    with pytest.raises(UserError, match=r"c\.txt has no image of its name in .*pictures"):
        read_annotations(Source(folder, images=tmp_path / "pictures"))


def test_there_and_back_is_the_same_data_set(tmp_path):
    text = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: Hündin}\nroboflow: {project: p}\n"
    root = data_set(tmp_path / "in", text)
    rows = "1 0.250000 .1 0.5 0.1 0.5 0.5\n0 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.5\n"
    label(root, "train/a.txt", rows)
    label(root, "val/b.txt", "")
    annotations = read_annotations(Source(root))
    assert annotations.remarks == (f"{root}: 1 labels left out that are boxes, as in {root / 'labels/train/a.txt'}",)
    yolo.write({"": annotations}, tmp_path / "out")
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert files == ["data.yaml", "labels/train/a.txt", "labels/val/b.txt"]
    assert (tmp_path / "out/labels/train/a.txt").read_text() == rows
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text("utf-8")) == yaml.safe_load(text)
    changed = redraw(annotations, "train/a.jpg", 0, pixels((1, 1, 4, 4), holes=[(2, 2, 3, 3)]))
    yolo.write({"": changed}, tmp_path / "new")
    new = (tmp_path / "new/labels/train/a.txt").read_text().splitlines()
    assert new[1:] == rows.splitlines()[1:] and new[0].startswith("1 ")
    write_images(tmp_path / "new/images", ["train/a.jpg", "val/b.jpg"])
    again = masks_of(read_annotations(Source(tmp_path / "new")), "train/a.jpg")
    np.testing.assert_array_equal(again[0], pixels((1, 1, 4, 4), holes=[(2, 2, 3, 3)]))
    yolo.write({"train": read_annotations(Source(root, split="train"))}, tmp_path / "one")
    content = yaml.safe_load((tmp_path / "one/data.yaml").read_text("utf-8"))
    assert (
        content["train"] == "images/train"
        and not {"val", "path"} & set(content)
        and content["roboflow"] == {"project": "p"}
    )
    assert (tmp_path / "one/labels/train/a.txt").read_text() == rows


@pytest.mark.parametrize("split", ["", "val"])
def test_other_formats_keep_their_masks(tmp_path, split):
    annotations, masks = scene_set()
    yolo.write({split: annotations}, tmp_path)
    write_images(tmp_path / "images" / (split or "train"), NAMES)
    again = read_annotations(Source(tmp_path))
    assert_same_masks(again, masks)
    assert [c.name for c in again.categories] == ["cat", "dog"]
    assert yaml.safe_load((tmp_path / "data.yaml").read_text())[split or "train"] == f"images/{split or 'train'}"


def test_polygons_that_overlap_scores_and_numbers_of_tenths(tmp_path):
    tenths = np.array([[1.3, 2.1], [20.7, 3.3], [11.9, 18.5]])
    overlapping = AnnotatedObject(0, (box(2, 2, 8, 8), box(5, 5, 12, 12)), score=0.25)
    outside = AnnotatedObject(0, (box(-4, -4, 3, 3),))
    objects = (overlapping, AnnotatedObject(0, (tenths,)), outside)
    image = AnnotatedImage("a.jpg", *SIZE)
    annotations = AnnotationSet("coco", "instance", (Category("cat", 7),), (image,), lambda image: objects)
    yolo.write({"": annotations}, tmp_path)
    write_images(tmp_path / "images/train", ["a.jpg"])
    again = read_annotations(Source(tmp_path))
    assert_same_masks(again, {"a.jpg": masks_of(annotations, "a.jpg")})
    found = again.read(again.images[0])
    np.testing.assert_array_equal(found[1].polygons[0], tenths)
    assert [thing.score for thing in found] == [0.25, None, None]


def test_random_masks_come_back(tmp_path):
    random = np.random.default_rng(0)
    sizes = [(1, 1), (7, 13), (33, 51), (9, 1009)]
    masks = {f"{n}.png": random.random(size) < 0.5 for n, size in enumerate(sizes)}
    images = tuple(AnnotatedImage(name, *mask.shape) for name, mask in masks.items())
    categories = (Category("any"),)
    annotations = AnnotationSet(
        "x", "instance", categories, images, lambda image: (AnnotatedObject(0, crop=crop_array(masks[image.name])),)
    )
    masks["0.png"][:] = True
    yolo.write({"": annotations}, tmp_path)
    for name, mask in masks.items():
        write_images(tmp_path / "images/train", [name], mask.shape)
    again = read_annotations(Source(tmp_path))
    for name, mask in masks.items():
        np.testing.assert_array_equal(masks_of(again, name), [mask])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1 0.1 0.1 x 0.2 0.3 0.3", "expected numbers: class x1 y1"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.3", "class 2 is not one of 2, add its name to data.yaml"),
        ("nan 0.1 0.1 0.2 0.2 0.3 0.3", "class nan is not one of 2"),
        ("0.5 0.1 0.1 0.2 0.2 0.3 0.3", "class 0.5 is not one of 2"),
        ("1 0.1 0.1", "has 2 numbers after the class, expected three points"),
        ("1 0.1 0.1 0.2 0.2 0.3 nan", "has numbers outside 0 to 1: divide x by the width"),
        ("1 10 10 20 20 30 30", "has numbers outside 0 to 1"),
    ],
)
def test_damaged_rows_are_named(tmp_path, row, words):
    root = data_set(tmp_path)
    path = label(root, "train/a.txt", f"{ROWS}\n{row}\n")
    annotations = read_annotations(Source(root))
    with pytest.raises(UserError) as error:
        annotations.read(annotations.images[0])
    assert words in str(error.value) and f"{path}: line 3" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not YAML"),
        ("- a", "expected a YOLO data set"),
        ("train: images/train\nnames: cat\n", "names is 'cat', expected a list"),
        ("train: 3\nnc: 2\n", "train is 3, expected a folder"),
        ("train: images/gone\nnc: 2\n", "train is images/gone, which is not there"),
        ("train: data.yaml\nnc: 2\nkpt_shape: [17, 3]\n", "has kpt_shape: its labels are boxes and points of poses"),
        ("names: [a]\n", "leads to no images (no split is named)"),
        ("train: list.txt\nnc: 1", "image gone.jpg is not there"),
    ],
)
def test_damaged_yamls_are_named(tmp_path, text, words):
    root = data_set(tmp_path, text)
    (root / "list.txt").write_text("gone.jpg\n")
    with pytest.raises((UserError, FileNotFoundError)) as error:
        read_annotations(Source(root / "data.yaml"), "yolo")
    assert words in str(error.value) and str(root) in str(error.value)


def test_messages_about_data_sets(tmp_path):
    root = data_set(tmp_path)
    label(root, "train/a.txt", "0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1 0.9\n")
    with pytest.raises(
        UserError, match="all 2 labels are boxes, as in .*a.txt, which have no masks: segment them first"
    ):
        read_annotations(Source(root))
    with pytest.raises(UserError, match=r"has no test: name one of its splits, train, val \(--split\)"):
        read_annotations(Source(root, split="test"))
    label(root, "train/a.txt", "1 ü".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.txt is not UTF-8"):
        read_annotations(Source(root))
    (root / "images/val/b.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"b\.jpg is no image"):
        read_annotations(Source(root, split="val"))
    annotations, _ = scene_set()
    other = replace(annotations, categories=(Category("bird"), Category("dog")))
    with pytest.raises(UserError, match="splits differ in their classes"):
        yolo.write({"train": annotations, "val": other}, tmp_path / "out")


def test_images_that_lie_elsewhere(tmp_path):
    """Labels that were written without their images are read with the folder that is named."""
    write_images(tmp_path / "pictures", ["x/a.jpg", "b.png"])
    scene = read_annotations(Source(_labels_alone(tmp_path), images=tmp_path / "pictures"))
    assert_same_masks(scene, {"b.png": [], "x/a.jpg": [MASK]})
    assert [category.name for category in scene.categories] == ["cat", "dog"]


def _labels_alone(folder):
    label(folder, "train/x/a.txt", ROWS)
    (folder / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n", encoding="utf-8")
    return folder
