"""COCO files: sound ones are read as they are, others end in an error that names file, entry and remedy."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_ground_truth, read_coco_results
from pnm.metrics.instance_ap import InstanceMetrics

HEIGHT, WIDTH = 30, 40


def rle(top, left, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[top : top + 10, left : left + 12] = 1
    text = coco_mask.encode(mask)
    return text | {"counts": text["counts"].decode()}


GT = {
    "info": {},
    "images": [
        {"id": 5, "height": HEIGHT, "width": WIDTH, "file_name": "five.jpg"},
        {"id": 2, "height": 60, "width": 50},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 1, "segmentation": rle(3, 4), "iscrowd": 0, "area": 120},
        {"id": 2, "image_id": 2, "category_id": 9, "segmentation": [[1, 1, 20, 1, 20, 30]], "iscrowd": 0, "area": 9.5},
        {"id": 3, "image_id": 5, "category_id": 9, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [600, 600]}},
    ],
}
RESULTS = [
    {"image_id": 5, "category_id": 1, "segmentation": rle(3, 4), "score": 0.9, "bbox": [4, 3, 12, 10]},
    {"image_id": 2, "category_id": 9, "segmentation": rle(3, 4, 60, 50), "score": 0.3, "bbox": [4, 3, 12, 10]},
    {"image_id": 5, "category_id": 9, "segmentation": rle(8, 4), "score": 1, "bbox": [4, 8, 12, 10]},
]


@pytest.fixture
def write(tmp_path):
    def write(content, name):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def changed(content, place, value):
    """A copy with ``value`` at ``place``; the key is taken away if it is None."""
    whole = part = copy.deepcopy(content)
    for key in place[:-1]:
        part = part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return whole


def test_sound_files(write):
    gt = read_coco_ground_truth(write(GT, "gt.json"))
    assert gt.images == {5: (HEIGHT, WIDTH, "five.jpg"), 2: (60, 50, "")}
    assert gt.categories == {1: "cat", 9: "dog"}
    assert gt.annotations == {5: [GT["annotations"][0], GT["annotations"][2]], 2: [GT["annotations"][1]]}
    results = read_coco_results(write(RESULTS, "results.json"), gt)
    assert results.by_image == {5: [RESULTS[0], RESULTS[2]], 2: [RESULTS[1]]}
    assert results.problems == []
    metrics = InstanceMetrics(list(gt.categories))
    for image, (height, width, _) in gt.images.items():
        metrics.update(image, height, width, gt.annotations[image], results.by_image[image])
    assert metrics.compute()["AP-1"] == 1


def test_image_ids_may_be_text(write):
    gt = copy.deepcopy(GT)
    for entry in gt["images"]:
        entry["id"] = f"frankfurt_{entry['id']}"
    for entry in gt["annotations"]:
        entry["image_id"] = f"frankfurt_{entry['image_id']}"
    assert list(read_coco_ground_truth(write(gt, "gt.json")).annotations) == ["frankfurt_5", "frankfurt_2"]


def test_empty_results_are_zero_and_empty_ground_truth_nan(write):
    gt = read_coco_ground_truth(write(GT, "gt.json"))
    results = read_coco_results(write([], "none.json"), gt)
    assert results.by_image == {5: [], 2: []} and results.images_without_results == [5, 2]
    assert "none.json: no detections for 2 of 2 images: 5, 2" in results.remarks[0]
    metrics = InstanceMetrics(list(gt.categories))
    for image, (height, width, _) in gt.images.items():
        metrics.update(image, height, width, gt.annotations[image], results.by_image[image])
    assert metrics.compute()["AP"] == 0
    empty = read_coco_ground_truth(write(GT | {"annotations": []}, "empty.json"))
    assert empty.annotations == {5: [], 2: []}
    nothing = read_coco_ground_truth(write({"images": [], "annotations": [], "categories": []}, "nothing.json"))
    assert nothing.images == {} and read_coco_results(write([], "none.json"), nothing).problems == []


def test_what_does_not_fit_the_ground_truth_is_listed(write):
    gt = read_coco_ground_truth(write(GT, "gt.json"))
    strangers = [
        RESULTS[0] | {"image_id": 77},
        RESULTS[0] | {"image_id": "5"},
        RESULTS[0] | {"category_id": 4},
        RESULTS[0] | {"category_id": 4, "score": 0.1},
        RESULTS[0] | {"segmentation": rle(3, 4, WIDTH, HEIGHT)},
    ]
    results = read_coco_results(write(strangers + RESULTS[:1], "results.json"), gt)
    assert results.by_image == {5: [RESULTS[0]], 2: []}
    assert results.unknown_images == {77: 1, "5": 1} and results.unknown_categories == {4: 2}
    assert results.wrong_sizes == [4] and results.images_without_results == [2]
    assert [line.split("results.json: ")[1] for line in results.problems] == [
        "2 detections left out, of 2 unknown image ids: 77, 5",
        "2 detections left out, of 1 unknown category ids: 4",
        "1 detections left out, masks of another size than the image: entries 4",
    ]
    assert [line.split("results.json: ")[1] for line in results.remarks] == ["no detections for 1 of 2 images: 2"]


def test_boxes_alone(write):
    bare = [{k: v for k, v in entry.items() if k != "segmentation"} for entry in RESULTS]
    gt = read_coco_ground_truth(write(changed(GT, ("annotations", 0, "segmentation"), None), "gt.json"), masks=False)
    assert read_coco_results(write(bare, "boxes.json"), gt, masks=False).by_image[2] == [bare[1]]
    for box in (None, [1, 2, 3], [1, 2, 3, -4], [1, 2, 3, "4"], "box", [1, 2, float("nan"), 4], [1, 2, 10**400, 4]):
        with pytest.raises(UserError, match="boxes.json: entry 1 has bbox"):
            read_coco_results(write(changed(bare, (1, "bbox"), box), "boxes.json"), gt, masks=False)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("images",), None, "doesn't have the three lists"),
        (("annotations",), {}, "doesn't have the three lists"),
        (("categories",), 3, "doesn't have the three lists"),
        (("images", 1), 7, r"images\[1\] is 7, expected 'id' in it, a whole number or text"),
        (("images", 1, "id"), None, r"images\[1\] is .* expected 'id'"),
        (("images", 1, "id"), 5, "images 0 and 1 have the same id 5"),
        (("images", 1, "id"), 2.5, r"images\[1\] is .* expected 'id'"),
        (("images", 1, "id"), True, r"images\[1\] is .* expected 'id'"),
        (("images", 1, "id"), "2", "some image ids are numbers and some text"),
        (("images", 1, "height"), None, r"images\[1\] is .* expected 'height' in it, a whole number"),
        (("images", 1, "width"), "50", r"images\[1\] is .* expected 'width' in it, a whole number"),
        (("images", 1, "width"), 0, r"images\[1\] is 60 x 0"),
        (("images", 1, "width"), 10**30, r"images\[1\] is 60 x 1000"),
        (("categories", 0, "id"), "1", r"categories\[0\] is .* expected 'id' in it, a whole number"),
        (("categories", 0, "id"), 9, "categories 0 and 1 have the same id 9"),
        (("annotations", 1), None, None),
        (("annotations", 1), [], r"annotations\[1\] is \[\], expected 'image_id'"),
        (("annotations", 1, "image_id"), None, r"annotations\[1\] is .* expected 'image_id'"),
        (("annotations", 1, "image_id"), "4", r"annotations\[1\] has image_id '4', but the ids of the images are numb"),
        (("annotations", 1, "category_id"), float("inf"), r"annotations\[1\] is .* expected 'category_id'"),
        (("annotations", 1, "category_id"), 1.5, r"annotations\[1\] is .* expected 'category_id'"),
        (("annotations", 1, "category_id"), None, r"annotations\[1\] is .* expected 'category_id'"),
        (("annotations", 1, "category_id"), 4, r"annotations\[1\] is of category 4, which the file doesn't list"),
        (("annotations", 1, "id"), 1, "annotations 0 and 1 have the same id 1"),
        (("annotations", 1, "id"), [1], r"annotations\[1\] is .* expected 'id'"),
        (("annotations", 1, "area"), "big", r"annotations\[1\] is .* expected 'area'"),
        (("annotations", 1, "area"), float("inf"), r"annotations\[1\] has area inf, expected a finite number"),
        (("annotations", 1, "iscrowd"), "no", r"annotations\[1\] is .* expected 'iscrowd'"),
        (("annotations", 1, "iscrowd"), False, None),
        (("annotations", 1, "segmentation"), None, r"annotations\[1\] has no segmentation"),
        (("annotations", 1, "segmentation"), [[1, 2, 3, 4]], r"annotations\[1\]: polygon .* at least three points"),
        (("annotations", 1, "segmentation"), [[1, 2, 3, 4, 5, 1e12]], r"annotations\[1\]: polygon .* far outside"),
        (("annotations", 1, "segmentation"), rle(3, 4), r"annotations\[1\]: the RLE has size \[30, 40\]"),
        (("annotations", 0, "segmentation", "counts"), "0", r"annotations\[0\]: the RLE .* less than"),
        (("annotations", 2, "segmentation", "counts", 0), -600, r"annotations\[2\]: the RLE's counts"),
        (("annotations", 2, "segmentation", "counts", 0), 601, r"annotations\[2\]: the RLE's counts"),
    ],
)
def test_hostile_ground_truth(write, place, value, reason):
    path = write(changed(GT, place, value), "gt.json")
    if reason is None:
        read_coco_ground_truth(path)
        return
    with pytest.raises(UserError, match="gt.json.*" + reason):
        read_coco_ground_truth(path)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ((1,), "detection", "entry 1 is detection, expected 'image_id' in it"),
        ((1, "image_id"), None, "entry 1 is .* expected 'image_id' in it, a whole number or text"),
        ((1, "image_id"), [2], "entry 1 is .* expected 'image_id'"),
        ((1, "category_id"), None, "entry 1 is .* expected 'category_id'"),
        ((1, "category_id"), 1.5, "entry 1 is .* expected 'category_id'"),
        ((1, "score"), None, "entry 1 is .* expected 'score'"),
        ((1, "score"), "0.5", "entry 1 is .* expected 'score'"),
        ((1, "score"), float("nan"), "entry 1 has score nan, expected a finite number"),
        ((1, "score"), -float("inf"), "entry 1 has score -inf, expected a finite number"),
        ((1, "score"), 10**400, "entry 1 has score 1000.*, expected a finite number"),
        ((1, "segmentation"), None, "entry 1 has no segmentation: add one"),
        ((1, "segmentation"), "mask", "entry 1: segmentation is mask, expected an RLE or a list of polygons"),
        ((2, "segmentation", "size"), None, "entry 2: the RLE has size None"),
        ((2, "segmentation", "size"), "30x40", "entry 2: the RLE has size 30x40"),
        ((2, "segmentation", "counts"), None, "entry 2: the RLE's counts are None"),
        ((2, "segmentation", "counts"), "", "entry 2: the RLE .* less than"),
        ((2, "segmentation", "counts"), rle(8, 4)["counts"][:-1], "entry 2: the RLE .* is damaged"),
        ((2, "segmentation", "counts"), "~", "entry 2: the RLE .* a character"),
        ((2, "segmentation", "counts"), "O", "entry 2: the RLE .* negative"),
        ((2, "segmentation", "counts"), "ooooo0", "entry 2: the RLE .* more than"),
    ],
)
def test_hostile_results(write, place, value, reason):
    gt = read_coco_ground_truth(write(GT, "gt.json"))
    with pytest.raises(UserError, match="results.json: " + reason):
        read_coco_results(write(changed(RESULTS, place, value), "results.json"), gt)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\x00", "[1," + "9" * 10_000 + "]", '["\xff'])
def test_files_that_are_no_json(tmp_path, write, content):
    gt = read_coco_ground_truth(write(GT, "gt.json"))
    path = tmp_path / "broken.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="broken.json is not JSON .*: expected a COCO ground truth"):
        read_coco_ground_truth(path)
    with pytest.raises(UserError, match=r"broken.json(: entry 0 is| is not (JSON|a list)).* expected"):
        read_coco_results(path, gt)


def test_other_files(tmp_path, write):
    gt = read_coco_ground_truth(write(GT, "gt.json"))
    with pytest.raises(FileNotFoundError, match="absent.json is missing: expected a COCO ground truth"):
        read_coco_ground_truth(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError, match="absent.json is missing: expected COCO results"):
        read_coco_results(tmp_path / "absent.json", gt)
    with pytest.raises(UserError, match="can't be read"):
        read_coco_results(tmp_path, gt)
    with pytest.raises(UserError, match="gt.json is not a list: expected COCO results"):
        read_coco_results(tmp_path / "gt.json", gt)
    with pytest.raises(UserError, match="doesn't have the three lists"):
        read_coco_ground_truth(write(RESULTS, "results.json"))


def test_what_other_programs_write_is_read(write):
    """Ids as pandas writes them, an area that isn't known, a stump beside a polygon, leftovers of other images."""
    odd = copy.deepcopy(GT)
    odd["annotations"][0] |= {"category_id": 1.0, "image_id": 5.0, "area": None}
    odd["annotations"][1]["segmentation"].append([3, 3, 4, 4])
    odd["annotations"].append({"id": 4, "image_id": 77, "category_id": 1, "segmentation": [[1, 1, 2, 2]]})
    odd["images"][0]["id"] = 5.0
    truth, plain = read_coco_ground_truth(write(odd, "gt.json")), read_coco_ground_truth(write(GT, "plain.json"))
    assert truth.annotations[2] == plain.annotations[2]
    assert "area" not in truth.annotations[5][0] and truth.annotations[5][0]["category_id"] == 1
    assert [line.partition("gt.json: ")[2] for line in truth.remarks] == [
        "1 annotations left out, of images that it doesn't list: annotations[...] 3",
        "polygons of fewer than three points left out of 1 annotations: annotations[...] 1",
    ]
    assert plain.remarks == []
    results = copy.deepcopy(RESULTS)
    results[0] |= {"category_id": 1.0, "image_id": 5.0}
    assert len(read_coco_results(write(results, "r.json"), truth).by_image[5]) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"shapes": [], "imagePath": "a.jpg", "version": "5"}, "it looks like labelme's format; export or convert it"),
        ([{"id": 1, "data": {}, "annotations": []}], "it looks like Label Studio's format; export or convert it"),
        ({"_via_img_metadata": {}}, "it looks like VIA's format"),
        (RESULTS, "it looks like COCO results, which are predictions"),
        ({"images": [], "info": {}}, "it has no list of annotations, categories"),
        ({**GT, "annotations": None}, "one of them is no list"),
        ([], "one of them is no list"),
    ],
)
def test_other_formats_are_named(write, content, words):
    with pytest.raises(UserError, match=f"a.json doesn't have the three lists, {words}"):
        read_coco_ground_truth(write(content, "a.json"))
