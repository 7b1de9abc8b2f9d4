"""COCO panoptic, against ids drawn by hand and real files; panopticapi's rule is R + 256 G + 65536 B."""

import json

import numpy as np
import pytest
from painted_scenes import arrays, image_of, panoptic_set, with_content
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import AnnotatedObject, Segments
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError

FORMAT = format_named("coco-panoptic")
IDS = np.array([[0, 70000, 70000, 5], [300, 300, 70000, 5]])
CONTENT = {
    "info": {"year": 2018},
    "images": [{"id": 139, "file_name": "a/ü.jpg", "height": 2, "width": 4, "license": 2}],
    "categories": [
        {"id": 1, "name": "person", "supercategory": "person", "isthing": 1, "color": [1, 2, 3]},
        {"id": 92, "name": "sky", "supercategory": "sky", "isthing": 0, "color": [4, 5, 6]},
        {"id": 3, "name": "car", "supercategory": "vehicle", "isthing": 1, "color": [7, 8, 9]},
    ],
    "annotations": [
        {
            "image_id": 139,
            "file_name": "000000000139.png",
            "note": "kept",
            "segments_info": [
                {"id": 300, "category_id": 3, "iscrowd": 1, "area": 2, "bbox": [0, 1, 2, 1], "note": 1},
                {"id": 70000, "category_id": 92, "iscrowd": 0, "area": 3, "bbox": [1, 0, 2, 2]},
                {"id": 5, "category_id": 1, "iscrowd": 0, "area": 2, "bbox": [3, 0, 1, 2]},
            ],
        }
    ],
}


def _save(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "panoptic_val.json"
    file.write_text(json.dumps(CONTENT))
    _save(tmp_path / "panoptic_val/000000000139.png", IDS)
    return file


def test_segments(path):
    assert format_of(path) is FORMAT
    annotations = read_annotations(Source(path))
    assert annotations.task == "panoptic"
    assert [(c.name, c.id, c.isthing) for c in annotations.categories] == [
        ("person", 1, True),
        ("sky", 92, False),
        ("car", 3, True),
    ]
    (image,) = annotations.images
    assert (image.name, image.size, image.id) == ("a/ü.jpg", (2, 4), 139)
    ids, segments = annotations.read(image)
    np.testing.assert_array_equal(ids, IDS)
    assert ids.dtype == np.int32
    assert [(s.id, s.category, s.iscrowd) for s in segments] == [(300, 2, True), (70000, 1, False), (5, 0, False)]


def test_things_are_instances(path):
    annotations = read_annotations(Source(path, task="instance"))
    assert [c.name for c in annotations.categories] == ["person", "car"]
    (image,) = annotations.images
    assert [(o.id, o.category, o.iscrowd) for o in annotations.read(image)] == [(300, 1, True), (5, 0, False)]
    np.testing.assert_array_equal(arrays(annotations, image), [IDS == 300, IDS == 5])


def test_classes(path):
    annotations = read_annotations(Source(path, task="semantic"))
    assert annotations.read(annotations.images[0]).tolist() == [[-1, 1, 1, 0], [2, 2, 1, 0]]
    assert len(annotations.categories) == 3


def test_images_that_are_not_listed_are_named_as_their_pngs(path, tmp_path):
    path.write_text(json.dumps({**CONTENT, "images": []}))
    (image,) = read_annotations(Source(path)).images
    assert (image.name, image.size) == ("000000000139.png", (2, 4))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 2)).save(tmp_path / "images/000000000139.jpg")
    assert read_annotations(Source(path, tmp_path / "images")).images[0].name == "000000000139.jpg"


def test_what_is_read_is_written(path, tmp_path):
    FORMAT.write({"val": read_annotations(Source(path))}, tmp_path / "out")
    assert json.loads((tmp_path / "out/panoptic_val.json").read_text()) == CONTENT
    copied = tmp_path / "out/panoptic_val/000000000139.png"
    assert copied.read_bytes() == (tmp_path / "panoptic_val/000000000139.png").read_bytes()


def test_other_pixels_change_area_and_box_alone(path, tmp_path, caplog):
    def change(image, content):
        ids = content.ids.copy()
        ids[0, 0] = 70000
        ids[ids == 5] = 0
        return Segments(ids, content.segments)

    FORMAT.write({"": with_content(read_annotations(Source(path)), change)}, tmp_path / "out")
    content = json.loads((tmp_path / "out/panoptic.json").read_text())
    first, second, _ = CONTENT["annotations"][0]["segments_info"]
    assert content["annotations"][0]["segments_info"] == [first, {**second, "area": 4, "bbox": [0, 0, 3, 2]}]
    assert "1 segments have no pixel" in caplog.text
    assert content["annotations"][0]["note"] == "kept"


def test_a_round_trip_from_another_format(tmp_path):
    annotations = panoptic_set()
    FORMAT.write({"train": annotations}, tmp_path)
    again = read_annotations(Source(tmp_path / "panoptic_train.json"))
    assert [c[:3] for c in again.categories] == [c[:3] for c in annotations.categories]
    for image in annotations.images:
        one, other = annotations.read(image), again.read(image_of(again, image.name))
        np.testing.assert_array_equal(other.ids, one.ids)
        assert [(s.id, s.category, s.iscrowd) for s in other.segments] == [
            (s.id, s.category, s.iscrowd) for s in one.segments
        ]
    categories = json.loads((tmp_path / "panoptic_train.json").read_text())["categories"]
    assert all(len(entry["color"]) == 3 and entry["supercategory"] for entry in categories)
    with Image.open(tmp_path / "panoptic_train/straße/ünï.png") as picture:
        assert picture.mode == "RGB" and picture.getpixel((10, 0)) == (70000 % 256, 70000 // 256 % 256, 1)


def test_ids_that_do_not_fit_are_numbered(tmp_path):
    ids = np.array([[1, 2**25]], np.int32)
    segments = (AnnotatedObject(0, id=1), AnnotatedObject(1, id=2**25))
    annotations = with_content(panoptic_set(("a.jpg",)), lambda image, content: Segments(ids, segments))
    FORMAT.write({"": annotations}, tmp_path)
    path = tmp_path / "panoptic.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": 1, "width": 2}
    path.write_text(json.dumps(content))
    again = read_annotations(Source(path))
    assert again.read(again.images[0]).ids.tolist() == [[1, 2]]


def test_real_files(real_data, tmp_path):
    path = real_data / "coco/annotations/panoptic_val2017.json"
    annotations = read_annotations(Source(path))  # the PNGs are beside the JSON's folder
    assert [len(annotations.read(image).segments) for image in annotations.images] in ([18, 30], [30, 18])
    FORMAT.write({"val2017": annotations}, tmp_path / "out")
    assert json.loads((tmp_path / "out" / path.name).read_text()) == json.loads(path.read_text())


def _error(path, **source) -> str:
    with pytest.raises((UserError, FileNotFoundError)) as error:
        annotations = read_annotations(Source(path, **source), "coco-panoptic")
        for image in annotations.images:
            annotations.read(image)
    return str(error.value)


def _changed(path, **parts):
    content = json.loads(json.dumps(CONTENT))
    for key, value in parts.items():
        content["annotations"][0][key] = value
    path.write_text(json.dumps(content))


def test_errors_name_the_file_and_the_way_out(path, tmp_path):
    png = tmp_path / "panoptic_val/000000000139.png"
    segments = CONTENT["annotations"][0]["segments_info"]
    _changed(path, segments_info=segments[:2])
    assert "000000000139.png has segment ids 5 that" in _error(path) and "list them" in _error(path)
    _changed(path, segments_info=[*segments, {"id": 8, "category_id": 1}])
    assert "segments 8 for image 139 that have no pixel" in _error(path)
    _changed(path, segments_info=[{**segments[0], "category_id": 77}])
    assert "category 77, which the file doesn't list" in _error(path)
    _changed(path, segments_info=[segments[0], segments[0]])
    assert "id 300 twice" in _error(path)
    _changed(path, file_name="../x.png")
    assert "leads out" in _error(path)
    path.write_text(json.dumps({**CONTENT, "images": [{**CONTENT["images"][0], "file_name": "/etc/x"}]}))
    assert "'/etc/x' leads out" in _error(path)
    path.write_text(json.dumps({**CONTENT, "images": [7]}))
    assert "no list of objects" in _error(path)
    path.write_text(json.dumps({**CONTENT, "images": [{**CONTENT["images"][0], "width": 5}]}))
    assert "is 2 x 4" in _error(path) and "says 2 x 5" in _error(path)
    path.write_text(json.dumps({**CONTENT, "images": []}))
    data = png.read_bytes()
    png.write_bytes(data[:40])
    assert "truncated" in _error(path)
    png.unlink()
    assert "000000000139.png is missing" in _error(path) and "restore it" in _error(path)
    png.parent.rmdir()
    assert "has no folder of PNGs" in _error(path)
    png.parent.mkdir()
    path.write_text("{}")
    assert "not a COCO panoptic JSON" in _error(path)
