"""labelme's JSONs: what they say is read pixel for pixel, and what is no mask survives the way there and back."""

import base64
import io
import json

import numpy as np
import pytest
from outlined_scenes import (
    SIZE,
    assert_same_masks,
    masks_of,
    pixels,
    redraw,
    scene_set,
    write_images,
)
from PIL import Image

from pnm.annotations.annotation_format import Source
from pnm.annotations.formats import labelme
from pnm.annotations.known_formats import format_of, read_annotations
from pnm.errors import UserError

HEIGHT, WIDTH = SIZE


def png_text(values, mode="L"):
    file = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8)).convert(mode).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def shape(label, points, kind="polygon", **others):
    row = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind}
    return {**row, "flags": {}, "mask": None, **others}


def document(shapes, path="a.jpg", **others):
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path, "imageData": None}
    return content | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | others


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


SHAPES = [
    shape("dog", [[2, 2], [6, 2], [6, 6], [2, 6]], group_id=4, flags={"occluded": True}, description="left one"),
    shape("cat", [[9, 3], [12, 5]], "rectangle"),
    shape("cat", [[3, 3]], "point", note="nose"),
    shape("dog", [[8, 10], [10, 10], [10, 14], [8, 14]], group_id=4),
    shape("cat", [[20, 15], [22, 17]], "mask", mask=png_text([[1, 0, 1], [0, 0, 1], [1, 1, 1]])),
    shape("cat", [[1, 1], [9, 1]], "linestrip"),
    shape("cat", [[5, 5], [9, 9]], "line", group_id=4),
]


def test_shapes_are_read_by_their_own_rules(tmp_path):
    save(tmp_path / "a.json", document(SHAPES, flags={"night": True}))
    assert format_of(tmp_path) is labelme.FORMAT and format_of(tmp_path / "a.json") is labelme.FORMAT
    annotations = read_annotations(Source(tmp_path))
    assert [c.name for c in annotations.categories] == ["cat", "dog"]
    mask = pixels((20, 15, 23, 18), holes=[(21, 15, 22, 17), (20, 16, 21, 17)])
    expected = [pixels((2, 2, 6, 6), (8, 10, 10, 14)), pixels((9, 3, 12, 5)), mask]
    assert_same_masks(annotations, {"a.jpg": expected})
    objects = annotations.read(annotations.images[0])
    assert [thing.category for thing in objects] == [1, 0, 0]
    assert objects[0].attributes == {"occluded": True, "description": "left one"}
    assert annotations.images[0].attributes == {"night": True}
    assert [line.split(": ", 1)[1] for line in annotations.remarks] == [
        *(f"1 shapes left out that have no area: {kind}" for kind in ("line", "linestrip", "point")),
        "1 shapes read as what they enclose: rectangle",
    ]


def test_a_circle_is_its_pixels_within_the_tolerance(tmp_path):
    save(tmp_path / "a.json", document([shape("o", [[60, 50], [60, 90]], "circle")], imageHeight=100, imageWidth=120))
    mask = masks_of(read_annotations(Source(tmp_path)), "a.jpg")[0]
    y, x = np.mgrid[:100, :120] + 0.5
    distance = np.hypot(x - 60, y - 50)
    assert mask[distance < 39.3].all() and not mask[distance > 40.7].any()
    assert abs(mask.sum() - np.pi * 40**2) < 0.01 * np.pi * 40**2


def test_masks_of_other_kinds_and_beyond_the_frame(tmp_path):
    bits = shape("a", [[-1, 18.7], [1, 20.2]], "mask", mask=png_text([[255] * 3] * 3, "1"))
    joined = [shape("b", [[4, 4], [4, 4]], "mask", mask=png_text([[255]]), group_id=1)]
    joined += [shape("b", [[6, 4], [8, 7]], "rectangle", group_id=1)]
    save(tmp_path / "a.json", document([bits, *joined]))
    assert_same_masks(
        read_annotations(Source(tmp_path)),
        {"a.jpg": [pixels((0, 18, 2, 20)), pixels((4, 4, 5, 5), (6, 4, 8, 7))]},
    )


def test_there_and_back_is_the_same_document(tmp_path):
    first = document(SHAPES, owner={"name": "Ünal"}, imageData="aGVsbG8=")
    save(tmp_path / "in/x/a.json", first)
    annotations = read_annotations(Source(tmp_path / "in"))
    labelme.write({"": annotations}, tmp_path / "out")
    assert json.loads((tmp_path / "out/x/a.json").read_text("utf-8")) == first


def test_only_a_redrawn_object_changes(tmp_path):
    save(tmp_path / "in/a.json", document(SHAPES))
    changed = redraw(read_annotations(Source(tmp_path / "in")), "a.jpg", 0, pixels((3, 3, 5, 4)))
    labelme.write({"": changed}, tmp_path / "out")
    shapes = json.loads((tmp_path / "out/a.json").read_text("utf-8"))["shapes"]
    new = shapes[0]
    assert shapes[1:] == [SHAPES[1], SHAPES[2], *SHAPES[4:]]
    assert {key: new[key] for key in ("shape_type", "points")} == {"shape_type": "mask", "points": [[3, 3], [4, 3]]}
    kept = ("label", "group_id", "flags", "description")
    assert {key: new[key] for key in kept} == {key: SHAPES[0][key] for key in kept}
    again = read_annotations(Source(tmp_path / "out"))
    np.testing.assert_array_equal(masks_of(again, "a.jpg")[0], pixels((3, 3, 5, 4)))


def test_other_formats_keep_masks_ids_and_attributes(tmp_path):
    write_images(tmp_path / "images")
    annotations, masks = scene_set(tmp_path / "images")
    labelme.write({"train": annotations}, tmp_path / "out")
    again = read_annotations(Source(tmp_path / "out", images=tmp_path / "images", split="train"))
    assert_same_masks(again, masks)
    for image in annotations.images:
        objects = next(again.read(other) for other in again.images if other.name == image.name)
        for one, other in zip(annotations.read(image), objects, strict=True):
            assert (one.id, one.iscrowd, one.score) == (other.id, other.iscrowd, other.score)
            assert dict(one.attributes) == dict(other.attributes)
            assert annotations.categories[one.category].name == again.categories[other.category].name
    path = tmp_path / "out/train/street/0001.json"
    content = json.loads(path.read_text("utf-8"))
    assert (path.parent / content["imagePath"]).resolve() == (tmp_path / "images/street/0001.jpg").resolve()
    parts = [row for row in content["shapes"] if row["label"] == "dog" and row["group_id"] is not None]
    assert len(parts) == 2 and parts[0]["group_id"] == parts[1]["group_id"]


def test_images_are_found_by_path_or_by_the_jsons_name(tmp_path):
    write_images(tmp_path / "pictures", ["x/a.jpg", "x/b.png", "c.jpg"])
    save(tmp_path / "labels/x/a.json", document([], "..\\..\\pictures\\x\\a.jpg"))
    save(tmp_path / "labels/x/b.json", document([], "D:\\old\\other.png"))
    save(tmp_path / "labels/odd.json", document([], "elsewhere/c.jpg"))
    save(tmp_path / "labels/gone.json", document([], "/data/gone.jpg"))
    annotations = read_annotations(Source(tmp_path / "labels", images=tmp_path / "pictures"))
    assert [image.name for image in annotations.images] == ["gone.jpg", "c.jpg", "x/a.jpg", "x/b.png"]
    assert annotations.folder == tmp_path / "pictures"


def test_sizes_that_the_json_does_not_say(tmp_path):
    write_images(tmp_path, ["a.jpg"], (5, 7))
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    (tmp_path / "a.json").write_bytes(
        b"\xef\xbb\xbf" + json.dumps(document([], imageHeight=None, imageWidth=None)).encode()
    )
    save(tmp_path / "b.json", document([], "b.jpg", imageData=data, imageHeight=None, imageWidth=None))
    assert [i.size for i in read_annotations(Source(tmp_path)).images] == [(5, 7), (2, 3)]


def test_x_anylabeling(tmp_path):
    one = shape("cat", [[1, 1], [5, 1], [5, 4], [1, 4]], "rectangle", score=0.5, attributes={"fur": "red"})
    two = shape("cat", [[8, 8], [12, 8], [12, 12], [8, 12]], "rotation", direction=0.0)
    save(tmp_path / "a.json", document([one, two]))
    annotations = read_annotations(Source(tmp_path))
    assert_same_masks(annotations, {"a.jpg": [pixels((1, 1, 5, 4)), pixels((8, 8, 12, 12))]})
    thing = annotations.read(annotations.images[0])[0]
    assert thing.score == 0.5 and thing.attributes == {"fur": "red"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (shape("cat", [[1, 1], [2, "x"], [3, 3]]), "expected [[x, y], ...] in pixels"),
        (shape("cat", [[1, 1], [2, float("nan")], [3, 3]]), "are no numbers"),
        (shape("cat", [[1, 1], [2, 1e5], [3, 3]]), "lie far outside the image of 20 x 24"),
        (shape("cat", [[1, 1]], "rectangle"), "a rectangle of 1 points, expected two: draw it again"),
        (shape("cat", [[1, 1]] * 3, "circle"), "a circle of 3 points"),
        (shape("cat", [[1, 1]], "mask", mask=png_text([[1]])), "a mask of 1 points"),
        (
            shape("cat", [[1, 1], [2, 2]], "mask", mask=png_text([[1]])),
            "expected a grey one of its box [[1, 1], [2, 2]]",
        ),
        (shape("cat", [[1, 1], [1, 1]], "mask", mask=png_text([[1]], "RGB")), "is a RGB image"),
        (shape("cat", [[1, 1], [1, 1]], "mask", mask="#"), "is no PNG in base64"),
        (shape("cat", [[1, 1], [1, 1]], "mask"), "is no PNG in base64"),
        (shape("cat", [[1, 1], [1, 1]], "mask", mask=png_text([[1]])[:-30]), "is no PNG in base64"),
    ],
)
def test_damaged_shapes_are_named(tmp_path, row, words):
    save(tmp_path / "a.json", document([shape("cat", [[1, 1], [2, 1], [2, 2]]), row]))
    annotations = read_annotations(Source(tmp_path))
    with pytest.raises(UserError) as error:
        annotations.read(annotations.images[0])
    assert words in str(error.value) and f"{tmp_path / 'a.json'}: shapes[1]" in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (document([{"points": []}]), "shapes[0] is {'points': []}, expected one with a label"),
        (document([], imageHeight=0), "height and width are 0 and 24"),
        (document([], imageHeight=10**9, imageWidth=10**9), "expected whole numbers from 1"),
        (
            document([], imageHeight=None, imageWidth=None),
            "doesn't say imageHeight and imageWidth, and a.jpg is not in",
        ),
        (document([], imageHeight=None, imageWidth=None, imageData="x"), "imageData is no image"),
        (document([], None), "imagePath is 'None'"),
        ({"shapes": []}, "has no list of shapes, or no imagePath"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, words):
    save(tmp_path / "a.json", content)
    with pytest.raises(UserError) as error:
        read_annotations(Source(tmp_path), "labelme")
    assert words in str(error.value) and str(tmp_path / "a.json") in str(error.value)


def test_messages_about_folders(tmp_path):
    with pytest.raises(UserError, match="has no labelme JSON in it"):
        read_annotations(Source(tmp_path), "labelme")
    save(tmp_path / "a.json", document([]))
    save(tmp_path / "settings.json", {"a": 1})
    assert "1 other JSONs left out: settings.json" in read_annotations(Source(tmp_path)).remarks[0]
    with pytest.raises(FileNotFoundError, match="val is not a folder"):
        read_annotations(Source(tmp_path, split="val"))
    save(tmp_path / "b.json", document([]))
    write_images(tmp_path, ["a.jpg"])
    with pytest.raises(UserError, match=r"a\.json and .*b\.json are both of image a\.jpg: keep one"):
        read_annotations(Source(tmp_path))
    (tmp_path / "b.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"b\.json is not JSON"):
        read_annotations(Source(tmp_path))


def test_two_images_of_one_stem_cannot_be_written(tmp_path):
    from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet

    images = (AnnotatedImage("a.jpg", 2, 2), AnnotatedImage("a.png", 2, 2))
    annotations = AnnotationSet("coco", "instance", (), images, lambda image: ())
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would both be annotated in a\.json: rename"):
        labelme.write({"": annotations}, tmp_path)
