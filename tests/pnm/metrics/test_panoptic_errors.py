"""Errors of panoptic maps against plain loops."""

import numpy as np
import pytest

from pnm.metrics.error_counts import FALSE, MISSED, PIXELS, SIZE_EDGES_PX, no_errors
from pnm.metrics.label_errors import truth_measures
from pnm.metrics.panoptic_errors import dense_index, match_panoptic, panoptic_errors, shared_panoptic_doubt
from pnm.metrics.panoptic_quality import PanopticQuality
from tests.error_oracles import boundary, distance, distance_band, weight_band

CLASS = {1: 0, 2: 1, 3: 2}
D = 2


def example(seed, shape=(24, 26)):
    """(truth, its segments, prediction, its segments); id 0 is void, one true segment a crowd."""
    rng = np.random.default_rng(seed)
    truth = np.full(shape, 70000, np.int32)
    truth[12:] = 12
    for n in range(4):
        y, x = rng.integers(0, 18, 2)
        truth[y : y + 7, x : x + 8] = 100 + n
    truth[:2, :5] = 0
    pred = np.roll(truth, (1, -1), (0, 1))
    pred[pred == 100] = 0
    pred[pred == 102] = 103
    sides = []
    for ids in (truth, pred):
        segments = [
            {"id": int(k), "category_id": 1 if k == 12 else 2 if k == 70000 else 3} for k in np.unique(ids) if k
        ]
        sides += [ids, segments]
    for segment in sides[1]:
        if segment["id"] == 101:
            segment["iscrowd"] = 1
    for segment in sides[3]:
        if segment["id"] == 12 and seed % 2:
            segment["category_id"] = 2
    return sides


def matched(truth, gt, pred, dt):
    quality = PanopticQuality({1: False, 2: False, 3: True}, boundary_px=D)
    return match_panoptic(truth, pred, *quality.image_pairs(truth, gt, pred, dt), D), quality


def errors_of(matching):
    return panoptic_errors(matching, 3, truth_measures(matching.truth_ids, 0))


def partners(truth, gt, pred, dt):
    """{predicted id: true id} by PQ's rule."""
    found = {}
    for p in dt:
        for t in gt:
            a, b = truth == t["id"], pred == p["id"]
            union = (a | b).sum() - ((truth == 0) & b).sum()
            if p["category_id"] == t["category_id"] and not t.get("iscrowd") and (a & b).sum() / union > 0.5:
                found[p["id"]] = t["id"]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_loops(seed):
    truth, gt, pred, dt = example(seed)
    matching, quality = matched(truth, gt, pred, dt)
    errors = errors_of(matching)
    partner = partners(truth, gt, pred, dt)
    true_class = {s["id"]: CLASS[s["category_id"]] for s in gt if not s.get("iscrowd")}
    pred_class = {s["id"]: CLASS[s["category_id"]] for s in dt}
    wanted, states = no_errors(3, 3), {}
    for y, x in np.ndindex(truth.shape):
        t, p = truth[y, x], pred[y, x]
        if t not in true_class:
            continue
        wrong, b = partner.get(p) != t, distance_band(truth, y, x)
        states.setdefault(int(t), []).append(wrong)
        wanted.distances[PIXELS, true_class[t], b] += 1
        wanted.weights[:, weight_band(truth, y, x, 0)] += np.array([1, wrong])
        wanted.near[int(distance(truth, y, x) > D)] += np.array([1, wrong])
        if wrong:
            way = 2 if p not in pred_class else int(pred_class[p] == true_class[t])
            wanted.ways[way, b] += 1
            wanted.distances[MISSED, true_class[t], b] += 1
            if p in pred_class:
                wanted.distances[FALSE, pred_class[p], b] += 1
    for number, wrongs in states.items():
        size = sum(len(wrongs) >= edge for edge in SIZE_EDGES_PX)
        wanted.sizes[:, size] += np.array([1, number in partner.values(), len(wrongs), sum(wrongs)])
    for name, got, expected in zip(wanted._fields[:5], errors.counts[:5], wanted[:5]):
        np.testing.assert_array_equal(got, expected, name)
    statistics = quality.image_statistics(truth, gt, pred, dt)
    assert (errors.counts.sizes[1].sum(), len(true_class)) == (statistics[0].sum(), errors.counts.sizes[0].sum())
    assert errors.counts.confusion[:3].sum() == len(true_class)


@pytest.mark.parametrize("seed", range(2))
def test_boundary_ious_are_those_of_loops(seed):
    truth, gt, pred, dt = example(seed)
    errors = errors_of(matched(truth, gt, pred, dt)[0])
    partner = {t: p for p, t in partners(truth, gt, pred, dt).items()}
    for n, number in enumerate(sorted(segment["id"] for segment in gt)):
        crowd = next(segment.get("iscrowd", 0) for segment in gt if segment["id"] == number)
        wanted = np.nan if crowd else 0.0
        if number in partner:
            a, b = boundary(truth == number, D), boundary(pred == partner[number], D) & (truth != 0)
            wanted = (a & b).sum() / (a | b).sum()
        np.testing.assert_allclose(errors.object_ious[n], wanted, atol=1e-12)


def test_a_perfect_prediction_and_none():
    truth, gt, _, _ = example(0)
    gt = [{k: v for k, v in segment.items() if k != "iscrowd"} for segment in gt]
    right = errors_of(matched(truth, gt, truth, gt)[0])
    assert right.counts.ways.sum() == 0 and right.boundary_iou == 1 and right.doubt == 0
    nothing = errors_of(matched(truth, gt, np.zeros_like(truth), [])[0])
    assert nothing.counts.ways[2].sum() == (truth > 0).sum() == nothing.counts.ways.sum()
    assert nothing.counts.confusion[:, 3].sum() == len(gt) and nothing.boundary_iou == 0
    void = errors_of(matched(np.zeros_like(truth), [], truth, gt)[0])
    assert all(array.sum() == 0 for array in void.counts) and np.isnan(void.boundary_iou)


def test_doubt_where_both_agree():
    truth = np.full((3, 30), 1, np.int32)
    truth[:, 20:] = 2
    gt = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}]
    pred, other = truth.copy(), truth.copy()
    pred[:, :5], other[:, 2:9] = 9, 8
    a = matched(truth, gt, pred, [*gt, {"id": 9, "category_id": 3}])[0]
    b = matched(truth, gt, other, [*gt, {"id": 8, "category_id": 3}])[0]
    assert shared_panoptic_doubt(a, b, truth_measures(truth, 0)) == 9
    assert shared_panoptic_doubt(a, matched(truth, gt, truth, gt)[0], truth_measures(truth, 0)) == 0


def test_dense_index():
    ids = np.array([[3, 9, 0], [16777215, 9, 4]], np.int32)
    assert dense_index(ids, np.array([3, 9, 16777215])).tolist() == [[0, 1, -1], [2, 1, -1]]
    assert dense_index(ids, np.zeros(0, np.int64)).tolist() == [[-1] * 3] * 2
