"""Boundary F-score against contours drawn pixel by pixel and distance transforms, class by class."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from pnm.errors import UserError
from pnm.metrics.boundary_f_score import check_tolerances, contour_matches, f_scores, tolerance_px
from pnm.metrics.exact_sums import QUOTIENT_SCALE, pair_labels

VOID = 999  # no class of any test


def contour_of(labels, k, void_borders):
    """Pixel by pixel: does the mask of class k change to the right, below, or lower right?"""
    height, width = labels.shape
    contour = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if v < height and u < width:
                    counts = void_borders or VOID not in (labels[y, x], labels[v, u])
                    contour[y, x] |= counts and (labels[y, x] == k) != (labels[v, u] == k)
    return contour


def near(contour, radius):
    if not contour.any():
        return np.zeros(contour.shape, bool)
    return distance_transform_edt(~contour) ** 2 <= radius**2 + 1e-6


def brute_force_f(pred, target, k, radius, void_borders=True):
    """F of a class, or None where it has no contour."""
    pred = np.where(target == VOID, VOID, pred)
    a, b = contour_of(pred, k, void_borders), contour_of(target, k, void_borders)
    if not a.any() or not b.any():
        return None if not a.any() and not b.any() else 0.0
    precision, recall = (a & near(b, radius)).sum() / a.sum(), (b & near(a, radius)).sum() / b.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def scores(pred, target, num_classes, radii, void_borders=True):
    """F (R, K), nan where there is no contour."""
    pair = pair_labels(pred, target, num_classes, VOID)
    f, occurs = f_scores(contour_matches(pair, np.array(radii), void_borders))
    return np.where(occurs, f / QUOTIENT_SCALE, np.nan)


def blocks(rng, shape, num_classes):
    rows, columns = rng.integers(1, 8, size=2)
    few = rng.integers(0, num_classes, (-(-shape[0] // rows), -(-shape[1] // columns)))
    return few.repeat(rows, axis=0).repeat(columns, axis=1)[: shape[0], : shape[1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([3, 70, 300]))
def test_equals_brute_force(seed, void_borders, num_classes):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 26, size=2))
    classes = rng.choice(num_classes, 3, replace=False)
    target = classes[blocks(rng, shape, 3)]
    pred = np.roll(target, rng.integers(-2, 3, size=2), axis=(0, 1))
    pred[rng.random(shape) < 0.03] = classes[0]
    target[blocks(rng, shape, 4) == 0] = VOID
    radii = np.unique(rng.integers(1, 7, size=3))
    found = scores(pred, target, num_classes, radii, void_borders)
    for k in range(num_classes):
        for radius, f in zip(radii, found[:, k]):
            expected = brute_force_f(pred, target, k, radius, void_borders) if k in classes else None
            assert f == pytest.approx(math.nan if expected is None else expected, abs=1e-11, nan_ok=True)


def test_moved_edge():
    """A straight edge moved by 3 px is found from a tolerance of 3 px on."""
    target, pred = np.zeros((20, 40), np.uint8), np.zeros((20, 40), np.uint8)
    target[:, 20:], pred[:, 23:] = 1, 1
    assert scores(pred, target, 2, [1, 2, 3, 4]).tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]


def test_disk_is_euclidean():
    """A pixel's contour is the 2 x 2 block that ends in it; moved by (2, 2), a corner is sqrt(2) off, two sqrt(5)."""
    target, pred = np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8)
    target[5, 5], pred[7, 7] = 1, 1
    assert scores(pred, target, 2, [1, 2, 3])[:, 1].tolist() == [0, 0.25, 1]


def test_frame_is_no_contour():
    target = np.full((6, 6), 1)
    assert np.isnan(scores(target, target, 2, [1])).all()


def test_void_borders():
    """Void hides the border between 0 and 1; its own borders count as found, or not at all."""
    target, pred = np.zeros((9, 9), np.int64), np.zeros((9, 9), np.int64)
    target[:, 4], target[:, 5:] = VOID, 1
    pred[:, 7:] = 1
    assert np.isnan(scores(np.zeros_like(pred), np.where(target == 1, 0, target), 2, [1], void_borders=False)).all()
    assert scores(np.zeros_like(pred), np.where(target == 1, 0, target), 2, [1])[0, 0] == 1
    assert scores(pred, target, 2, [1], void_borders=False).tolist() == [[0, 0]]
    assert scores(target, target, 2, [1]).tolist() == [[1, 1]]
    assert np.isnan(scores(target, target, 2, [1], void_borders=False)).all()


def test_tolerances():
    assert tolerance_px(3, 1024, 2048) == 3
    assert tolerance_px(0.00088, 1024, 2048) == 3
    assert tolerance_px(0.00088, 480, 640) == 1
    assert tolerance_px(0.1, 3, 4) == 1
    for wrong in (0, -1, 1.5, "1", True, float("nan")):
        with pytest.raises(UserError, match="tolerance of the boundary F-score is"):
            check_tolerances([1, wrong])
    for wrong_ones in ([], [1, 2, 1]):
        with pytest.raises(UserError, match="expected different ones, at least one"):
            check_tolerances(wrong_ones)


def test_tolerance_larger_than_the_image():
    target = np.array([[0, 0, 1, 1, 0, 0]])
    pred = np.array([[1, 0, 0, 0, 0, 0]])
    assert scores(pred, target, 2, [50]).tolist() == [[1, 1]]
