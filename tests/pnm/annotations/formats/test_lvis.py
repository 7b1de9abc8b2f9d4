"""LVIS, against a file written by hand and masks drawn by hand; the lvis package where it is installed."""

import json

import numpy as np
import pytest
from painted_scenes import arrays, image_of, instance_set, with_content

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError
from pnm.masks.crops import crop_array

FORMAT = format_named("lvis")
CONTENT = {
    "info": {"version": "1"},
    "images": [
        {
            "id": 397133,
            "height": 4,
            "width": 6,
            "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg",
            "neg_category_ids": [3],
            "not_exhaustive_category_ids": [1],
            "license": 4,
        },
        {
            "id": 5,
            "height": 2,
            "width": 2,
            "coco_url": "http://images.cocodataset.org/train2017/000000000005.jpg",
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        },
    ],
    "categories": [
        {"id": 1, "name": "aerosol_can", "synset": "aerosol.n.02", "synonyms": ["spray"], "def": "a", "frequency": "c"},
        {"id": 3, "name": "alarm", "synset": "alarm.n.02", "synonyms": ["a"], "def": "b", "frequency": "r"},
    ],
    "annotations": [
        {
            "id": 9,
            "image_id": 397133,
            "category_id": 1,
            "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]],
            "area": 6.0,
            "bbox": [1, 1, 3, 2],
            "extra": "kept",
        },
        {"id": 10, "image_id": 397133, "category_id": 3, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]], "area": 1.0},
    ],
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "lvis_v1_val.json"
    file.write_text(json.dumps(CONTENT))
    return file


def test_images_are_named_by_their_address(path):
    assert format_of(path) is FORMAT
    annotations = read_annotations(Source(path))
    assert [image.name for image in annotations.images] == ["val2017/000000397133.jpg", "train2017/000000000005.jpg"]
    expected = np.zeros((4, 6), bool)
    expected[1:3, 1:4] = True
    image = annotations.images[0]
    np.testing.assert_array_equal(arrays(annotations, image)[0], expected)
    assert [(o.id, o.category, o.iscrowd) for o in annotations.read(image)] == [(9, 0, False), (10, 1, False)]
    assert annotations.read(annotations.images[1]) == ()


def test_a_file_name_comes_before_the_address(path):
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "COCO_val2014_000000397133.jpg"
    path.write_text(json.dumps(content))
    assert read_annotations(Source(path)).images[0].name == "COCO_val2014_000000397133.jpg"


def test_what_is_read_is_written(path, tmp_path):
    FORMAT.write({"val": read_annotations(Source(path))}, tmp_path / "out")
    assert json.loads((tmp_path / "out/lvis_val.json").read_text()) == CONTENT


def test_a_redrawn_object_changes_in_its_mask_alone(path, tmp_path):
    mask = np.zeros((4, 6), bool)
    mask[0, 2:5] = True

    def change(image, objects):
        return tuple(o.with_crop(crop_array(mask)) if o.id == 9 else o for o in objects)

    FORMAT.write({"": with_content(read_annotations(Source(path)), change)}, tmp_path / "out")
    content = json.loads((tmp_path / "out/lvis.json").read_text())
    first, second = content["annotations"]
    assert second == CONTENT["annotations"][1]
    assert {**first, "segmentation": 0} == {
        **CONTENT["annotations"][0],
        "segmentation": 0,
        "area": 3,
        "bbox": [2, 0, 3, 1],
    }


def test_a_round_trip_from_another_format(tmp_path, caplog):
    annotations = instance_set(("car", "Fußgänger"), crowd=True)
    FORMAT.write({"": annotations}, tmp_path)
    assert "2 objects are left out" in caplog.text
    assert format_of(tmp_path / "lvis.json") is FORMAT
    content = json.loads((tmp_path / "lvis.json").read_text())
    assert all(entry["neg_category_ids"] == [] and entry["coco_url"] for entry in content["images"])
    assert not any("iscrowd" in entry for entry in content["annotations"])
    assert [(c["frequency"], c["image_count"], c["instance_count"]) for c in content["categories"]] == [
        ("r", 2, 6),
        ("r", 2, 4),
    ]
    again = read_annotations(Source(tmp_path / "lvis.json"))
    for image in annotations.images:
        expected = [mask for mask, o in zip(arrays(annotations, image), annotations.read(image)) if not o.iscrowd]
        np.testing.assert_array_equal(arrays(again, image_of(again, image.name)), expected)


def test_an_image_without_a_name_is_told(path):
    content = json.loads(path.read_text())
    del content["images"][1]["coco_url"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"lvis_v1_val.json: image 5 has neither .*add one"):
        read_annotations(Source(path))


def test_plain_coco_is_not_lvis(path):
    content = {**CONTENT, "images": [{"id": 1, "file_name": "a.jpg", "height": 2, "width": 2}], "annotations": []}
    content["categories"] = [{"id": 1, "name": "a"}]
    path.write_text(json.dumps(content))
    assert format_of(path).name == "coco"
    path.write_text("{")
    assert not FORMAT.recognises(path)


def test_the_lvis_package_reads_the_same_masks(tmp_path):
    lvis = pytest.importorskip("lvis")
    annotations = instance_set(("car", "dog"))
    FORMAT.write({"": annotations}, tmp_path)
    theirs = lvis.LVIS(str(tmp_path / "lvis.json"))
    image = annotations.images[0]
    entries = theirs.load_anns([a["id"] for a in theirs.dataset["annotations"] if a["image_id"] == image.id])
    np.testing.assert_array_equal([theirs.ann_to_mask(a) > 0 for a in entries], arrays(annotations, image))
