"""BDD100K's bitmasks, against bytes written by hand after its documentation."""

import json

import numpy as np
import pytest
from painted_scenes import arrays, files_of, image_of, instance_set, topmost, with_content
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.errors import UserError
from pnm.masks.crops import crop_array

FORMAT = format_named("bdd100k")
CAR, CROWD, BIKE, NONE = (3, 12, 1, 44), (1, 2, 0, 7), (8, 1, 255, 255), (0, 0, 0, 0)
PIXELS = np.array([[CAR, CAR, NONE], [CROWD, BIKE, (0, 0, 0, 9)]], np.uint8)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "bdd100k/labels/ins_seg/bitmasks"
    (folder / "val").mkdir(parents=True)
    Image.fromarray(PIXELS).save(folder / "val/b1c66a42.png")
    return folder


def test_bytes_of_a_pixel(root):
    assert format_of(root) is FORMAT
    annotations = read_annotations(Source(root, split="val"))
    names = ["pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert [c.name for c in annotations.categories] == names
    (image,) = annotations.images
    assert (image.name, image.size) == ("b1c66a42.jpg", (2, 3))
    assert [(o.category, o.id, o.iscrowd, dict(o.attributes)) for o in annotations.read(image)] == [
        (0, 7, True, {}),
        (2, 256 + 44, False, {"truncated": True, "occluded": True}),
        (7, 65535, False, {"ignored": True}),
    ]
    expected = [(one == PIXELS).all(axis=2) for one in (CROWD, CAR, BIKE)]
    np.testing.assert_array_equal(arrays(annotations, image), expected)


def test_images_are_those_of_the_data_set(root, tmp_path):
    folder = tmp_path / "bdd100k/images/10k/val"
    folder.mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(folder / "b1c66a42.jpeg")
    for source in (Source(root, split="val"), Source(root / "val")):
        annotations = read_annotations(source)
        assert annotations.images[0].name == "b1c66a42.jpeg" and annotations.folder == folder


def test_what_is_read_is_written_byte_for_byte(root, tmp_path):
    FORMAT.write({"": read_annotations(Source(root))}, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(root)


def test_a_redrawn_object_leaves_the_rest(root, tmp_path):
    mask = np.array([[0, 0, 1], [0, 0, 0]], bool)

    def change(image, objects):
        return tuple(o.with_crop(crop_array(mask)) if o.category == 2 else o for o in objects)

    FORMAT.write({"": with_content(read_annotations(Source(root)), change)}, tmp_path / "out")
    expected = PIXELS.copy()
    expected[0] = [NONE, NONE, CAR]
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out/val/b1c66a42.png")), expected)


def test_a_round_trip_from_another_format(tmp_path, caplog):
    annotations = instance_set(("car", "Fußgänger"), crowd=True)
    FORMAT.write({"train": annotations}, tmp_path)
    assert "16 pixels under later objects" in caplog.text
    again = read_annotations(Source(tmp_path, split="train"), "bdd100k")
    assert [c.name for c in again.categories] == ["car", "Fußgänger"]
    for image in annotations.images:
        objects = annotations.read(image)
        order = sorted(range(len(objects)), key=lambda n: (objects[n].category, objects[n].iscrowd, objects[n].id))
        other = image_of(again, image.name)
        facts = [(objects[n].id, objects[n].category, objects[n].iscrowd) for n in order]
        assert [(o.id, o.category, o.iscrowd) for o in again.read(other)] == facts
        masks = topmost(arrays(annotations, image))
        np.testing.assert_array_equal(arrays(again, other), [masks[n] for n in order])


def test_errors_name_the_file_and_the_way_out(root, tmp_path):
    def error(path, **source) -> str:
        with pytest.raises((UserError, FileNotFoundError)) as caught:
            annotations = read_annotations(Source(path, **source), "bdd100k")
            annotations.read(annotations.images[0])
        return str(caught.value)

    assert "test is not a folder" in error(root, split="test")
    text = error(root, classes=["a", "b"])
    assert "b1c66a42.png has classes 3, 8, expected 1 to 2" in text and "--classes" in text
    (tmp_path / "empty").mkdir()
    assert "has no PNG" in error(tmp_path / "empty")
    png = root / "val/b1c66a42.png"
    png.write_bytes(png.read_bytes()[:-20])
    assert "b1c66a42.png is truncated" in error(root) and not FORMAT.recognises(root)
    Image.fromarray(PIXELS[..., :3]).save(png)
    assert "b1c66a42.png has no alpha" in error(root) and not FORMAT.recognises(root)
    with pytest.raises(UserError, match="256 classes.*255"):
        FORMAT.write({"": instance_set(tuple(map(str, range(256))))}, tmp_path)


def test_pictures_and_label_pngs_are_not_taken(tmp_path):
    Image.new("RGBA", (3, 2), (200, 90, 10, 255)).save(tmp_path / "a.png")
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "none")


def test_polygons_and_attributes_of_coco(tmp_path):
    """A box, COCO's pixels of which are those between its corners, and one that lies partly outside."""
    annotations = [
        {"id": 4, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 6, "bbox": [1, 0, 3, 2],
         "segmentation": [[1, 0, 4, 0, 4, 2, 1, 2]], "attributes": {"occluded": True, "colour": "red"}},
        {"id": 9, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1, "bbox": [5, 3, 2, 2],
         "segmentation": [[5, 3, 8, 3, 8, 6, 5, 6]]},
    ]  # fmt: skip
    images = [{"id": 1, "file_name": "a/b.jpg", "height": 4, "width": 6}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    FORMAT.write({"": read_annotations(Source(tmp_path / "coco.json"))}, tmp_path / "out")
    again = read_annotations(Source(tmp_path / "out"))
    (image,) = again.images
    assert [(o.id, dict(o.attributes)) for o in again.read(image)] == [(9, {}), (4, {"occluded": True})]
    corner, box = np.zeros((2, 4, 6), bool)
    corner[3, 5], box[0:2, 1:4] = True, True
    np.testing.assert_array_equal(arrays(again, image), [corner, box])
