"""PQ and Boundary PQ of files: against their authors' programs where they are installed, and what damaged ones give."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.formats.coco_panoptic import ids_to_rgb, rgb_to_ids
from pnm.scoring.panoptic_files import evaluate_panoptic_files, score_panoptic_files

sys.path.append(str(Path(__file__).resolve().parents[2]))
from panoptic_scenes import ISTHING, evaluate, random_images  # noqa: E402


def with_areas(ids, segments):
    return [{"iscrowd": 0, **s, "area": int((ids == s["id"]).sum())} for s in segments]


def write_files(folder, images, isthing=ISTHING):
    contents = []
    for side, (k_ids, k_segments) in {"gt": (0, 1), "pred": (2, 3)}.items():
        (folder / side).mkdir()
        annotations = []
        for k, image in enumerate(images):
            Image.fromarray(ids_to_rgb(image[k_ids])).save(folder / side / f"{k}.png")
            segments = with_areas(image[k_ids], image[k_segments])
            annotations.append({"image_id": k, "file_name": f"{k}.png", "segments_info": segments})
        categories = [{"id": c, "name": str(c), "isthing": int(t)} for c, t in isthing.items()]
        rows = [{"id": k, "file_name": f"{k}.jpg"} for k in range(len(images))]
        contents.append({"images": rows, "annotations": annotations, "categories": categories})
        (folder / f"{side}.json").write_text(json.dumps(contents[-1]))
    return folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred"


def perturbed_real_images(real_data):
    """COCO's panoptic maps, and predictions with shifted, missing, cut, merged, and mistaken segments."""
    content = json.loads((real_data / "coco/annotations/panoptic_val2017.json").read_text())
    isthing = {c["id"]: bool(c["isthing"]) for c in content["categories"]}
    images = []
    for annotation in content["annotations"]:
        path = real_data / "coco/panoptic_val2017" / annotation["file_name"]
        gt_ids, gt = rgb_to_ids(np.array(Image.open(path).convert("RGB"))), annotation["segments_info"]
        category = {s["id"]: s["category_id"] for s in gt}
        numbers = list(category)
        for shift in (0, 1, 3):
            pred_ids = np.roll(gt_ids, (shift, 2 * shift), axis=(0, 1))
            if shift:
                pred_ids[pred_ids == numbers[0]] = 0
                pred_ids[pred_ids == numbers[1]] = numbers[2]
                pred_ids[:, ::40][pred_ids[:, ::40] == numbers[3]] = 0
            kept = [n for n in numbers if (pred_ids == n).any()]
            mistaken = kept[-1] if shift else None
            segments = [{"id": n, "category_id": category[numbers[0] if n == mistaken else n]} for n in kept]
            images.append((gt_ids, gt, pred_ids, segments))
    return images, isthing


def assert_splits_equal(ours, peers, prefix=""):
    for split, suffix in (("All", ""), ("Things", "_th"), ("Stuff", "_st")):
        for name in ("pq", "sq", "rq"):
            assert ours[prefix + name.upper() + suffix] == pytest.approx(peers[split][name], abs=1e-9)


@pytest.fixture(params=["random", "real"])
def comparable(request, tmp_path):
    """Files that the peers handle rightly: one crowd region of a category at most, and no empty split."""
    if request.param == "real":
        images, isthing = perturbed_real_images(request.getfixturevalue("real_data"))
    else:
        images, isthing = random_images(5, crowds=True, n=24, one_crowd_per_category=True), ISTHING
    return write_files(tmp_path, images, isthing)


def test_equals_panopticapi(comparable):
    pq_compute = pytest.importorskip("panopticapi.evaluation").pq_compute
    gt_json, gt_folder, pred_json, pred_folder = comparable
    expected = pq_compute(str(gt_json), str(pred_json), str(gt_folder), str(pred_folder))
    result = score_panoptic_files(*comparable).quality.compute()
    assert 0.05 < result["PQ"] < 0.95
    assert_splits_equal(result, expected)
    by_class = {c: row for row, c in zip(expected["per_class"].values(), expected["per_class"])}
    names = {c["id"]: c["name"] for c in json.loads(gt_json.read_text())["categories"]}
    for category, row in by_class.items():
        value = result[f"PQ-{names[category]}"]
        assert value == pytest.approx(row["pq"], abs=1e-9) or (np.isnan(value) and row["pq"] == 0)


@pytest.mark.parametrize("ratio", [0.005, 0.02, 0.1])
def test_equals_boundary_iou_api(comparable, ratio):
    peer = pytest.importorskip("boundary_iou.coco_panoptic_api.evaluation").pq_compute
    gt_json, gt_folder, pred_json, pred_folder = map(str, comparable)
    expected = peer(gt_json, pred_json, gt_folder, pred_folder, iou_type="boundary", dilation_ratio=ratio)
    result = score_panoptic_files(*comparable, boundary_ratio=ratio).quality.compute()
    assert 0.05 < result["Boundary-PQ"] < 0.95
    assert_splits_equal(result, expected, "Boundary-")


def test_files_equal_arrays_with_any_number_of_workers(tmp_path):
    images = random_images(8, crowds=True, n=12)
    paths = write_files(tmp_path, images)
    quality = evaluate(images, boundary_ratio=0.02)
    for workers in (1, 3):
        scores = score_panoptic_files(*paths, boundary_ratio=0.02, workers=workers)
        assert scores.quality.compute() == pytest.approx(quality.compute(), rel=0, abs=0, nan_ok=True)
        assert scores.image_ids == list(range(12))
        assert np.array_equal(scores.statistics[4], quality.image_statistics(*images[4]))
    np.testing.assert_equal(evaluate_panoptic_files(*paths), quality.by_split())


def test_a_predicted_id_0_is_a_segment_as_in_panopticapi(tmp_path):
    images = []
    for gt_ids, gt, pred_ids, pred in random_images(6, crowds=True, n=12, one_crowd_per_category=True):
        first = next((s["id"] for s in pred if (pred_ids == s["id"]).any()), 1)
        pred_ids = np.where(pred_ids == 0, first, pred_ids)  # no void, which such an image can't have
        ids = np.unique(pred_ids).tolist()
        category = {first: 1} | {s["id"]: s["category_id"] for s in pred}
        numbered = [{"id": k, "category_id": category[i]} for k, i in enumerate(ids)]
        images.append((gt_ids, gt, np.searchsorted(ids, pred_ids), numbered))
    moved = [(*image[:2], image[2] + 1, [{**s, "id": s["id"] + 1} for s in image[3]]) for image in images]
    (tmp_path / "moved").mkdir()
    paths, paths_moved = write_files(tmp_path, images), write_files(tmp_path / "moved", moved)
    scores = [score_panoptic_files(*each, boundary_ratio=0.02) for each in (paths, paths_moved)]
    assert np.array_equal(scores[0].statistics, scores[1].statistics) and scores[0].statistics[:, 0].sum() > 5
    pq_compute = pytest.importorskip("panopticapi.evaluation").pq_compute
    gt_json, gt_folder, pred_json, pred_folder = map(str, paths)
    assert_splits_equal(scores[0].quality.compute(), pq_compute(gt_json, pred_json, gt_folder, pred_folder))


def test_id_0_of_the_ground_truth_and_ids_only_the_map_has(tmp_path):
    ids, segments = np.array([[0, 1]]), [{"id": 0, "category_id": 1}]
    truth = [np.array([[1, 1]]), [{"id": 1, "category_id": 1}]]
    paths = write_files(tmp_path, [(*truth, ids, segments)])
    with pytest.raises(UserError, match=r"image 0, its predicted ids raised by 1, as 0 is .* segment ids \[2\] are in"):
        score_panoptic_files(*paths)
    with pytest.raises(UserError, match="gt.json: image 0 has a segment of id 0 .* from 1 to 16777215; 0 is void"):
        (tmp_path / "other").mkdir()
        score_panoptic_files(*write_files(tmp_path / "other", [(ids, segments, *truth)]))


def test_bad_files_are_named(tmp_path):
    paths = write_files(tmp_path, random_images(8, crowds=True))
    victim = tmp_path / "pred" / "2.png"
    whole, size = victim.read_bytes(), Image.open(victim).size
    victim.write_bytes(whole[:40])
    with pytest.raises(UserError, match="2.png is truncated"):
        score_panoptic_files(*paths)
    with pytest.raises(UserError, match="2.png is truncated"):
        score_panoptic_files(*paths, workers=2)
    victim.unlink()
    with pytest.raises(UserError, match="2.png is missing"):
        score_panoptic_files(*paths)
    Image.new("L", size).save(victim)
    with pytest.raises(UserError, match="2.png is a 8-bit grey image, expected a panoptic PNG"):
        score_panoptic_files(*paths)
    Image.new("RGB", (99, 99)).save(victim)
    with pytest.raises(UserError, match="image 2: prediction and ground truth are .* expected one size"):
        score_panoptic_files(*paths)
    victim.write_bytes(whole)
    with pytest.raises(UserError, match="workers is 0"):
        score_panoptic_files(*paths, workers=0)


def test_bad_json_is_named(tmp_path):
    paths = write_files(tmp_path, random_images(8, crowds=True))
    content = json.loads((tmp_path / "pred.json").read_text())
    first, *others = content["annotations"]
    for annotations, message in (
        (others, r"pred.json has no prediction for 1 image\(s\), first \[0\]"),
        ([first, first, *others], r"pred.json has 1 image\(s\) twice"),
        ([{**first, "segments_info": [{"id": 3}]}, *others], "pred.json is not a COCO panoptic JSON: KeyError"),
        (7, "pred.json is not a COCO panoptic JSON"),
    ):
        (tmp_path / "pred.json").write_text(json.dumps({**content, "annotations": annotations}))
        with pytest.raises(UserError, match=message):
            score_panoptic_files(*paths)
    (tmp_path / "pred.json").write_text('{"annotations": [')
    with pytest.raises(UserError, match="pred.json is not JSON .* expected a COCO panoptic JSON"):
        score_panoptic_files(*paths)
    (tmp_path / "pred.json").unlink()
    with pytest.raises(FileNotFoundError, match="pred.json is missing"):
        score_panoptic_files(*paths)
    gt = json.loads((tmp_path / "gt.json").read_text())
    (tmp_path / "pred.json").write_text(json.dumps(content))
    (tmp_path / "gt.json").write_text(json.dumps({**gt, "categories": [{"id": 1}]}))
    with pytest.raises(UserError, match="gt.json is not a COCO panoptic JSON: KeyError.'isthing'. in its categories"):
        score_panoptic_files(*paths)
