"""AF against contours and distances computed pixel by pixel."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from pnm.masks.runs import decode_masks
from pnm.metrics.average_f import average_f, contours, f_sums
from pnm.metrics.instance_ap import InstanceMetrics


def contour_map(mask):
    """Pixels unlike their right, lower or lower right neighbour inside the image."""
    height, width = mask.shape
    rim = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            block = mask[y : min(y + 2, height), x : min(x + 2, width)]
            rim[y, x] = block.any() and not block.all()
    return rim


def brute_f(a, b):
    a, b = contour_map(a), contour_map(b)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision, recall = (a & binary_dilation(b)).sum() / a.sum(), (b & binary_dilation(a)).sum() / b.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def masks_of_all_kinds(rng, height=24, width=30):
    everything, one, column = (
        np.ones((height, width), bool),
        np.zeros((height, width), bool),
        np.zeros((height, width), bool),
    )
    one[0, 0] = True
    column[:, -1] = True
    yield from [everything, ~everything, one, column, rng.random((height, width)) < 0.5, ~one]
    for _ in range(8):
        mask = np.zeros((height, width), np.uint8)
        center = rng.integers(0, [width, height]).tolist()
        cv2.ellipse(mask, center, rng.integers(1, 14, size=2).tolist(), float(rng.integers(180)), 0, 360, 1, -1)
        yield mask.astype(bool)


@pytest.mark.parametrize("size", [(24, 30), (1, 1), (1, 7), (6, 1), (2, 2)])
def test_contour_equals_its_definition(size):
    rng = np.random.default_rng(0)
    masks = [rng.random(size) < p for p in (0, 0.1, 0.5, 0.9, 1)]
    masks += [*masks_of_all_kinds(rng)] if size == (24, 30) else []
    found = contours(decode_masks(masks, *size), np.ones(len(masks), bool))
    for n, mask in enumerate(masks):
        pixels = found.yx[found.offsets[n] : found.offsets[n + 1]]
        drawn = np.zeros(size, int)
        np.add.at(drawn, tuple(pixels.T), 1)
        np.testing.assert_array_equal(drawn, contour_map(mask).astype(int))


def test_f_equals_brute_force():
    masks = [m for m in masks_of_all_kinds(np.random.default_rng(1)) if m.any()]
    runs = decode_masks(masks, 24, 30)
    for j in range(len(masks)):
        partner = np.full((len(masks), 10), j)
        for i, (f, number) in enumerate(f_sums(runs, runs, partner, np.arange(len(masks)), len(masks))):
            assert number.tolist() == [1] * 10
            assert f[3] / 2**40 == pytest.approx(brute_f(masks[i], masks[j]), abs=1e-12)


def test_only_partners_count():
    masks = [m for m in masks_of_all_kinds(np.random.default_rng(1)) if m.any()]
    runs, partner = decode_masks(masks, 24, 30), np.full((len(masks), 10), -1)
    partner[6, :4], partner[7, 2] = 8, 6
    sums = f_sums(runs, runs, partner, np.arange(len(masks)) % 2, 2)
    assert sums[:, 1].tolist() == [[1] * 4 + [0] * 6, [0, 0, 1] + [0] * 7]
    assert sums[0, 0, 0] / 2**40 == pytest.approx(brute_f(masks[6], masks[8]))
    assert sums[1, 0, 2] / 2**40 == pytest.approx(brute_f(masks[7], masks[6]))


def square(top, left, side=20):
    mask = np.zeros((60, 60), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def af(gt, dt):
    metrics = InstanceMetrics([1], metrics=["af"])
    metrics.update(
        1, 60, 60,
        [{"category_id": 1, "segmentation": m} for m in gt],
        [{"category_id": 1, "segmentation": m, "score": 0.5} for m in dt],
    )  # fmt: skip
    return metrics.compute()


def test_perfect_disjoint_and_empty():
    assert af([square(5, 5), square(30, 30)], [square(30, 30), square(5, 5)]) == {"AF": 1, "AF-1": 1}
    assert af([square(5, 5)], [square(30, 30)]) == {"AF": 0, "AF-1": 0}
    assert af([square(5, 5)], []) == {"AF": 0, "AF-1": 0}
    assert np.isnan([*af([], [square(5, 5)]).values(), *af([], []).values()]).all()


def test_thresholds_without_a_true_positive_count_as_zero():
    inner = square(5, 5, 18)  # IoU 324 / 400 = 0.81: true positive at 7 of 10 thresholds
    assert af([square(5, 5)], [inner])["AF"] == pytest.approx(0.7 * brute_f(square(5, 5), inner))


def test_mean_over_instances_then_thresholds():
    sums = np.zeros((2, 2, 10), np.int64)
    sums[0, 1, :5], sums[0, 0, :5] = 3, 3 * 2**39  # three true positives with F = 1/2 at half of the thresholds
    sums[1, 1], sums[1, 0] = 1, 2**40  # one with F = 1 at all of them
    assert average_f(sums, np.array([True, True])).tolist() == [0.25, 1.0]
    assert average_f(sums.sum(axis=0), np.array(True)) == pytest.approx((5 * 2.5 / 4 + 5) / 10)
    assert np.isnan(average_f(np.zeros((2, 10), np.int64), np.array(False)))


def test_crowd_is_no_true_positive():
    crowd, missed = square(5, 5), square(30, 30)
    metrics = InstanceMetrics([1], metrics=["af"])
    metrics.update(
        1, 60, 60,
        [{"category_id": 1, "segmentation": crowd, "iscrowd": 1}, {"category_id": 1, "segmentation": missed}],
        [{"category_id": 1, "segmentation": crowd, "score": 1}],
    )  # fmt: skip
    assert metrics.compute()["AF"] == 0
