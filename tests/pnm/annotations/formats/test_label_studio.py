"""Label Studio's export: regions are read by its documentation, and everything else of the tasks survives."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from outlined_scenes import SIZE, assert_same_masks, masks_of, pixels, redraw, scene_set, write_images

from pnm.annotations.annotation_format import Source
from pnm.annotations.formats import label_studio
from pnm.annotations.known_formats import format_of, read_annotations
from pnm.errors import UserError

HEIGHT, WIDTH = SIZE
ONE_PIXEL = [0, 0, 0, 4, 57, 27, 252, 127, 224]


def packed(mask):
    """Label Studio's bytes of a mask, each value for itself: flag 0, length 1 of the first size, the value."""
    values = np.repeat(mask.reshape(-1), 4) * 255
    bits = f"{len(values):032b}" + "00111" + "0010001101111111" + "".join(f"000000{value:08b}" for value in values)
    return [int(bits[k : k + 8].ljust(8, "0"), 2) for k in range(0, len(bits), 8)]


def region(name, kind, value, **others):
    row = {"id": name, "type": kind, "value": value, "from_name": kind[:5], "to_name": "image", "origin": "manual"}
    return row | {"image_rotation": 0, "original_width": WIDTH, "original_height": HEIGHT} | others


def percent(*points):
    return [[x * 100 / WIDTH, y * 100 / HEIGHT] for x, y in points]


RING = pixels((2, 2, 9, 9), holes=[(4, 4, 7, 7)])
BRUSH = region(
    "b1", "brushlabels", {"format": "rle", "rle": packed(RING), "brushlabels": ["dog"]}, meta={"text": ["?"]}
)
POLYGON = region("p1", "polygonlabels", {"points": percent((3, 1), (9, 1), (9, 7)), "polygonlabels": ["cat", "dog"]})
BOX = {"x": 25.0, "y": 50.0, "width": 25.0, "height": 10.0, "rotation": 0, "rectanglelabels": ["cat"]}
RECTANGLE = region("r1", "rectanglelabels", BOX)
POINT = region("k1", "keypointlabels", {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["cat"]})
CHOICE = region("b1", "choices", {"choices": ["big"]}, from_name="how large")
LABELS = region("l1", "labels", {"format": "rle", "rle": packed(pixels((1, 1, 3, 2))), "labels": ["dog"]})
BARE = region("l2", "brush", {"format": "rle", "rle": packed(RING)})
RESULT = [BRUSH, POINT, POLYGON, RECTANGLE, CHOICE, LABELS, BARE]


def task(result, image="/data/upload/1/abcdef12-a.jpg", **others):
    return {"id": 31, "data": {"image": image}, "annotations": [{"id": 5, "result": result}]} | others


def save(path, content):
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    return path


def test_regions_are_read_by_their_documentation(tmp_path):
    path = save(tmp_path / "a.json", [task(RESULT)])
    assert format_of(path) is label_studio.FORMAT
    annotations = read_annotations(Source(path))
    assert [c.name for c in annotations.categories] == ["cat", "dog"] and annotations.images[0].id == 31
    masks = masks_of(annotations, "a.jpg")
    np.testing.assert_array_equal(masks[0], RING)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert (masks[1] == ((x < 9) & (y > 1) & (y - 1 < x - 3))).mean() > 0.98
    np.testing.assert_array_equal(masks[2:], [pixels((6, 10, 12, 12)), pixels((1, 1, 3, 2))])
    objects = annotations.read(annotations.images[0])
    assert [(thing.category, thing.id) for thing in objects] == [(1, "b1"), (0, "p1"), (0, "r1"), (1, "l1")]
    assert objects[0].attributes == {"how large": "big"}
    np.testing.assert_array_equal(objects[1].polygons[0], [[3, 1], [9, 1], [9, 7]])
    assert [line.removeprefix(f"{path}: ") for line in annotations.remarks] == [
        "2 results left out that are no masks with a label: brush, keypointlabels",
        "1 regions have several labels; the first is read",
        "1 rectangles and ellipses read as what they enclose",
    ]


def test_turned_rectangles_and_ellipses(tmp_path):
    turned = {"x": 50, "y": 10, "width": 25, "height": 20, "rotation": 90, "rectanglelabels": ["a"]}
    round_one = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "rotation": 0, "ellipselabels": ["a"]}
    rows = [region("1", "rectanglelabels", turned), region("2", "ellipselabels", round_one)]
    rectangle, ellipse = masks_of(read_annotations(Source(save(tmp_path / "a.json", [task(rows)]))), "a.jpg")
    np.testing.assert_array_equal(rectangle, pixels((8, 2, 12, 8)))  # about its upper left corner, (12, 2)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    reach = np.hypot((x - 12) / 6, (y - 10) / 4)
    assert ellipse[reach < 0.9].all() and not ellipse[reach > 1.15].any()


def test_which_annotation_counts(tmp_path):
    write_images(tmp_path / "images", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    versions = [
        {"result": [BRUSH], "updated_at": "2024-05-02T10:00:00Z"},
        {"result": [RECTANGLE], "updated_at": "2024-05-03T10:00:00Z"},
        {"result": [], "updated_at": "2024-05-04T10:00:00Z", "was_cancelled": True},
    ]
    predicted = {"score": 0.5, "result": [RECTANGLE, RECTANGLE | {"id": "r2", "score": 0.25}]}
    tasks = [
        task([], "a.jpg", annotations=versions),
        task([], "b.jpg", annotations=[], predictions=[predicted]),
        task([], "c.jpg", annotations=[{"result": [BRUSH], "was_cancelled": True}], predictions=[predicted]),
        task([], "d.jpg"),
    ]
    path = save(tmp_path / "a.json", tasks)
    annotations = read_annotations(Source(path, images=tmp_path / "images"))
    assert [image.name for image in annotations.images] == ["a.jpg", "b.jpg", "d.jpg"]
    assert [[o.score for o in annotations.read(image)] for image in annotations.images] == [[None], [0.5, 0.25], []]
    assert [line.removeprefix(f"{path}: ") for line in annotations.remarks][:3] == [
        "1 tasks left out that nobody annotated",
        "1 tasks have several annotations; the last that was not cancelled is read",
        "1 tasks have predictions alone, which are read",
    ]
    label_studio.write({"": annotations}, tmp_path / "out")
    assert json.loads((tmp_path / "out/tasks.json").read_text("utf-8")) == tasks


@pytest.mark.parametrize(
    ("address", "bare", "found"),
    [
        ("/data/upload/1/abcdef12-a.jpg", "a.jpg", "x/a.jpg"),
        ("/data/upload/1/abcdef12-deadbeef-b.png", "deadbeef-b.png", "deadbeef-b.png"),
        ("/data/local-files/?d=pictures/x/%C3%BC%20c.jpg", "pictures/x/ü c.jpg", "x/ü c.jpg"),
        ("http://localhost:8080/data/local-files/?d=x%5Cü c.jpg", "x/ü c.jpg", "x/ü c.jpg"),
        ("s3://bucket/x/%C3%BC%20c.jpg", "ü c.jpg", "x/ü c.jpg"),
        ("https://host.org/x/ü c.jpg?token=1", "ü c.jpg", "x/ü c.jpg"),
        ("x\\ü c.jpg", "x/ü c.jpg", "x/ü c.jpg"),
    ],
)
def test_addresses_of_images(tmp_path, address, bare, found):
    write_images(tmp_path, ["x/a.jpg", "deadbeef-b.png", "x/ü c.jpg"])
    (tmp_path / "x/a.jpg").rename(tmp_path / "a.jpg")
    path = save(tmp_path / "a.json", [task([BRUSH], address, data={"text": "hello", "picture": address})])
    assert read_annotations(Source(path)).images[0].name == bare
    assert read_annotations(Source(path, images=tmp_path)).images[0].name == found.replace("x/a.jpg", "a.jpg")


def test_there_and_back_is_the_same_document(tmp_path):
    tasks = [task(RESULT, meta={"a": [1]}), task([], "b.jpg", annotations=[]), task([CHOICE, BRUSH], "c.jpg")]
    annotations = read_annotations(Source(save(tmp_path / "a.json", tasks)))
    label_studio.write({"": annotations}, tmp_path / "out")
    assert json.loads((tmp_path / "out/tasks.json").read_text("utf-8")) == tasks


def test_only_redrawn_objects_change(tmp_path):
    annotations = read_annotations(Source(save(tmp_path / "a.json", [task(RESULT)])))
    masks = masks_of(annotations, "a.jpg")
    new = [
        pixels((3, 3, 8, 9), holes=[(4, 4, 6, 6)]),
        pixels((1, 1, 2, 2), (5, 5, 9, 7)),
        pixels((7, 7, 9, 9)),
        masks[0],
    ]
    changed = annotations
    for number, mask in enumerate(new):
        changed = redraw(changed, "a.jpg", number, mask)
    label_studio.write({"": changed}, tmp_path / "out")
    rows = json.loads((tmp_path / "out/tasks.json").read_text("utf-8"))[0]["annotations"][0]["result"]
    assert [rows[n] for n in (1, 4, 6)] == [POINT, CHOICE, BARE]
    assert [rows[n]["type"] for n in (0, 2, 3, 5)] == ["brushlabels", "polygonlabels", "brushlabels", "labels"]
    assert [rows[n]["from_name"] for n in (0, 2, 3, 5)] == ["brush", "polyg", "brush", "label"]
    assert rows[2]["value"]["polygonlabels"] == ["cat", "dog"] and rows[0]["meta"] == {"text": ["?"]}
    assert_same_masks(read_annotations(Source(tmp_path / "out/tasks.json")), {"a.jpg": new})


def test_other_formats_keep_masks_and_ids(tmp_path):
    write_images(tmp_path / "images")
    annotations, masks = scene_set()
    label_studio.write({"val": annotations}, tmp_path)
    again = read_annotations(Source(tmp_path / "tasks_val.json", images=tmp_path / "images"))
    assert_same_masks(again, masks)
    for one, other in zip(annotations.images, again.images):
        for thing, back in zip(annotations.read(one), again.read(other), strict=True):
            assert (thing.category, str(thing.id), thing.score) == (back.category, back.id, back.score)
    config = ElementTree.parse(tmp_path / "labeling_config.xml").getroot()
    assert [child.tag for child in config] == ["Image", "BrushLabels", "PolygonLabels"]
    assert [label.get("value") for label in config[1]] == ["cat", "dog"]
    rows = json.loads((tmp_path / "tasks_val.json").read_text("utf-8"))[0]["annotations"][0]["result"]
    controls = {(child.get("name"), child.tag.lower()) for child in config}
    assert {(row["from_name"], row["type"]) for row in rows} <= controls


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (BRUSH | {"image_rotation": 90}, "turned by 90 degrees: turn it back in Label Studio"),
        (BRUSH | {"original_width": 3}, "is of an image of 20 x 3, expected 20 x 24"),
        (region("1", "brushlabels", {"rle": ONE_PIXEL, "brushlabels": ["a"]}), "the RLE of this 20 x 24 brush mask"),
        (region("1", "brushlabels", {"brushlabels": ["a"]}), "rle is None, expected a list of bytes"),
        (region("1", "polygonlabels", {"points": [[1, 1]], "polygonlabels": ["a"]}), "a polygon of 1 points"),
        (region("1", "polygonlabels", {"points": [[1, None]] * 3, "polygonlabels": ["a"]}), "expected [[x, y], ...]"),
        (region("1", "rectanglelabels", BOX | {"x": 900}), "lie far outside"),
        (region("1", "rectanglelabels", BOX | {"rotation": "x"}), "rotation is 'x', expected degrees"),
    ],
)
def test_damaged_regions_are_named(tmp_path, row, words):
    path = save(tmp_path / "a.json", [task([RECTANGLE, row])])
    annotations = read_annotations(Source(path))
    with pytest.raises(UserError) as error:
        annotations.read(annotations.images[0])
    assert words in str(error.value) and f"{path}: tasks[0], result[1]" in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "has no list of tasks: expected a JSON export"),
        ([{"image": "a.jpg", "id": 1, "annotator": 1, "annotation_id": 3, "lead_time": 2}], "is the export JSON-MIN"),
        ([task([]), 3], "tasks[1] is 3, expected a JSON export"),
        ([task([], annotations=[{"result": None}])], "annotations[0] has no list of results"),
        ([task([], annotations=[7])], "tasks[0]: annotations is [7], expected a list"),
        ([task([])], "doesn't say the size of a.jpg: name the folder of images (--images)"),
        ([task([BRUSH]), task([BRUSH])], "tasks[0] and tasks[1] are both of image a.jpg"),
        ([task([BRUSH | {"original_height": "x"}])], "original_height, original_width: height and width are x and 24"),
        ([task([BRUSH], data={"text": 1})], "expected the address of an image"),
        ([task([BRUSH], "../../a.jpg")], "leads out of the folder"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, words):
    path = save(tmp_path / "a.json", content)
    with pytest.raises(UserError) as error:
        read_annotations(Source(path), "label-studio")
    assert words in str(error.value) and str(path) in str(error.value)


def test_an_image_that_the_folder_lacks(tmp_path):
    path = save(tmp_path / "a.json", [task([BRUSH])])
    with pytest.raises(UserError, match=r"tasks\[0\]: image .*abcdef12-a.jpg is not in .*check the folder of images"):
        read_annotations(Source(path, images=tmp_path))
    save(path, [{"annotation_id": 1, "lead_time": 3, "image": "a"}])
    assert format_of(path) is label_studio.FORMAT


def test_the_labeling_interface_beside_it_says_the_order_and_sizes_are_kept(tmp_path):
    """Classes that don't occur are there, and images without objects have a size, without the images."""
    scene, _ = scene_set()
    label_studio.write({"": scene}, tmp_path)
    again = read_annotations(Source(tmp_path / "tasks.json"))
    assert [category.name for category in again.categories] == [category.name for category in scene.categories]
    assert {image.name: image.size for image in again.images} == {image.name: image.size for image in scene.images}
