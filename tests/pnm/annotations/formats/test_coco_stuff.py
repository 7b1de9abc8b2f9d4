"""COCO-Stuff's JSON, against labels drawn by hand."""

import json

import numpy as np
import pytest
from painted_scenes import image_of, semantic_set, with_content

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError

FORMAT = format_named("coco-stuff")
LABELS = [[-1, 1, 1], [0, 0, 1]]
CONTENT = {
    "info": {"year": 2017},
    "images": [
        {"id": 139, "file_name": "000000000139.jpg", "height": 2, "width": 3, "license": 2},
        {"id": 140, "file_name": "void.jpg", "height": 1, "width": 1},
    ],
    "categories": [
        {"id": 92, "name": "banner", "supercategory": "textile"},
        {"id": 183, "name": "other", "supercategory": "other"},
    ],
    "annotations": [
        {
            "id": 20000000,
            "image_id": 139,
            "category_id": 183,
            "segmentation": {"size": [2, 3], "counts": [2, 1, 1, 2]},
            "area": 3,
            "bbox": [1, 0, 2, 2],
            "iscrowd": 0,
            "note": "kept",
        },
        {
            "id": 20000001,
            "image_id": 139,
            "category_id": 92,
            "segmentation": {"size": [2, 3], "counts": [1, 1, 1, 1, 2]},
            "area": 2,
            "bbox": [0, 1, 2, 1],
            "iscrowd": 0,
        },
    ],
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "stuff_val2017.json"
    file.write_text(json.dumps(CONTENT))
    return file


def test_masks_are_painted(path):
    assert format_of(path) is FORMAT
    annotations = read_annotations(Source(path))
    assert annotations.task == "semantic" and [c.id for c in annotations.categories] == [92, 183]
    labels = annotations.read(annotations.images[0])
    assert labels.tolist() == LABELS and labels.dtype == np.int32
    assert annotations.read(annotations.images[1]).tolist() == [[-1]]


def test_what_is_read_is_written(path, tmp_path):
    FORMAT.write({"val2017": read_annotations(Source(path))}, tmp_path / "out")
    assert json.loads((tmp_path / "out/stuff_val2017.json").read_text()) == CONTENT


def test_other_labels_change_the_masks_alone(path, tmp_path):
    def change(image, labels):
        labels[0, 0] = 0
        return labels

    FORMAT.write({"": with_content(read_annotations(Source(path)), change)}, tmp_path)
    again = read_annotations(Source(tmp_path / "stuff.json"))
    assert again.read(again.images[0]).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert again.read(again.images[1]).tolist() == [[0]]
    entries = {entry["id"]: entry for entry in json.loads((tmp_path / "stuff.json").read_text())["annotations"]}
    assert entries[20000000] == CONTENT["annotations"][0]
    assert entries[20000001]["area"] == 3 and entries[20000002]["image_id"] == 140


def test_a_round_trip_from_another_format(tmp_path):
    annotations = semantic_set(("sky", "Straße", "tree"))
    FORMAT.write({"": annotations}, tmp_path)
    assert format_of(tmp_path / "stuff.json") is FORMAT
    again = read_annotations(Source(tmp_path / "stuff.json"))
    assert [c.name for c in again.categories] == ["sky", "Straße", "tree"]
    for image in annotations.images:
        np.testing.assert_array_equal(again.read(image_of(again, image.name)), annotations.read(image))


def test_stuff_is_told_by_its_categories(path):
    content = json.loads(path.read_text())
    content["categories"][1] = {"id": 183, "name": "person", "supercategory": "person"}
    path.write_text(json.dumps(content))
    assert format_of(path).name == "coco"
    assert read_annotations(Source(path), "coco-stuff").task == "semantic"  # where it is named
    for entry in content["categories"]:
        entry["isthing"] = 0
    path.write_text(json.dumps(content))
    assert format_of(path) is FORMAT


def test_damaged_files_are_told(path):
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"]["counts"] = [7]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"stuff_val2017.json: annotations\[0\].*add up to 2 x 3"):
        read_annotations(Source(path))
    path.write_text("[]")
    with pytest.raises(UserError, match="stuff_val2017.json doesn't have the three lists"):
        read_annotations(Source(path), "coco-stuff")
    with pytest.raises(UserError, match="instance ones cannot be made"):
        read_annotations(Source(path, task="instance"), "coco-stuff")
