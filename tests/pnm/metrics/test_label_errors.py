"""Errors of semantic maps against plain loops, and connected regions against scipy."""

import numpy as np
import pytest
from scipy import ndimage

from pnm.metrics.connected_regions import connected_regions
from pnm.metrics.error_counts import FALSE, MISSED, PIXELS, SIZE_EDGES_PX, bands, no_errors, size_band
from pnm.metrics.exact_sums import pair_labels
from pnm.metrics.label_errors import DOUBTFUL_PX, label_errors, shared_doubt, truth_measures
from tests.error_oracles import boundary, distance, distance_band, weight_band

CLASSES, IGNORED = 3, 255


def blocks(rng, shape, classes, most=6):
    """A map of rectangles."""
    labels = np.zeros(shape, np.uint8)
    for _ in range(most):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        labels[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = rng.integers(0, classes)
    return labels


def example(seed, shape=(22, 27)):
    rng = np.random.default_rng(seed)
    truth = blocks(rng, shape, CLASSES)
    pred = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
    pred[rng.random(shape) < 0.02] = 7  # no class
    pred[:4, :5] = rng.integers(0, CLASSES)
    truth[rng.random(shape) < 0.05] = IGNORED
    return truth, pred


def errors_of(pair, d):
    return label_errors(pair, d, truth_measures(pair.truth, pair.num_classes))


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_loops(seed):
    truth, pred = example(seed)
    d, pair = 2, pair_labels(pred, truth, CLASSES, IGNORED)
    errors = errors_of(pair, d)
    wanted = no_errors(CLASSES, 2)
    doubt = 0
    for y, x in np.argwhere(truth != IGNORED):
        t, p = truth[y, x], pred[y, x]
        far, b, w = distance(truth, y, x), distance_band(truth, y, x), weight_band(truth, y, x, IGNORED)
        wrong = t != p
        wanted.distances[PIXELS, t, b] += 1
        wanted.weights[:, w] += np.array([1, wrong])
        wanted.near[int(far > d)] += np.array([1, wrong])
        wanted.confusion[t, min(p, CLASSES)] += 1
        doubt += wrong and far > DOUBTFUL_PX
        if wrong:
            wanted.ways[int(p >= CLASSES), b] += 1
            wanted.distances[MISSED, t, b] += 1
            if p < CLASSES:
                wanted.distances[FALSE, p, b] += 1
    for label in range(CLASSES):
        regions, number = ndimage.label(truth == label)
        for n in range(1, number + 1):
            area, wrongs = (regions == n).sum(), (truth != pred)[regions == n].sum()
            size = sum(area >= edge for edge in SIZE_EDGES_PX)
            wanted.sizes[:, size] += np.array([1, 2 * wrongs < area, area, wrongs])
    for name, got, expected in zip(wanted._fields, errors.counts, wanted):
        np.testing.assert_array_equal(got, expected, name)
    assert errors.doubt == doubt
    assert errors.counts.ways.sum() == (truth != pred)[truth != IGNORED].sum() == errors.counts.weights[1].sum()


def test_boundary_iou_is_that_of_loops():
    truth, pred = example(5)
    pred = np.where(truth == IGNORED, IGNORED, pred)
    errors = errors_of(pair_labels(pred, truth, CLASSES, IGNORED), 2)
    sides = [[boundary(side == k, 2) for side in (truth, pred)] for k in range(CLASSES)]
    assert errors.shared_boundary == sum((a & b).sum() for a, b in sides)
    assert errors.all_boundary == sum((a | b).sum() for a, b in sides)


def test_right_ignored_and_empty_maps():
    truth, _ = example(1)
    right = errors_of(pair_labels(np.where(truth == IGNORED, 0, truth), truth, CLASSES, IGNORED), 1)
    assert right.counts.ways.sum() == 0 and right.boundary_iou == 1 and right.doubt == 0
    ignored = np.full((5, 6), IGNORED, np.uint8)
    nothing = errors_of(pair_labels(np.zeros_like(ignored), ignored, CLASSES, IGNORED), 1)
    assert all(array.sum() == 0 for array in nothing.counts) and np.isnan(nothing.boundary_iou)
    one = errors_of(pair_labels(np.ones((1, 1), np.uint8), np.zeros((1, 1), np.uint8), 2, None), 1)
    assert one.counts.ways.sum() == 1 and one.counts.distances[PIXELS].sum() == 1
    alone = errors_of(pair_labels(np.ones((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 2, None), 1)
    assert alone.counts.ways[0, -1] == 81  # without another label, all is interior


def test_a_wide_label_map():
    labels = np.array([[0, 299, 299, 0]], np.uint16)
    errors = errors_of(pair_labels(labels[:, ::-1].copy() * 0, labels, 300, None), 1)
    assert errors.counts.confusion[299, 0] == 2 and errors.counts.confusion.shape == (301, 301)


def test_doubt_where_both_agree():
    truth = np.zeros((1, 30), np.uint8)
    truth[:, 20:] = 1
    a, b = truth.copy(), truth.copy()
    a[:, :5], b[:, 3:8], b[:, 24:] = 2, 2, 2
    pairs = [pair_labels(side, truth, 3, None) for side in (a, b)]
    assert shared_doubt(*pairs, truth_measures(truth, None)) == 2  # columns 3 and 4
    assert shared_doubt(pairs[0], pair_labels(truth, truth, 3, None), truth_measures(truth, None)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_connected_regions(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (13, 17)).astype(np.int64) if seed % 2 else blocks(rng, (13, 17), 4).astype(np.int64)
    regions = connected_regions(labels)
    wanted, offset = np.zeros(labels.shape, np.int64), 0
    for label in np.unique(labels):
        part, number = ndimage.label(labels == label)
        wanted[part > 0] = part[part > 0] + offset
        offset += number
    assert regions.max() + 1 == offset and len(np.unique(regions)) == offset
    assert len(np.unique(np.stack([regions.ravel(), wanted.ravel()]), axis=1).T) == offset
    firsts = [np.flatnonzero(regions == k)[0] for k in range(offset)]
    assert firsts == sorted(firsts)


def test_bands_and_sizes():
    values = np.array([[0, 1, 1.5], [2, 32, np.inf]], np.float32)
    assert bands(values, (1, 2, 32)).tolist() == [[0, 0, 1], [1, 2, 3]]
    assert bands(np.zeros((0, 3), np.float32), (1,)).shape == (0, 3)
    assert size_band(np.array([1, 1023, 1024, 9216])).tolist() == [0, 0, 1, 2]
