"""Mapillary Vistas, against ids and values written by hand."""

import json

import numpy as np
import pytest
from painted_scenes import arrays, image_of, panoptic_set
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError

FORMAT = format_named("mapillary")
IDS = np.array([[0, 70000, 5], [70000, 70000, 5]])
SEGMENTS = [
    {"id": 70000, "category_id": 2, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 0},
    {"id": 5, "category_id": 1, "area": 2, "bbox": [2, 0, 1, 2], "iscrowd": 0},
]
LABELS = [
    {"name": "animal--bird", "readable": "Bird", "instances": True, "evaluate": True, "color": [165, 42, 42]},
    {"name": "nature--sky", "readable": "Sky", "instances": False, "evaluate": True, "color": [70, 130, 180]},
    {"name": "object--car", "readable": "Car", "instances": True, "evaluate": True, "color": [0, 0, 142]},
    {"name": "void--unlabeled", "readable": "Unlabeled", "instances": False, "evaluate": False, "color": [0, 0, 0]},
]
# Two birds, the first of which has value 0, sky, a car, void.
VALUES = np.array([[0, 1, 256], [256, 513, 768]], np.uint16)


def _content(name):
    return {
        "images": [{"id": name, "file_name": f"{name}.jpg", "height": 2, "width": 3}],
        "annotations": [{"image_id": name, "file_name": f"{name}.png", "segments_info": SEGMENTS}],
        "categories": [
            {"id": 1, "name": "Bird", "supercategory": "animal--bird", "isthing": 1, "color": [165, 42, 42]},
            {"id": 2, "name": "Sky", "supercategory": "nature--sky", "isthing": 0, "color": [70, 130, 180]},
        ],
    }


def _save(path, name):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(_content(name)))
    rgb = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], -1).astype(np.uint8)
    Image.fromarray(rgb).save(path.parent / f"{name}.png")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "vistas"
    _save(folder / "training/v2.0/panoptic/panoptic_2020.json", "one")
    _save(folder / "training/v1.2/panoptic/panoptic_2018.json", "old")
    _save(folder / "validation/v2.0/panoptic/panoptic_2020.json", "two")
    (folder / "training/images").mkdir()
    return folder


@pytest.fixture
def instances(tmp_path):
    folder = tmp_path / "instances_only"
    (folder / "training/v1.2/instances").mkdir(parents=True)
    Image.fromarray(VALUES).save(folder / "training/v1.2/instances/x.png")
    (folder / "config_v1.2.json").write_text(json.dumps({"labels": LABELS}))
    return folder


def test_segments(root):
    assert format_of(root) is FORMAT
    annotations = read_annotations(Source(root, split="train"))
    (image,) = annotations.images
    assert (image.name, image.size) == ("one.jpg", (2, 3)) and annotations.folder == root / "training/images"
    ids, segments = annotations.read(image)
    np.testing.assert_array_equal(ids, IDS)
    assert [(s.id, annotations.categories[s.category].name) for s in segments] == [(70000, "Sky"), (5, "Bird")]


def test_instances_and_classes(root):
    annotations = read_annotations(Source(root, split="validation", task="instance"))
    np.testing.assert_array_equal(arrays(annotations, annotations.images[0]), [IDS == 5])
    annotations = read_annotations(Source(root, split="validation", task="semantic"))
    assert annotations.read(annotations.images[0]).tolist() == [[-1, 1, 0], [1, 1, 0]]


def test_all_splits_and_single_files(root):
    annotations = read_annotations(Source(root))
    assert [image.name for image in annotations.images] == ["training/images/one.jpg", "validation/images/two.jpg"]
    for image in annotations.images:
        np.testing.assert_array_equal(annotations.read(image).ids, IDS)
    assert annotations.folder == root
    path = root / "training/v1.2/panoptic/panoptic_2018.json"
    assert format_of(path) is FORMAT
    assert read_annotations(Source(path)).images[0].name == "old.jpg"
    assert read_annotations(Source(root / "validation")).images[0].name == "two.jpg"


def test_what_is_read_is_written(root, tmp_path):
    FORMAT.write({"train": read_annotations(Source(root, split="train"))}, tmp_path / "out")
    folder = tmp_path / "out/training/v2.0/panoptic"
    assert json.loads((folder / "panoptic_2020.json").read_text()) == _content("one")
    assert (folder / "one.png").read_bytes() == (root / "training/v2.0/panoptic/one.png").read_bytes()


def test_a_round_trip_from_another_format(tmp_path):
    annotations = panoptic_set()
    FORMAT.write({"val": annotations}, tmp_path)
    again = read_annotations(Source(tmp_path, split="val"))
    assert [image.id for image in again.images] == ["street/0001", "straße/ünï", "empty"]
    for image in annotations.images:
        one, other = annotations.read(image), again.read(image_of(again, image.name))
        np.testing.assert_array_equal(other.ids, one.ids)
        assert [(s.id, s.category, s.iscrowd) for s in other.segments] == [
            (s.id, s.category, s.iscrowd) for s in one.segments
        ]


def test_instances_of_16_bits(instances, tmp_path):
    assert format_of(instances) is FORMAT
    annotations = read_annotations(Source(instances))
    assert [(c.name, c.id, c.isthing) for c in annotations.categories] == [
        ("Bird", 1, True),
        ("Sky", 2, False),
        ("Car", 3, True),
    ]
    (image,) = annotations.images
    ids, segments = annotations.read(image)
    assert image.name == "x.jpg" and ids.tolist() == [[1, 2, 257], [257, 514, 0]]
    assert [(s.id, s.category) for s in segments] == [(1, 0), (2, 0), (257, 1), (514, 2)]
    semantic = read_annotations(Source(instances, task="semantic"))
    assert semantic.read(semantic.images[0]).tolist() == [[0, 0, 1], [1, 2, -1]]
    things = read_annotations(Source(instances, task="instance"))
    assert [c.name for c in things.categories] == ["Bird", "Car"]
    assert [o.category for o in things.read(things.images[0])] == [0, 0, 1]
    np.testing.assert_array_equal(arrays(things, things.images[0]), [VALUES == 0, VALUES == 1, VALUES == 513])
    FORMAT.write({"": annotations}, tmp_path / "out")
    again = read_annotations(Source(tmp_path / "out"))
    np.testing.assert_array_equal(again.read(again.images[0]).ids, ids)


def _error(path, **source) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as error:
        annotations = read_annotations(Source(path, **source), "mapillary")
        for image in annotations.images:
            annotations.read(image)
    return str(error.value)


def test_errors_name_the_file_and_the_way_out(root, instances, tmp_path):
    text = _error(root, split="test")
    assert "testing" in text or "test/v2.0" in text
    assert "name the folder that has the splits" in text
    path = root / "validation/v2.0/panoptic/panoptic_2020.json"
    content = _content("two")
    content["categories"][0]["name"] = "Byrd"
    path.write_text(json.dumps(content))
    assert "has other classes than" in _error(root) and "--split" in _error(root)
    path.write_text("{}")
    assert "panoptic_2020.json is not a COCO panoptic JSON" in _error(root)
    config = instances / "config_v1.2.json"
    config.write_text(json.dumps({"labels": LABELS[:2]}))
    text = _error(instances)
    assert "x.png has classes 2, 3" in text and "config_v1.2.json lists 0 to 1" in text
    config.write_text(json.dumps({"labels": [{"name": "a"}]}))
    assert "config_v1.2.json: labels[0]" in _error(instances)
    config.write_text("[]")
    assert "no list of up to 256 labels" in _error(instances)
    config.write_text(json.dumps({"labels": LABELS}))
    Image.fromarray(VALUES.astype(np.uint8)).save(instances / "training/v1.2/instances/x.png")
    assert "x.png has 8 bits, expected 16" in _error(instances)
    (instances / "training/v1.2/instances/x.png").unlink()
    assert "has no PNG" in _error(instances)
