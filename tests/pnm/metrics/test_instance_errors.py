"""Errors of instances against plain loops."""

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.metrics.error_counts import FALSE, MISSED, PIXELS, no_errors
from pnm.metrics.instance_errors import (
    break_even_score,
    instance_errors,
    match_instances,
    shared_instance_doubt,
)
from tests.error_oracles import boundary, distance, distance_band, weight_band

SIZE, COLUMNS, D = (30, 34), {5: 0, 9: 1}, 2


def rectangle(top, left, height, width):
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def entry(category, mask, **more):
    return {"category_id": category, "segmentation": mask, **more}


def matched(gt, dt, least=0.0):
    return match_instances(SIZE, gt, dt, COLUMNS, least, D)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture
def scene():
    """A found object with a better duplicate of another class, one at the frame, a missed one, a false one."""
    gt = [
        entry(5, rectangle(2, 3, 10, 12)),
        entry(9, rectangle(20, 0, 10, 9)),
        entry(9, rectangle(16, 20, 3, 4)),
    ]
    dt = [
        entry(5, rectangle(3, 4, 10, 12), score=0.9),
        entry(9, rectangle(2, 3, 10, 12), score=0.95),
        entry(9, rectangle(21, 0, 9, 10), score=0.8),
        entry(5, rectangle(22, 22, 5, 6), score=0.6),
        entry(5, rectangle(25, 30, 2, 2), score=0.1),
    ]
    return gt, dt


def test_counts_are_those_of_loops(scene):
    gt, dt = scene
    errors = instance_errors(matched(gt, dt, 0.5), 2)
    wanted = no_errors(2, 4)
    empty = np.zeros(SIZE, np.uint8)
    pairs = [(0, gt[0], dt[0], (0, 1)), (1, gt[1], dt[2], (0, 1)), (1, gt[2], None, (2, 2)), (0, None, dt[3], (3, 3))]
    pairs.append((1, None, dt[1], (3, 3)))
    shared = either = 0
    for column, true, found, (missed_way, false_way) in pairs:
        t = empty if true is None else true["segmentation"]
        p = empty if found is None else found["segmentation"]
        reference = p if true is None else t
        for y, x in np.argwhere(t | p):
            b, w, wrong = distance_band(reference, y, x), weight_band(reference, y, x), t[y, x] != p[y, x]
            wanted.distances[PIXELS, column, b] += 1
            wanted.weights[:, w] += np.array([1, wrong])
            wanted.near[int(distance(reference, y, x) > D)] += np.array([1, wrong])
            if wrong:
                wanted.distances[MISSED if t[y, x] else FALSE, column, b] += 1
                wanted.ways[missed_way if t[y, x] else false_way, b] += 1
        if true is not None:
            wanted.sizes[:, 0] += np.array([1, found is not None, int((t | p).sum()), int((t != p).sum())])
        sides = [boundary(mask.astype(bool), D) for mask in (t, p)]
        shared, either = shared + (sides[0] & sides[1]).sum(), either + (sides[0] | sides[1]).sum()
    wanted.confusion[:] = [[0, 1, 0], [0, 1, 1], [2, 0, 0]]
    for name, got, expected in zip(wanted._fields, errors.counts, wanted):
        np.testing.assert_array_equal(got, expected, name)
    assert (errors.shared_boundary, errors.all_boundary) == (shared, either)
    wrong = sum((a != b).sum() for a, b in ((gt[0]["segmentation"], dt[0]["segmentation"]),))
    wrong += (gt[1]["segmentation"] != dt[2]["segmentation"]).sum() + 12 + 30 + 120
    assert errors.counts.ways.sum() == wrong == errors.counts.weights[1].sum() == errors.counts.near[:, 1].sum()


def test_object_ious_scores_and_doubt(scene):
    gt, dt = scene
    errors = instance_errors(matched(gt, dt, 0.5), 2)
    wanted = []
    for true, found in ((gt[0], dt[0]), (gt[1], dt[2])):
        wanted.append(iou(*(boundary(side["segmentation"].astype(bool), D) for side in (true, found))))
    np.testing.assert_allclose(errors.object_ious, [*wanted, 0], atol=1e-12)
    rows = sorted(map(tuple, errors.scores.tolist()))
    assert rows == [(0, 0.1, 0), (0, 0.6, 0), (0, 0.9, 1), (1, 0.8, 1), (1, 0.95, 0)]
    doubt = 0.9 * (1 - wanted[0]) + 0.8 * (1 - wanted[1]) + 0.6 + 0.95 + 1
    assert errors.doubt == pytest.approx(doubt)


def test_a_perfect_prediction():
    gt = [entry(5, rectangle(2, 3, 10, 12)), entry(9, rectangle(0, 20, 30, 14))]
    errors = instance_errors(matched(gt, [{**one, "score": 0.5} for one in gt], 0.5), 2)
    assert errors.counts.ways.sum() == 0 and errors.boundary_iou == 1 and errors.object_ious.tolist() == [1, 1]
    assert errors.counts.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_crowds_are_left_out():
    gt = [entry(5, rectangle(0, 0, 20, 20), iscrowd=1)]
    dt = [entry(5, rectangle(2, 2, 5, 5), score=0.9)]
    errors = instance_errors(matched(gt, dt), 2)
    assert all(array.sum() == 0 for array in errors.counts) and errors.doubt == 0
    assert np.isnan(errors.object_ious).all() and len(errors.scores) == 0 and np.isnan(errors.boundary_iou)


@pytest.mark.parametrize("side", ["neither", "truth", "prediction"])
def test_empty_images_and_masks(side):
    one = entry(5, rectangle(0, 0, 0, 0))
    gt, dt = [one] if side == "truth" else [], [{**one, "score": 1.0}] if side == "prediction" else []
    errors = instance_errors(matched(gt, dt), 2)
    assert errors.counts.ways.sum() == 0 and errors.counts.confusion.sum() == len(gt) + len(dt)
    assert len(errors.object_ious) == len(gt)


def test_a_damaged_entry_is_told():
    with pytest.raises(UserError):
        matched([entry(7, rectangle(0, 0, 1, 1))], [])
    with pytest.raises(UserError):
        matched([], [entry(5, rectangle(0, 0, 1, 1), score=float("nan"))])


def test_doubt_where_both_agree():
    """B repeats A; both are two pixels off the annotation, and both see an object that isn't annotated."""
    gt = [entry(5, rectangle(4, 4, 12, 12)), entry(9, rectangle(25, 25, 4, 4))]
    found, false = rectangle(6, 4, 12, 12), rectangle(20, 2, 6, 6)
    a = matched(gt, [entry(5, found, score=0.9), entry(9, false, score=0.7)])
    b = matched(gt, [entry(5, found, score=0.8), entry(9, false, score=0.6)])
    apart = iou(boundary(found.astype(bool), D), boundary(gt[0]["segmentation"].astype(bool), D))
    assert shared_instance_doubt(a, b) == pytest.approx(0.8 * (1 - apart) + 0.6 + 1)
    right = matched(gt, [{**one, "score": 1.0} for one in gt])
    assert shared_instance_doubt(a, right) == 0 and shared_instance_doubt(right, right) == 0


def test_break_even_score():
    scores = np.array([0.1, 0.9, 0.5, 0.7])
    assert [break_even_score(scores, n) for n in (0, 1, 2, 4, 9)] == [0.9, 0.9, 0.7, 0.1, 0.1]
    assert break_even_score(np.zeros(0), 3) == 0
