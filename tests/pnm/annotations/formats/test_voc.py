"""Pascal VOC's PNGs and lists, against pixels and colours written by hand."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from painted_scenes import (
    arrays,
    files_of,
    filled,
    image_of,
    instance_set,
    semantic_set,
    topmost,
    with_content,
)
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.formats.voc_classes import VOC_NAMES, voc_palette
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError
from pnm.masks.crops import crop_array

FORMAT = format_named("voc")
LABELS = np.array([[255, 255, 255, 0, 0], [255, 15, 7, 0, 0], [255, 255, 7, 7, 0], [0, 0, 0, 0, 9]], np.uint8)
OBJECTS = np.array([[255, 255, 255, 0, 0], [255, 1, 2, 0, 0], [255, 255, 2, 2, 0], [0, 0, 0, 0, 0]], np.uint8)


def _save(path, values, *, rgb=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    if rgb:
        Image.fromarray(voc_palette()[values]).save(path)
        return
    picture = Image.fromarray(values)
    picture.putpalette(voc_palette().reshape(-1).tolist())
    picture.save(path)


@pytest.fixture
def root(tmp_path):
    """Two annotated images, and one that is in a list only."""
    folder = tmp_path / "VOC2012"
    for name in ("2007_000032", "2007_000033"):
        _save(folder / f"SegmentationClass/{name}.png", LABELS)
        _save(folder / f"SegmentationObject/{name}.png", OBJECTS)
    _save(folder / "SegmentationClass/unlisted.png", LABELS)
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n\n")
    (lists / "val.txt").write_text("2007_000033\nnowhere")
    return folder


def test_the_palette_is_vocs():
    published = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {k: tuple(voc_palette()[k].tolist()) for k in published} == published
    assert voc_palette()[255].tolist() == [224, 224, 192]


def test_objects_have_the_class_that_is_under_them(root):
    assert format_of(root) is FORMAT
    annotations = read_annotations(Source(root, split="train"))
    assert [c.name for c in annotations.categories] == list(VOC_NAMES) and annotations.task == "instance"
    (image,) = annotations.images
    assert image.name == "2007_000032.jpg" and image.size == (4, 5)
    person, car = annotations.read(image)
    assert [annotations.categories[o.category].name for o in (person, car)] == ["person", "car"]
    assert (person.id, car.id) == (1, 2)
    masks = arrays(annotations, image)
    np.testing.assert_array_equal(masks[0], OBJECTS == 1)
    np.testing.assert_array_equal(masks[1], OBJECTS == 2)


def test_lists_choose_the_images(root):
    annotations = read_annotations(Source(root))
    assert [image.name for image in annotations.images] == ["2007_000032.jpg", "2007_000033.jpg"]
    assert "1 listed images have no labels" in annotations.remarks[0] and "nowhere" in annotations.remarks[0]
    for file in (root / "ImageSets/Segmentation").iterdir():
        file.unlink()
    semantic = read_annotations(Source(root, task="semantic"))
    assert [image.name for image in semantic.images] == ["2007_000032.jpg", "2007_000033.jpg", "unlisted.jpg"]


def test_classes_of_pixels(root):
    annotations = read_annotations(Source(root, task="semantic"))
    assert [c.name for c in annotations.categories] == ["background", *VOC_NAMES]
    expected = np.where(LABELS == 255, -1, LABELS.astype(int))
    np.testing.assert_array_equal(annotations.read(annotations.images[0]), expected)


def test_without_objects_classes_are_read(root):
    for file in (root / "SegmentationObject").iterdir():
        file.unlink()
    (root / "SegmentationObject").rmdir()
    annotations = read_annotations(Source(root))
    assert annotations.task == "semantic" and "no folder SegmentationObject" in annotations.remarks[0]
    with pytest.raises(UserError, match="SegmentationObject.*semantic only"):
        read_annotations(Source(root, task="instance"))


def test_images_are_found_in_their_folder(root):
    (root / "JPEGImages").mkdir()
    Image.new("RGB", (5, 4)).save(root / "JPEGImages/2007_000032.jpeg")
    annotations = read_annotations(Source(root, split="train"))
    assert annotations.images[0].name == "2007_000032.jpeg" and annotations.folder == root / "JPEGImages"


def test_a_labelmap_says_what_colours_are(root):
    """As CVAT and Datumaro export: colour PNGs."""
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbus:192,128,128::\nbackground:0,0,0::\ncab:128,128,128:a,b:\n",
        encoding="utf-8",
    )
    labels = np.where(LABELS == 9, 0, LABELS)
    _save(root / "SegmentationClass/2007_000032.png", labels, rgb=True)
    _save(root / "SegmentationObject/2007_000032.png", OBJECTS, rgb=True)
    _save(root / "SegmentationClass/2007_000033.png", labels)
    annotations = read_annotations(Source(root))
    assert [c.name for c in annotations.categories] == ["bus", "cab"]
    for image in annotations.images:
        assert [thing.category for thing in annotations.read(image)] == [0, 1]
        np.testing.assert_array_equal(arrays(annotations, image)[1], OBJECTS == 2)


def test_a_labelmap_without_colours_has_vocs(root):
    names = "".join(f"{name}:::\n" for name in ("background", *"abcdefghijklmno"))
    (root / "labelmap.txt").write_text(names)
    labels = np.where(LABELS == 9, 0, LABELS)
    _save(root / "SegmentationClass/2007_000032.png", labels, rgb=True)
    annotations = read_annotations(Source(root, split="train"))
    assert [annotations.categories[o.category].name for o in annotations.read(annotations.images[0])] == ["o", "g"]


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_what_is_read_is_written_byte_for_byte(root, tmp_path, task):
    FORMAT.write({"train": read_annotations(Source(root, split="train", task=task))}, tmp_path / "out")
    before, after = files_of(root), files_of(tmp_path / "out")
    assert after.pop("ImageSets/Segmentation/train.txt") == b"2007_000032\n"
    assert len(after) == (2 if task == "instance" else 1)
    assert all(content == before[name] for name, content in after.items())


def test_a_redrawn_object_leaves_border_and_others_as_they_are(root, tmp_path):
    def change(image, objects):
        person, car = objects
        mask = np.zeros((4, 5), bool)
        mask[3, 0:2] = True
        return person, car.with_crop(crop_array(mask))

    annotations = read_annotations(Source(root, split="train"))
    FORMAT.write({"train": with_content(annotations, change)}, tmp_path / "out")
    objects = np.where(OBJECTS == 2, 0, OBJECTS)
    objects[3, 0:2] = 2
    labels = np.where(LABELS == 7, 0, LABELS)
    labels[3, 0:2] = 7
    for folder, values in (("SegmentationObject", objects), ("SegmentationClass", labels)):
        with Image.open(tmp_path / f"out/{folder}/2007_000032.png") as picture:
            assert picture.mode == "P" and picture.getpalette()[3:6] == [128, 0, 0]
            np.testing.assert_array_equal(np.array(picture), values)


def test_another_class_is_written(root, tmp_path):
    annotations = read_annotations(Source(root, split="train"))
    to_bus = with_content(annotations, lambda image, objects: (replace(objects[0], category=5), objects[1]))
    FORMAT.write({"": to_bus}, tmp_path / "out")
    again = read_annotations(Source(tmp_path / "out"))
    assert [thing.category for thing in again.read(again.images[0])] == [5, 6]


@pytest.mark.parametrize("names", [VOC_NAMES, ("car", "Fußgänger")])
def test_objects_of_another_format(tmp_path, caplog, names):
    annotations = instance_set(names)
    with caplog.at_level(logging.WARNING):
        FORMAT.write({"train": annotations, "val": replace(annotations, images=())}, tmp_path)
    assert "16 pixels under later objects" in caplog.text  # 8 on each of the two images
    assert (tmp_path / "labelmap.txt").exists() == (names != VOC_NAMES)
    lists = {p.stem: p.read_text("utf-8").split() for p in (tmp_path / "ImageSets/Segmentation").iterdir()}
    stems = ["street/0001", "straße/ünï", "empty"]
    assert lists == {"train": stems, "val": [], "trainval": sorted(stems)}
    again = read_annotations(Source(tmp_path))
    assert [c.name for c in again.categories] == list(names)
    for image in annotations.images:
        objects, other = annotations.read(image), image_of(again, image.name)
        assert [(o.id, o.category) for o in again.read(other)] == [(o.id, o.category) for o in objects]
        np.testing.assert_array_equal(arrays(again, other), topmost(arrays(annotations, image)))


def test_crowds_become_border(tmp_path, caplog):
    annotations = instance_set(VOC_NAMES, crowd=True)
    FORMAT.write({"": annotations}, tmp_path)
    assert "2 are written as border" in caplog.text
    with Image.open(tmp_path / "SegmentationObject/street/0001.png") as picture:
        values = np.array(picture)
    np.testing.assert_array_equal(values == 255, filled(np.s_[14:18, 12:20]))


def test_labels_of_another_format(tmp_path):
    annotations = semantic_set(("sky", "background", "tree"))
    FORMAT.write({"": annotations}, tmp_path)
    again = read_annotations(Source(tmp_path, task="semantic"))
    assert [c.name for c in again.categories] == ["background", "sky", "tree"]
    for image in annotations.images:
        expected = np.array([1, 0, 2, -1])[annotations.read(image)]
        np.testing.assert_array_equal(again.read(image_of(again, image.name)), expected)


def _error(root, **source) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as error:
        annotations = read_annotations(Source(root, **source), "voc")
        for image in annotations.images:
            annotations.read(image)
    return str(error.value)


def test_errors_name_the_file_and_the_way_out(root):
    text = _error(root, split="test")
    assert "test.txt is missing" in text and "train, val" in text
    assert "SegmentationClass: name the folder" in _error(root / "ImageSets")
    text = _error(root, classes=["a", "b"])
    assert "2007_000032.png" in text and "15 (1 pixels)" in text and "labelmap.txt" in text
    for line, word in (
        ("a:1,2", "line 1"),
        ("a:1,2,3\nb:1,2,3", "colour"),
        ("a:1,2,3\na:1,2,4", "name a"),
        ("", "0 c"),
    ):
        (root / "labelmap.txt").write_text(line)
        assert "labelmap.txt" in _error(root) and word in _error(root)
    (root / "labelmap.txt").write_text("a:1,2,3::")
    assert "(192, 128, 128)" in _error(root) and "add them there" in _error(root)
    (root / "labelmap.txt").unlink()
    _save(root / "SegmentationObject/2007_000032.png", OBJECTS[:3])
    assert "one size" in _error(root)
    _save(root / "SegmentationObject/2007_000032.png", np.full_like(OBJECTS, 0) + (LABELS == 0))
    assert "object 1 has" not in _error(root.parent / "VOC2012", split="nowhere")
    _save(root / "SegmentationObject/2007_000032.png", (LABELS == 255).astype(np.uint8))
    assert "object 1 has no class" in _error(root) and "take the object out" in _error(root)
    (root / "ImageSets/Segmentation/train.txt").write_text("../secret")
    assert "train.txt, line 1" in _error(root) and "leads out" in _error(root)
    (root / "ImageSets/Segmentation/train.txt").write_text("nothing")
    assert "none of 1 images" in _error(root, split="train")
    Image.fromarray(LABELS.astype(np.uint16)).save(root / "SegmentationClass/2007_000033.png")
    assert "16 bits" in _error(root, split="val")


def test_errors_of_writing(tmp_path):
    many = with_content(instance_set(("a",)), lambda image, objects: objects[:1] * 255)
    with pytest.raises(UserError, match="255 objects.*254"):
        FORMAT.write({"": many}, tmp_path)
    with pytest.raises(UserError, match="rename it"):
        FORMAT.write({"": instance_set(("background", "a"))}, tmp_path)
    with pytest.raises(UserError, match="labelmap.txt"):
        FORMAT.write({"": instance_set(("a:b",))}, tmp_path)
    with pytest.raises(UserError, match="255 classes.*254"):
        FORMAT.write({"": instance_set(tuple(map(str, range(255))))}, tmp_path)
    with pytest.raises(UserError, match="would both have the labels"):
        FORMAT.write({"train": instance_set(("a",)), "val": instance_set(("a",))}, tmp_path)
