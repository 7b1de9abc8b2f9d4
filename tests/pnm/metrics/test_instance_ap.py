"""AP and Boundary AP against a published table, pycocotools and boundary-iou-api."""

import contextlib
import copy
import io
import json
import re

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_ground_truth, read_coco_results
from pnm.metrics.instance_ap import InstanceMetrics

CATEGORIES = [3, 1, 8, 5]  # of these, 5 is never annotated
TABLE = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def blob(rng, center, axes, height, width):
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, [int(c) for c in center], [max(1, int(a)) for a in axes], float(rng.integers(180)), 0, 360, 1, -1)
    text = coco_mask.encode(np.asfortranarray(mask))
    return text | {"counts": text["counts"].decode()}, int(mask.sum())


def scene(rng, image, height=200, width=260):
    """``(annotations, detections)`` with crowd, equal scores, empty masks, and many detections of image 3."""
    gt, dt, places = [], [], []
    for _ in range(rng.integers(0, 9) if image % 4 else 0):
        center, axes = rng.integers(0, [width, height]), rng.integers(2, 70, size=2)
        segmentation, area = blob(rng, center, axes, height, width)
        category, crowd = int(rng.choice(CATEGORIES[:3])), int(rng.random() < 0.15)
        places.append((center, axes, category))
        gt.append({"category_id": category, "segmentation": segmentation, "iscrowd": crowd, "area": area + 0.5})
    for _ in range(250 if image == 3 else rng.integers(0, 30) * (image % 5 > 0)):
        center, axes, category = rng.integers(0, [width, height]), rng.integers(0, 50, size=2), rng.choice(CATEGORIES)
        if places and rng.random() < 0.8:
            center, axes, category = places[rng.integers(len(places))]
            center, axes = center + rng.integers(-3, 4, size=2), axes + rng.integers(-3, 4, size=2)
        segmentation, area = blob(rng, center, axes, height, width)
        dt.append({"category_id": int(category), "segmentation": segmentation, "score": round(float(rng.random()), 1)})
    for entry in gt + dt:
        entry |= {"image_id": image, "bbox": coco_mask.toBbox(entry["segmentation"]).tolist()}
    return gt, dt


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(11)
    return {image: scene(rng, image) for image in (7, 3, 12, 1, 20, 5, 9, 4, 15, 33)}


def measured(scenes, order=None, **options):
    metrics = InstanceMetrics(CATEGORIES, **options)
    for image in order or scenes:
        metrics.update(image, 200, 260, *scenes[image])
    return metrics


def coco_content(scenes):
    gt = [annotation for annotations, _ in scenes.values() for annotation in annotations]
    return {
        "images": [{"id": image, "height": 200, "width": 260} for image in scenes],
        "categories": [{"id": category, "name": f"class {category}"} for category in CATEGORIES],
        "annotations": [annotation | {"id": n + 1} for n, annotation in enumerate(gt)],
    }


def evaluated(gt_api, detections, kind, evaluator):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluator(gt_api, gt_api.loadRes(copy.deepcopy(detections)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_values(evaluation):
    """The metrics in our names, nan for pycocotools' -1."""
    values = dict(zip(TABLE, evaluation.stats))
    precision = np.where(evaluation.eval["precision"] < 0, np.nan, evaluation.eval["precision"])
    with np.errstate(invalid="ignore"):
        values["AP90"] = np.nanmean(precision[8, :, :, 0, -1])
        for k, category in enumerate(evaluation.params.catIds):
            values[f"AP-{category}"] = precision[:, :, k, 0, -1].mean()
    return {name: np.nan if value == -1 else value for name, value in values.items()}


def by_pycocotools(scenes, kind):
    api = COCO()
    api.dataset = coco_content(scenes)
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    detections = [d for _, found in scenes.values() for d in found]
    if kind == "segm":  # with a box, pycocotools takes its area for that of the mask
        detections = [{key: d[key] for key in d if key != "bbox"} for d in detections]
    return coco_values(evaluated(api, detections, kind, COCOeval))


@pytest.mark.parametrize(("kind", "prefix"), [("segm", ""), ("bbox", "Box-")])
def test_random_scenes_equal_pycocotools(scenes, kind, prefix):
    result = measured(scenes, metrics=[kind]).compute()
    expected = by_pycocotools(scenes, kind)
    assert set(result) == {prefix + name for name in expected}
    for name, value in expected.items():
        assert result[prefix + name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert 0.1 < result[prefix + "AP"] < 0.9 and np.isnan(result[prefix + "AP-5"])


def boundary_api(monkeypatch, content, tmp_path):
    """boundary-iou-api's data and evaluator; it was written for a NumPy that still had np.float."""
    coco = pytest.importorskip("boundary_iou.coco_instance_api.coco")
    cocoeval = pytest.importorskip("boundary_iou.coco_instance_api.cocoeval")
    monkeypatch.setattr(np, "float", float, raising=False)
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(str(path), get_boundary=True), cocoeval.COCOeval


def test_random_scenes_equal_boundary_iou_api(scenes, monkeypatch, tmp_path):
    api, evaluator = boundary_api(monkeypatch, coco_content(scenes), tmp_path)
    detections = [{k: d[k] for k in d if k != "bbox"} for _, found in scenes.values() for d in found]
    expected = coco_values(evaluated(api, detections, "boundary", evaluator))
    result = measured(scenes, metrics=["boundary"]).compute()
    for name, value in expected.items():
        assert result["Boundary-" + name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert result["Boundary-AP"] < measured(scenes, metrics=["segm"]).compute()["AP"]


@pytest.fixture
def published(real_data):
    folder = real_data / "predictions" / "coco_val2014_100"
    gt = read_coco_ground_truth(folder / "instances_val2014_100.json")
    results = read_coco_results(folder / "instances_val2014_fakesegm100_results.json", gt)
    metrics = InstanceMetrics(list(gt.categories))
    for image, (height, width, _) in gt.images.items():
        metrics.update(image, height, width, gt.annotations[image], results.by_image[image])
    return folder, metrics.compute()


def test_published_table_to_the_last_digit(published):
    folder, result = published
    table = (folder / "val2014_fake_eval_res.txt").read_text().split("type=segm")[1].split("type=")[0]
    numbers = re.findall(r"= (\d\.\d{3})$", table, re.MULTILINE)
    assert [f"{result[name]:.3f}" for name in TABLE] == numbers


def test_published_data_equal_boundary_iou_api(published, monkeypatch, tmp_path):
    folder, result = published
    content = json.loads((folder / "instances_val2014_100.json").read_text())
    api, evaluator = boundary_api(monkeypatch, content, tmp_path)
    detections = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    for name, value in coco_values(evaluated(api, detections, "boundary", evaluator)).items():
        assert result["Boundary-" + name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_perfect_and_disjoint():
    gt, _ = scene(np.random.default_rng(0), 1)
    gt = [annotation for annotation in gt if annotation["area"] > 1]
    metrics = InstanceMetrics([1, 3, 8], metrics=["bbox", "segm", "boundary", "af"])
    metrics.update(1, 200, 260, gt, [annotation | {"score": 0.7} for annotation in gt])
    result = metrics.compute()
    assert len(gt) > 4 and {v for k, v in result.items() if not k.endswith("AR1") and not np.isnan(v)} == {1.0}
    metrics.reset()
    left, right = np.zeros((2, 40, 40), np.uint8)
    left[:, :10], right[:, 30:] = 1, 1
    gt, dt = {"category_id": 1, "segmentation": left}, {"category_id": 1, "segmentation": right, "score": 1.0}
    metrics.update(1, 40, 40, [gt], [dt])
    assert {value for value in metrics.compute().values() if not np.isnan(value)} == {0.0}


def test_no_detection_is_zero_and_no_ground_truth_nan(scenes):
    nothing_found = InstanceMetrics(CATEGORIES)
    nothing_annotated = InstanceMetrics(CATEGORIES)
    for image, (gt, dt) in scenes.items():
        nothing_found.update(image, 200, 260, gt, [])
        nothing_annotated.update(image, 200, 260, [], dt)
    assert {v for k, v in nothing_found.compute().items() if not k.endswith("-5")} == {0.0}
    for metrics in (nothing_annotated, InstanceMetrics(CATEGORIES)):
        assert np.isnan([*metrics.compute().values()]).all()


def test_masks_as_polygons_arrays_and_lists_give_the_same(scenes):
    arrays = {
        image: [[e | {"segmentation": coco_mask.decode(e["segmentation"])} for e in side] for side in sides]
        for image, sides in scenes.items()
    }
    assert measured(arrays).compute() == pytest.approx(measured(scenes).compute(), abs=0, nan_ok=True)


def test_area_and_box_that_are_not_given_are_the_masks():
    mask = np.zeros((100, 100), np.uint8)
    mask[10:50, 20:70] = 1  # 2000 pixels: medium
    metrics = InstanceMetrics([1], metrics=["bbox", "segm"])
    metrics.update(0, 100, 100, [{"category_id": 1, "segmentation": mask}], [])
    result = metrics.compute()
    assert result["APm"] == result["Box-APm"] == 0 and np.isnan(result["APs"]) and np.isnan(result["Box-APl"])
    metrics.reset()
    metrics.update(
        0, 100, 100,
        [{"category_id": 1, "segmentation": mask}],
        [{"category_id": 1, "segmentation": mask, "bbox": [20, 10, 50, 40], "score": 1}],
    )  # fmt: skip
    assert metrics.compute()["Box-APm"] == 1


def test_boxes_alone_need_no_masks(scenes):
    bare = {
        image: [[{k: v for k, v in e.items() if k != "segmentation"} for e in side] for side in sides]
        for image, sides in scenes.items()
    }
    expected = measured(scenes, metrics=["bbox"]).compute()
    assert measured(bare, metrics=["bbox"]).compute() == pytest.approx(expected, abs=0, nan_ok=True)


def test_boundary_of_given_width(scenes):
    by_ratio = measured(scenes, metrics=["boundary"], boundary_ratio=0.01).compute()  # 3.28 pixels
    by_width = measured(scenes, metrics=["boundary"], boundary_px=3).compute()
    assert by_ratio == pytest.approx(by_width, abs=0, nan_ok=True)
    assert by_width["Boundary-AP"] < measured(scenes, metrics=["boundary"], boundary_px=9).compute()["Boundary-AP"]


def test_fewer_detections(scenes):
    result = measured(scenes, metrics=["segm"], max_dets=5).compute()
    assert {name for name in result if name.startswith("AR")} == {"AR1", "AR5", "ARs", "ARm", "ARl"}
    best = {image: (gt, [d for c in CATEGORIES for d in best_of(dt, c, 5)]) for image, (gt, dt) in scenes.items()}
    assert result["AP"] == measured(best, metrics=["segm"]).compute()["AP"]


def best_of(dt, category, number):
    return sorted((d for d in dt if d["category_id"] == category), key=lambda d: -d["score"])[:number]


def test_other_area_ranges(scenes):
    ranges = {"": (0, 1e10), "-tiny": (0, 100)}
    result = measured(scenes, metrics=["segm"], area_ranges=ranges).compute()
    assert result["AP"] == measured(scenes, metrics=["segm"]).compute()["AP"]
    assert {"AP-tiny", "AR-tiny"} < set(result) and "APs" not in result


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_merging_any_split_in_any_order_is_exact(scenes, cut):
    options = {"metrics": ["bbox", "segm", "boundary", "af"]}
    whole = measured(scenes, **options)
    shuffled = np.random.default_rng(cut).permutation(list(scenes)).tolist()
    parts = [measured({i: scenes[i] for i in ids}, **options) for ids in (shuffled[cut:], shuffled[:cut])]
    parts[0].merge(parts[1])
    assert parts[0].image_ids == sorted(scenes)
    np.testing.assert_equal(parts[0].compute(), whole.compute())


@pytest.mark.parametrize("distinct", [1, 2, 5, 1000])
def test_images_counted_twice_equal_images_that_are_there_twice(scenes, distinct):
    """Whatever the number of distinct scores; and COCO's own program counts the copies so."""
    drawn = np.random.default_rng(5).permutation(1000) % distinct
    scores = iter(drawn / 1000)
    scenes = {i: (gt, [d | {"score": next(scores)} for d in dt]) for i, (gt, dt) in scenes.items()}
    metrics = measured(scenes)
    times = np.array([[1] * 10, [2, 0, 1, 3, 0, 1, 1, 5, 0, 2], [0] * 10])
    many = metrics.compute_many(times)
    for row, counts in enumerate(times):
        ids = {100 * i + k: i for i, count in zip(metrics.image_ids, counts) for k in range(count)}
        copied = {new: tuple([e | {"image_id": new} for e in part] for part in scenes[i]) for new, i in ids.items()}
        copies = InstanceMetrics(CATEGORIES)
        for image, scene in copied.items():
            copies.update(image, 200, 260, *scene)
        expected = copies.compute()
        assert set(many) == set(expected)
        for name, value in expected.items():
            assert many[name][row] == pytest.approx(value, abs=1e-12, nan_ok=True), name
        if copied:
            for name, value in by_pycocotools(copied, "segm").items():
                assert many[name][row] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_per_image_rows(scenes):
    metrics = measured(scenes)
    rows = metrics.per_image()
    for n, image in enumerate(metrics.image_ids):
        alone = measured({image: scenes[image]}).compute()
        np.testing.assert_equal({name: values[n] for name, values in rows.items()}, alone)
    assert InstanceMetrics([1]).per_image() == {}


def test_class_names(scenes):
    result = measured(scenes, class_names=["cat", "dog", "owl", "elk"]).compute()
    assert {"AP-cat", "Boundary-AP-dog", "AF-owl"} < set(result)


def test_update_leaves_its_arguments_alone(scenes):
    before = copy.deepcopy(scenes)
    measured(scenes, metrics=["bbox", "segm", "boundary", "af"]).compute()
    assert before == scenes


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"category_ids": []}, "category_ids are"),
        ({"category_ids": [1, 1]}, "category_ids are .1, 1."),
        ({"class_names": ["a"]}, "class_names are"),
        ({"metrics": ["mask"]}, "choose from bbox, segm, boundary, af"),
        ({"metrics": []}, "choose from"),
        ({"max_dets": 0}, "max_dets is 0"),
        ({"area_ranges": {}}, "0 area ranges"),
        ({"area_ranges": {str(k): (0, 1) for k in range(7)}}, "7 area ranges came, expected 1 to 6"),
        ({"boundary_px": 0}, "width is 0"),
        ({"boundary_ratio": 0}, "ratio is 0"),
        ({"boundary_ratio": float("nan")}, "ratio is nan"),
    ],
)
def test_options_that_make_no_sense(options, reason):
    with pytest.raises(UserError, match=reason):
        InstanceMetrics(**({"category_ids": [1, 2]} | options))


MASK = np.ones((4, 5), bool)
GT, DT = {"category_id": 1, "segmentation": MASK}, {"category_id": 1, "segmentation": MASK, "score": 0.5}


@pytest.mark.parametrize(
    ("gt", "dt", "reason"),
    [
        (GT | {"category_id": 2}, DT, "image 8, ground truth 1: category_id is 2"),
        (GT, DT | {"category_id": None}, "image 8, detection 1: category_id is None"),
        (GT, DT | {"category_id": []}, "image 8, detection 1: category_id is "),
        (GT, DT | {"score": float("nan")}, "image 8, detection 1: score is nan"),
        (GT, DT | {"score": -float("inf")}, "image 8, detection 1: score is -inf"),
        (GT, DT | {"score": "high"}, "image 8, detections need a score"),
        (GT, {"category_id": 1, "segmentation": MASK}, "image 8, detections need a score"),
        (GT, {"category_id": 1, "score": 0.5}, "image 8, detection 1 has no segmentation"),
        (GT | {"segmentation": MASK.T}, DT, "image 8, ground truth 1: the mask is .5, 4."),
        (GT, DT | {"segmentation": {"size": [4, 5], "counts": "1"}}, "image 8, detection 1: the RLE"),
        (GT | {"area": float("nan")}, DT, "image 8, ground truth: an area is nan"),
        (GT, DT | {"bbox": [1, 2, 3]}, "image 8, detection 1: bbox is"),
        (GT, DT | {"bbox": [1, 2, 3, -1]}, "image 8, detection 1: bbox is"),
        (GT | {"bbox": "all"}, DT, "image 8, ground truth 1: bbox is all"),
    ],
)
def test_bad_entries_add_nothing(gt, dt, reason):
    metrics = InstanceMetrics([1], metrics=["bbox", "segm"])
    with pytest.raises(UserError, match=reason):
        metrics.update(8, 4, 5, [GT, gt], [DT | {"score": 0.1}, dt])
    assert metrics.image_ids == []


def test_boxes_alone_need_boxes():
    with pytest.raises(UserError, match="ground truth 0: bbox is None"):
        InstanceMetrics([1], metrics=["bbox"]).update(8, 4, 5, [GT], [])


def test_images_and_results_that_do_not_go_together(scenes):
    metrics = measured(scenes)
    with pytest.raises(UserError, match="image 7 came twice"):
        metrics.update(7, 200, 260, [], [])
    with pytest.raises(UserError, match="images .7. are in both results"):
        metrics.merge(measured({7: scenes[7]}))
    for options in ({"boundary_px": 3}, {"metrics": ["segm"]}, {"max_dets": 10}, {"area_ranges": {"": (0, 9)}}):
        with pytest.raises(UserError, match="only like results can be merged"):
            metrics.merge(InstanceMetrics(CATEGORIES, **options))
    for times in (np.ones(10, int), np.ones((2, 9), int), np.ones((2, 10)), -np.ones((1, 10), int)):
        with pytest.raises(UserError, match="expected .B, 10. whole numbers from 0"):
            metrics.compute_many(times)


def test_classes_of_one_name_are_told_apart_by_their_ids():
    assert InstanceMetrics([3, 7, 9], class_names=["cat", "dog", "cat"]).class_names == ["cat 3", "dog", "cat 9"]
