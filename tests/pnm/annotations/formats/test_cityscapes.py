"""Cityscapes' ids, against pixels drawn by hand and real frames."""

import json

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
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.errors import UserError
from pnm.masks.crops import crop_array

FORMAT = format_named("cityscapes")
FRAME = "aachen_000000_000019"
# A person, two cars, a group of cars, a caravan (29, not evaluated), road (7) and what is out of the frame (3).
INSTANCES = np.array([[24000, 26000, 26001, 26], [7, 3, 29000, 26], [0, 7, 7, 26001]], np.uint16)
LABELS = np.array([[24, 26, 26, 26], [7, 3, 29, 26], [0, 7, 7, 26]], np.uint8)


def _save(root, split, frame, instances=INSTANCES, labels=LABELS):
    folder = root / "gtFine" / split / frame.split("_")[0]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(instances).save(folder / f"{frame}_gtFine_instanceIds.png")
    Image.fromarray(labels).save(folder / f"{frame}_gtFine_labelIds.png")
    Image.fromarray(labels).save(folder / f"{frame}_gtFine_color.png")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cityscapes"
    _save(folder, "train", FRAME)
    _save(folder, "val", "bonn_000001_000019")
    return folder


def test_objects(root):
    assert format_of(root) is FORMAT
    annotations = read_annotations(Source(root, split="train"))
    assert [c.name for c in annotations.categories][:3] == ["person", "rider", "car"] and annotations.task == "instance"
    (image,) = annotations.images
    assert image.name == f"aachen/{FRAME}_leftImg8bit.png" and image.size == (3, 4)
    assert [(o.id, o.category, o.iscrowd) for o in annotations.read(image)] == [
        (26, 2, True),
        (24000, 0, False),
        (26000, 2, False),
        (26001, 2, False),
    ]
    expected = [k == INSTANCES for k in (26, 24000, 26000, 26001)]
    np.testing.assert_array_equal(arrays(annotations, image), expected)


def test_classes(root):
    annotations = read_annotations(Source(root, split="train", task="semantic"))
    assert [c.name for c in annotations.categories] == list(CITYSCAPES_CLASSES.values())
    labels = annotations.read(annotations.images[0])
    assert labels.tolist() == [[11, 13, 13, 13], [0, -1, -1, 13], [-1, 0, 0, 13]]


def test_folders_and_splits(root):
    both = [f"train/aachen/{FRAME}_leftImg8bit.png", "val/bonn/bonn_000001_000019_leftImg8bit.png"]
    for path in (root, root / "gtFine"):
        assert [image.name for image in read_annotations(Source(path)).images] == both
    for path in (root / "gtFine/val", root / "gtFine/val/bonn"):
        assert format_of(path) is FORMAT and len(read_annotations(Source(path)).images) == 1
    images = root / "leftImg8bit/val/bonn"
    images.mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(images / "bonn_000001_000019_leftImg8bit.jpg")
    annotations = read_annotations(Source(root, split="val"))
    assert annotations.images[0].name == "bonn/bonn_000001_000019_leftImg8bit.jpg"
    assert annotations.folder == root / "leftImg8bit/val"


def test_segments_are_those_of_the_panoptic_json(root):
    categories = [{"id": 26, "name": "car", "isthing": 1}, {"id": 7, "name": "road", "isthing": 0}]
    segments = [{"id": 26000, "category_id": 26, "area": 1, "bbox": [0, 0, 1, 1], "iscrowd": 0}]
    content = {
        "images": [{"id": FRAME, "file_name": f"{FRAME}_gtFine_leftImg8bit.png", "height": 1, "width": 2}],
        "annotations": [{"image_id": FRAME, "file_name": f"{FRAME}_gtFine_panoptic.png", "segments_info": segments}],
        "categories": categories,
    }
    (root / "gtFine/cityscapes_panoptic_train.json").write_text(json.dumps(content))
    (root / "gtFine/cityscapes_panoptic_train").mkdir()
    pixels = np.array([[[26000 % 256, 26000 // 256, 0], [0, 0, 0]]], np.uint8)
    Image.fromarray(pixels).save(root / f"gtFine/cityscapes_panoptic_train/{FRAME}_gtFine_panoptic.png")
    annotations = read_annotations(Source(root, split="train", task="panoptic"))
    assert annotations.images[0].name == f"aachen/{FRAME}_leftImg8bit.png"
    assert annotations.read(annotations.images[0]).ids.tolist() == [[26000, 0]]
    with pytest.raises(FileNotFoundError, match=r"cityscapes_panoptic_val.json is missing: make it with"):
        read_annotations(Source(root, split="val", task="panoptic"))


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_values_of_what_is_read_are_written(root, tmp_path, task):
    FORMAT.write({"train": read_annotations(Source(root, split="train", task=task))}, tmp_path / "out")
    stem = tmp_path / f"out/gtFine/train/aachen/{FRAME}_gtFine_"
    np.testing.assert_array_equal(np.array(Image.open(f"{stem}labelIds.png")), LABELS)
    if task == "instance":
        np.testing.assert_array_equal(np.array(Image.open(f"{stem}instanceIds.png")), INSTANCES)
    assert len(files_of(tmp_path / "out")) == (2 if task == "instance" else 1)


def test_a_redrawn_object_leaves_the_rest(root, tmp_path):
    mask = np.zeros((3, 4), bool)
    mask[1, 0:2] = True

    def change(image, objects):
        return tuple(o.with_crop(crop_array(mask)) if o.id == 26001 else o for o in objects)

    FORMAT.write({"": with_content(read_annotations(Source(root, split="train")), change)}, tmp_path / "out")
    stem = tmp_path / f"out/gtFine/aachen/{FRAME}_gtFine_"
    expected = [[24000, 26000, 0, 26], [26001, 26001, 29000, 26], [0, 7, 7, 0]]
    assert np.array(Image.open(f"{stem}instanceIds.png")).tolist() == expected
    expected = [[24, 26, 0, 26], [26, 26, 29, 26], [0, 7, 7, 0]]
    assert np.array(Image.open(f"{stem}labelIds.png")).tolist() == expected


def test_objects_of_another_format(tmp_path, caplog):
    annotations = instance_set(("person", "car"), crowd=True)
    FORMAT.write({"val": annotations}, tmp_path)
    assert "16 pixels under later objects" in caplog.text
    again = read_annotations(Source(tmp_path, split="val"))
    for image in annotations.images:
        other = image_of(again, image.name.replace(".jpg", "_leftImg8bit.png"))
        objects = again.read(other)
        assert [o.id for o in objects] == ([24, 24000, 24001, 24002, 26000, 26001] if objects else [])
        masks = topmost(arrays(annotations, image))
        order = [5, 0, 2, 4, 1, 3] if masks else []
        np.testing.assert_array_equal(arrays(again, other), [masks[n] for n in order])
    with Image.open(tmp_path / "gtFine/val/street/0001_gtFine_labelIds.png") as picture:
        assert np.array(picture)[filled(np.s_[14:18, 12:20])].tolist() == [24] * 32


def test_labels_of_another_format(tmp_path):
    annotations = semantic_set(("sky", "bicycle", "road"))
    FORMAT.write({"": annotations}, tmp_path)
    again = read_annotations(Source(tmp_path, task="semantic"))
    for image in annotations.images:
        expected = np.array([10, 18, 0, -1])[annotations.read(image)]
        other = image_of(again, image.name.replace(".jpg", "_leftImg8bit.png"))
        np.testing.assert_array_equal(again.read(other), expected)


def test_real_frames(real_data, tmp_path):
    root = real_data / "cityscapes"
    for task in ("instance", "semantic"):
        annotations = read_annotations(Source(root, split="val", task=task))
        image = annotations.images[0]
        assert (annotations.folder / image.name).is_file()
        FORMAT.write({"val": annotations.only([image])}, tmp_path / task)
        for path, _ in files_of(tmp_path / task).items():
            np.testing.assert_array_equal(
                np.array(Image.open(tmp_path / task / path)), np.array(Image.open(root / path))
            )


def _error(path, **source) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as error:
        annotations = read_annotations(Source(path, **source), "cityscapes")
        for image in annotations.images:
            annotations.read(image)
    return str(error.value)


def test_errors_name_the_file_and_the_way_out(root, tmp_path):
    text = _error(root, split="test")
    assert "test is not a folder" in text and "train, val" in text and "--split" in text
    (tmp_path / "empty").mkdir()
    assert "no *_gtFine_instanceIds.png" in _error(tmp_path / "empty")
    _save(root, "train", FRAME, labels=LABELS + np.uint8(40))
    text = _error(root, split="train", task="semantic")
    assert f"{FRAME}_gtFine_labelIds.png has values" in text and "labelTrainIds" in text
    png = root / "gtFine/val/bonn/bonn_000001_000019_gtFine_instanceIds.png"
    png.write_bytes(png.read_bytes()[:-20])
    assert "instanceIds.png is truncated" in _error(root, split="val")


def test_errors_of_writing(tmp_path):
    with pytest.raises(UserError, match="no classes of objects dog, cat: rename them as one of person, rider"):
        FORMAT.write({"": instance_set(("car", "dog", "cat"))}, tmp_path)
    with pytest.raises(UserError, match="no classes lawn"):
        FORMAT.write({"": semantic_set(("road", "lawn"))}, tmp_path)
    many = with_content(instance_set(("car",)), lambda image, objects: objects[:1] * 1001)
    with pytest.raises(UserError, match="more than 1000 objects of class car"):
        FORMAT.write({"": many}, tmp_path)
