"""PQ and Boundary PQ against a brute force over masks."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from pnm.errors import UserError
from pnm.formats.coco_panoptic import ids_to_rgb, rgb_to_ids
from pnm.metrics.boundary_width import boundary_distance_px
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.metrics.segment_pairs import count_pairs
from pnm.scoring.panoptic_files import pq_percentages, pq_table

sys.path.append(str(Path(__file__).resolve().parents[2]))
from panoptic_scenes import ISTHING, evaluate, random_images  # noqa: E402

RATIO = 0.05


def boundary_of(mask, d):
    return mask & ~binary_erosion(mask, np.ones((2 * d + 1, 2 * d + 1)))


def iou_without_void(gt_mask, pred_mask, void):
    union = (gt_mask | pred_mask).sum() - (pred_mask & void).sum()
    return (gt_mask & pred_mask).sum() / union if union else 0.0


def brute_force(images, ratio=None):
    """{category: (PQ, SQ, RQ)} of the categories that occur."""
    tp, fp, fn, iou_sum = ({c: 0.0 for c in ISTHING} for _ in range(4))
    for gt_ids, gt, pred_ids, pred in images:
        matched_gt, matched_pred = set(), set()
        d = boundary_distance_px(*gt_ids.shape, ratio) if ratio else 0
        for g in gt:
            for p in pred:
                gm, pm = gt_ids == g["id"], pred_ids == p["id"]
                iou = iou_without_void(gm, pm, gt_ids == 0)
                if ratio:
                    iou = min(iou, iou_without_void(boundary_of(gm, d), boundary_of(pm, d), gt_ids == 0))
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
    found = {}
    for c in ISTHING:
        if denominator := tp[c] + 0.5 * fp[c] + 0.5 * fn[c]:
            found[c] = iou_sum[c] / denominator, iou_sum[c] / tp[c] if tp[c] else 0.0, tp[c] / denominator
    return found


def assert_equals_brute_force(result, images):
    for prefix, ratio in (("", None), ("Boundary-", RATIO)):
        expected = brute_force(images, ratio)
        for suffix, chosen in (("", ISTHING), ("_th", [1, 2]), ("_st", [7, 9])):
            rows = [row for category, row in expected.items() if category in chosen]
            for k, name in enumerate(("PQ", "SQ", "RQ")):
                mean = np.mean([row[k] for row in rows]) if rows else np.nan
                assert result[prefix + name + suffix] == pytest.approx(mean, abs=1e-12, nan_ok=True)
        for category in ISTHING:
            for name, value in zip(("PQ", "SQ", "RQ"), expected.get(category, [np.nan] * 3)):
                assert result[f"{prefix}{name}-{category}"] == pytest.approx(value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(25))
def test_equals_brute_force(seed):
    images = random_images(seed, crowds=True)
    assert_equals_brute_force(evaluate(images, boundary_ratio=RATIO).compute(), images)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_type(dtype):
    rng = np.random.default_rng(0)
    gt, pred = (rng.integers(0, 6, (20, 30)).repeat(3, axis=1) for _ in range(2))
    segments = [{"id": n, "category_id": 1} for n in range(1, 6)]
    expected = evaluate([(gt, segments, pred, segments)], boundary_px=1).compute()
    images = [(gt.astype(dtype), segments, pred[:, ::-1].astype(dtype)[:, ::-1], segments)]
    assert evaluate(images, boundary_px=1).compute() == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(("width", "matches"), [(6, True), (5, False)])
def test_segments_match_above_an_iou_of_one_half(width, matches):
    """A segment of 10 columns, of which the prediction has 6, or 5, and stuff the rest."""
    gt, pred = np.ones((4, 10), int), np.full((4, 10), 2)
    pred[:, :width] = 1
    segments = [{"id": 1, "category_id": 1}]
    quality = evaluate([(gt, segments, pred, [*segments, {"id": 2, "category_id": 2}])])
    assert quality.statistics[0].sum() == matches
    assert quality.compute()["SQ-1"] == pytest.approx(width / 10 if matches else 0)


def test_thousands_of_segments():
    """More pairs than the first table of pairs holds."""
    ids = np.arange(1, 60 * 70 + 1).reshape(60, 70)
    segments = [{"id": n, "category_id": 1} for n in range(1, ids.size + 1)]
    quality = evaluate([(ids, segments, ids, segments)], boundary_px=2)
    assert quality.statistics[0, 0] == ids.size
    assert quality.compute()["PQ"] == quality.compute()["Boundary-PQ"] == 1
    assert evaluate([(ids, segments, ids % ids.size + 1, segments)]).compute()["PQ"] == 1, "ids are names"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pairs_equal_counting_one_by_one(data):
    shape = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    most = data.draw(st.sampled_from([1, 3, 2**24]))
    gt, pred = rng.integers(0, most, shape), rng.integers(0, most, shape)
    pairs = count_pairs(gt, pred)
    expected: dict = {}
    for pair in zip(gt.ravel().tolist(), pred.ravel().tolist()):
        expected[pair] = expected.get(pair, 0) + 1
    assert dict(zip(zip(pairs.gt.tolist(), pairs.pred.tolist()), pairs.shared.tolist())) == expected


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=9, max_size=9), st.integers(0, 50))
def test_any_split_equals_one_process(parts, seed):
    images = random_images(seed, crowds=True, n=9)
    whole = evaluate(images, boundary_ratio=RATIO)
    split = [evaluate([im for im, k in zip(images, parts) if k == part], boundary_ratio=RATIO) for part in (2, 0, 1)]
    for other in split[1:]:
        split[0].merge(pickle.loads(pickle.dumps(other)))
    assert split[0].compute() == pytest.approx(whole.compute(), rel=0, abs=0, nan_ok=True)
    with pytest.raises(UserError, match="same categories and boundaries"):
        whole.merge(evaluate(images, boundary_px=3))


def test_statistics_of_images_give_each_image_and_any_sum():
    images = random_images(1, crowds=True, n=7)
    quality = evaluate(images, boundary_ratio=RATIO)
    statistics = np.stack([quality.image_statistics(*image) for image in images])
    assert np.array_equal(statistics.sum(axis=0), quality.statistics)
    single = quality.compute_many(statistics)
    for k, image in enumerate(images):
        alone = evaluate([image], boundary_ratio=RATIO).compute()
        assert {name: values[k] for name, values in single.items()} == pytest.approx(alone, rel=0, abs=0, nan_ok=True)
    drawn = [3, 3, 0, 5]
    resampled = quality.compute_many(statistics[drawn].sum(axis=0)[None])
    again = evaluate([images[k] for k in drawn], boundary_ratio=RATIO).compute()
    assert {k: v[0] for k, v in resampled.items()} == pytest.approx(again, rel=0, abs=0, nan_ok=True)
    with pytest.raises(UserError, match=r"statistics are \(8, 4\), expected \(B, R, C\)"):
        quality.compute_many(quality.statistics)


def test_perfect_is_one_and_empty_splits_are_nan():
    gt_ids, gt = np.array([[5, 5, 0], [5, 6, 6]]), [{"id": 5, "category_id": 1}, {"id": 6, "category_id": 2}]
    quality = evaluate([(gt_ids, gt, gt_ids, gt)], boundary_ratio=0.02)
    result = quality.compute()
    for name in ("PQ", "SQ", "RQ"):
        assert result[name] == result[f"{name}_th"] == result[f"Boundary-{name}-1"] == 1
        assert np.isnan([result[f"{name}_st"], result[f"Boundary-{name}_st"], result[f"{name}-7"]]).all()
    assert quality.by_split()["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}
    assert quality.by_split()["Stuff"]["n"] == 0
    quality.reset()
    assert np.isnan(list(quality.compute().values())).all()


def test_all_wrong_is_zero():
    ids = np.array([[5, 5, 6, 6]])
    gt, pred = ([{"id": n, "category_id": c} for n, c in zip((5, 6), categories)] for categories in ((1, 7), (7, 1)))
    result = evaluate([(ids, gt, ids, pred)], boundary_px=1).compute()
    assert {result[n] for n in ("PQ", "SQ", "RQ", "PQ_th", "RQ_st", "Boundary-PQ", "Boundary-SQ_st")} == {0.0}


def test_empty_prediction_and_empty_ground_truth():
    ids, empty = np.full((4, 4), 3), np.zeros((4, 4), np.int64)
    segments = [{"id": 3, "category_id": 1}]
    assert evaluate([(ids, segments, empty, [])]).statistics[:, 0].tolist() == [0, 0, 1, 0]
    assert not evaluate([(empty, [], ids, segments)]).statistics.any(), "a prediction on void is excused"
    nothing = np.zeros((0, 4), np.int64)
    assert not evaluate([(nothing, [], nothing, [])], boundary_px=1).statistics.any()


def test_void_pixels_never_matter_below_a_match():
    """What is predicted on void changes neither a match nor its IoU."""
    gt_ids, gt = np.zeros((20, 20), np.int64), [{"id": 1, "category_id": 1}]
    gt_ids[5:15, 5:15] = 1
    pred = [{"id": 9, "category_id": 1}]
    results = []
    for margin in (0, 5):
        pred_ids = np.zeros_like(gt_ids)
        pred_ids[5 - margin : 15 + margin, 6 : 15 + margin] = 9
        results.append(evaluate([(gt_ids, gt, pred_ids, pred)]).compute()["PQ"])
    assert results[0] == results[1] == pytest.approx(0.9, abs=1e-12)


def test_every_crowd_region_excuses():
    """panopticapi remembers the last crowd region of a category only."""
    gt_ids = np.array([[1, 1, 2, 2, 3, 3]])
    gt = [{"id": n, "category_id": c, "iscrowd": int(c == 1)} for n, c in ((1, 1), (2, 1), (3, 2))]
    pred_ids = np.array([[4, 4, 5, 5, 6, 6]])
    pred = [{"id": n, "category_id": c} for n, c in ((4, 1), (5, 1), (6, 2))]
    quality = evaluate([(gt_ids, gt, pred_ids, pred)], boundary_px=1)
    assert quality.statistics[1].tolist() == quality.statistics[5].tolist() == [0, 0, 0, 0]
    assert quality.compute()["PQ"] == brute_force([(gt_ids, gt, pred_ids, pred)])[2][0] == 1


def test_boundary_ids_collide_with_nothing():
    """boundary-iou-api writes max(category) + 1 into the id map, here a segment of its own."""
    ids = np.full((30, 30), 10)
    ids[5:25, 5:25] = 20
    segments = [{"id": 10, "category_id": 9}, {"id": 20, "category_id": 1}]
    assert max(ISTHING) + 1 == 10
    assert evaluate([(ids, segments, ids, segments)], boundary_px=2).compute()["Boundary-PQ"] == 1


def test_stale_areas_are_not_read():
    ids = np.array([[5, 6]])
    segments = [{"id": 5, "category_id": 1, "area": 100}, {"id": 6, "category_id": 1, "area": -3}]
    assert evaluate([(ids, segments, ids, segments)]).compute()["SQ"] == 1


def test_ground_truth_ids_in_one_place_only():
    gt_ids, pred_ids = np.array([[5, 5, 8, 8]]), np.array([[1, 1, 2, 2]])
    gt = [{"id": 5, "category_id": 1}, {"id": 6, "category_id": 2}]
    pred = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 1}]
    counts = evaluate([(gt_ids, gt, pred_ids, pred)]).statistics[:3]
    assert counts[:, 0].tolist() == [1, 1, 0], "what is predicted on an id that isn't listed is wrong"
    assert counts[:, 1].tolist() == [0, 0, 1], "what is listed and has no pixel was not found"


def test_inconsistent_predictions_are_errors():
    ids = np.array([[5, 6]])
    five, six = {"id": 5, "category_id": 1}, {"id": 6, "category_id": 1}
    quality = PanopticQuality(ISTHING)
    for pred, message in (
        ([five], "in the map but not"),
        ([five, six, {"id": 7, "category_id": 1}], "not in the map"),
        ([five, five, six], "twice"),
        ([five, {"id": 6, "category_id": 44}], "category 44"),
        ([five, six, {"id": 0, "category_id": 1}], "0 is void"),
    ):
        with pytest.raises(UserError, match=message):
            quality.update(ids, [five, six], ids, pred)
    with pytest.raises(UserError, match="sizes must agree"):
        quality.update(ids, [five, six], ids.T, [five, six])
    for strange in (-ids, ids + 2**32, -ids.astype(np.int32), -ids.astype(np.int8)):
        with pytest.raises(UserError, match=r"prediction: segment ids must lie in 0..2147483647, got"):
            quality.update(ids, [five, six], strange, [])
    for strange in (ids[None], ids / 2, [[5, 6]]):
        with pytest.raises(UserError, match=r"expected \(H, W\) integer ids"):
            quality.update(strange, [five, six], ids, [five, six])
    assert not quality.statistics.any()


def test_wrong_settings():
    with pytest.raises(UserError, match="isthing is empty"):
        PanopticQuality({})
    with pytest.raises(UserError, match="boundary ratio is 2"):
        PanopticQuality(ISTHING, boundary_ratio=2)
    with pytest.raises(UserError, match="boundary's width is 0"):
        PanopticQuality(ISTHING, boundary_px=0)
    names = PanopticQuality(ISTHING, class_names={1: "tree", 7: "tree", 9: "sky"}).class_names
    assert names == ["tree 1", "2", "tree 7", "sky"]


def test_rgb_round_trip():
    ids = np.random.default_rng(0).integers(0, 2**24, size=(7, 5))
    assert np.array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)
    with pytest.raises(UserError, match="2\\*\\*24"):
        ids_to_rgb(np.array([[1 << 24]]))
    with pytest.raises(UserError, match=r"a panoptic PNG is \(H, W, 3\) uint8"):
        rgb_to_ids(ids)


def test_percentages_and_table():
    split = {"pq": 0.5, "sq": 0.75, "rq": 0.6, "n": 3}
    empty = {"pq": float("nan"), "sq": float("nan"), "rq": float("nan"), "n": 0}
    result = {"All": split, "Things": split, "Stuff": empty}
    assert list(pq_percentages(result)) == ["PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st"]
    assert pq_percentages(result)["SQ_th"] == 75
    assert "50.000" in pq_table(result) and "nan" in pq_table(result)
