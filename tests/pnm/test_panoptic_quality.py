"""PQ against a brute force over masks, and against panopticapi where a user has installed it."""

import json

import numpy as np
import pytest
from PIL import Image

from pnm.metrics.panoptic_files import evaluate_panoptic_files, pq_percentages, pq_table
from pnm.metrics.panoptic_quality import PanopticQuality, ids_to_rgb, rgb_to_ids

ISTHING = {1: True, 2: True, 7: False, 9: False}


def random_map(rng, height, width, crowds):
    ids = np.zeros((height, width), dtype=np.int64)
    segments = []
    for number in rng.choice(2**24 - 1, size=rng.integers(1, 9), replace=False) + 1:
        y, x = rng.integers(0, height), rng.integers(0, width)
        ids[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = number
        crowd = int(crowds and rng.random() < 0.3)
        segments.append({"id": int(number), "category_id": int(rng.choice(list(ISTHING))), "iscrowd": crowd})
    return ids, [s for s in segments if (ids == s["id"]).any()]


def brute_force(images):
    tp, fp, fn, iou_sum = ({c: 0.0 for c in ISTHING} for _ in range(4))
    for gt_ids, gt, pred_ids, pred in images:
        matched_gt, matched_pred = set(), set()
        for g in gt:
            for p in pred:
                gm, pm = gt_ids == g["id"], pred_ids == p["id"]
                union = (gm | pm).sum() - (pm & (gt_ids == 0)).sum()
                iou = (gm & pm).sum() / union
                if g["category_id"] == p["category_id"] and not g["iscrowd"] and iou > 0.5:
                    matched_gt.add(g["id"])
                    matched_pred.add(p["id"])
                    tp[g["category_id"]] += 1
                    iou_sum[g["category_id"]] += iou
        for g in gt:
            fn[g["category_id"]] += not g["iscrowd"] and g["id"] not in matched_gt
        for p in pred:
            crowds = [g["id"] for g in gt if g["iscrowd"] and g["category_id"] == p["category_id"]]
            mask = pred_ids == p["id"]
            excused = (mask & np.isin(gt_ids, [0, *crowds])).sum() / mask.sum()
            fp[p["category_id"]] += p["id"] not in matched_pred and excused <= 0.5
    return {c: iou_sum[c] / (tp[c] + 0.5 * fp[c] + 0.5 * fn[c]) for c in ISTHING if tp[c] + fp[c] + fn[c]}


def random_images(seed, crowds, n=6):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        height, width = rng.integers(1, 24, size=2)
        gt_ids, gt = random_map(rng, height, width, crowds)
        pred_ids, pred = random_map(rng, height, width, False)
        if rng.random() < 0.6:  # a prediction close to the truth, so that there are matches
            pred_ids, pred = np.roll(gt_ids, 1, axis=1), [{**s, "iscrowd": 0} for s in gt]
        images.append((gt_ids, gt, pred_ids, pred))
    return images


@pytest.mark.parametrize("seed", range(40))
def test_equals_brute_force(seed):
    images = random_images(seed, crowds=True)
    quality = PanopticQuality(ISTHING)
    for image in images:
        quality.update(*image)
    expected = brute_force(images)
    result = quality.compute()
    for category, row in result["per_class"].items():
        assert row["pq"] == pytest.approx(expected.get(category, float("nan")), abs=1e-12, nan_ok=True)
    assert result["All"]["pq"] == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert result["All"]["n"] == len(expected)


def test_merge_equals_one_process():
    images = random_images(3, crowds=True, n=9)
    whole, parts = PanopticQuality(ISTHING), [PanopticQuality(ISTHING) for _ in range(3)]
    for k, image in enumerate(images):
        whole.update(*image)
        parts[k % 3].update(*image)
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert np.array_equal(parts[0].counts, whole.counts)
    assert parts[0].iou == pytest.approx(whole.iou, abs=1e-12)


def test_perfect_prediction_scores_one_and_empty_splits_are_nan():
    gt_ids, gt = np.array([[5, 5, 0], [5, 6, 6]]), [{"id": 5, "category_id": 1}, {"id": 6, "category_id": 2}]
    quality = PanopticQuality(ISTHING)
    quality.update(gt_ids, gt, gt_ids, gt)
    result = quality.compute()
    assert result["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}
    assert np.isnan(result["Stuff"]["pq"]) and result["Stuff"]["n"] == 0


def test_inconsistent_predictions_are_errors():
    ids = np.array([[5, 6]])
    five, six = {"id": 5, "category_id": 1}, {"id": 6, "category_id": 1}
    for pred, message in (
        ([five], "in the map but not"),
        ([five, six, {"id": 7, "category_id": 1}], "not in the map"),
        ([five, five, six], "twice"),
        ([five, {"id": 6, "category_id": 44}], "category 44"),
    ):
        with pytest.raises(ValueError, match=message):
            PanopticQuality(ISTHING).update(ids, [five, six], ids, pred)
    with pytest.raises(ValueError, match="sizes must agree"):
        PanopticQuality(ISTHING).update(ids, [five, six], ids.T, [five, six])


def write_files(folder, images):
    contents = []
    for side, (k_ids, k_segments) in {"gt": (0, 1), "pred": (2, 3)}.items():
        (folder / side).mkdir()
        annotations = []
        for k, image in enumerate(images):
            Image.fromarray(ids_to_rgb(image[k_ids])).save(folder / side / f"{k}.png")
            annotations.append({"image_id": k, "file_name": f"{k}.png", "segments_info": image[k_segments]})
        categories = [{"id": c, "name": str(c), "isthing": int(t)} for c, t in ISTHING.items()]
        rows = [{"id": k, "file_name": f"{k}.jpg"} for k in range(len(images))]
        contents.append({"images": rows, "annotations": annotations, "categories": categories})
        (folder / f"{side}.json").write_text(json.dumps(contents[-1]))
    return folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred"


def test_files_equal_panopticapi(tmp_path):
    pq_compute = pytest.importorskip("panopticapi.evaluation").pq_compute
    images = random_images(5, crowds=False, n=12)
    for _, gt, _, pred in images:
        for segment in gt + pred:
            segment["area"] = 0
    for gt_ids, gt, pred_ids, pred in images:
        for ids, segments in ((gt_ids, gt), (pred_ids, pred)):
            for segment in segments:
                segment["area"] = int((ids == segment["id"]).sum())
    gt_json, gt_folder, pred_json, pred_folder = write_files(tmp_path, images)
    expected = pq_compute(str(gt_json), str(pred_json), str(gt_folder), str(pred_folder))
    result = evaluate_panoptic_files(gt_json, gt_folder, pred_json, pred_folder)
    for split in ("All", "Things", "Stuff"):
        assert result[split] == pytest.approx(expected[split], abs=1e-9)


def test_files_equal_arrays_and_bad_files_are_named(tmp_path):
    images = random_images(8, crowds=True)
    paths = write_files(tmp_path, images)
    quality = PanopticQuality(ISTHING)
    for image in images:
        quality.update(*image)
    np.testing.assert_equal(evaluate_panoptic_files(*paths), quality.compute())
    victim = tmp_path / "pred" / "2.png"
    victim.write_bytes(victim.read_bytes()[:40])
    with pytest.raises(ValueError, match="2.png is not a readable panoptic PNG"):
        evaluate_panoptic_files(*paths)
    victim.unlink()
    with pytest.raises(FileNotFoundError, match="2.png is missing"):
        evaluate_panoptic_files(*paths)
    (tmp_path / "pred.json").write_text('{"annotations": [')
    with pytest.raises(ValueError, match="pred.json is not a COCO panoptic JSON"):
        evaluate_panoptic_files(*paths)


def test_rgb_round_trip():
    ids = np.random.default_rng(0).integers(0, 2**24, size=(7, 5))
    assert np.array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)
    with pytest.raises(ValueError, match="2\\*\\*24"):
        ids_to_rgb(np.array([[1 << 24]]))


def test_percentages_and_table():
    split = {"pq": 0.5, "sq": 0.75, "rq": 0.6, "n": 3}
    empty = {"pq": float("nan"), "sq": float("nan"), "rq": float("nan"), "n": 0}
    result = {"All": split, "Things": split, "Stuff": empty}
    assert list(pq_percentages(result)) == ["PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st"]
    assert pq_percentages(result)["SQ_th"] == 75
    assert "50.000" in pq_table(result) and "nan" in pq_table(result)
