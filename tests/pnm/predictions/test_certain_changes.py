"""Confidences against loops over pixels, and panoptic maps of which only sure changes are taken."""

import numpy as np
import pytest

from pnm.masks.crops import EMPTY, MaskCrop, crop_array
from pnm.predictions import Partition
from pnm.predictions.certain_changes import mask_confidence, segment_confidences, sure_changes

SIZE = 12, 17


def test_the_modules_example():
    before, after = np.array([[1, 1, 1, 2]]), np.array([[1, 3, 2, 2]])
    probs = np.array([[0, 0.8, 0.6, 0]], np.float32)
    assert segment_confidences(before, after, probs, [1, 2, 3, 9]) == pytest.approx({1: 0.7, 2: 0.6, 3: 0.8, 9: 1.0})


@pytest.mark.parametrize("seed", range(3))
def test_confidences_as_a_loop_over_pixels_has_them(seed):
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, 4, SIZE).astype(np.uint8), rng.integers(0, 4, SIZE)
    probs = rng.random(SIZE, np.float32)
    for label, found in segment_confidences(before, after, probs, [1, 2, 3]).items():
        own = [
            probs[y, x]
            for y in range(SIZE[0])
            for x in range(SIZE[1])
            if before[y, x] != after[y, x] and label in (before[y, x], after[y, x])
        ]
        assert found == pytest.approx(np.mean(own), abs=1e-6)
        one, other = crop_array(before == label), crop_array(after == label)
        assert mask_confidence(one, other, probs) == (pytest.approx(np.mean(own), abs=1e-6), len(own))


def test_masks_that_stay_that_vanish_and_that_are_empty():
    probs, crop = np.full(SIZE, 0.75, np.float32), MaskCrop(np.ones((3, 4), np.bool_), 2, 5)
    assert mask_confidence(crop, crop, probs) == (1.0, 0)
    assert mask_confidence(crop, EMPTY, probs) == (0.75, 12)
    assert mask_confidence(EMPTY, EMPTY, probs) == (1.0, 0)


COARSE = Partition(np.array([[5, 5, 5, 9, 9, 9, 0]]), (5, 9), (1, 2))
REFINED = Partition(np.array([[5, 5, 9, 9, 9, 9, 9]]), (5, 9), (1, 2))
PROBS = np.array([[0.9, 0.9, 0.7, 0.9, 0.9, 0.9, 0.8]], np.float32)


@pytest.mark.parametrize(
    ("least", "labels"),
    [(1.0, [5, 5, 5, 9, 9, 9, 0]), (0.75, [5, 5, 5, 9, 9, 9, 9]), (0.5, [5, 5, 9, 9, 9, 9, 9])],
)
def test_a_pixel_changes_where_its_new_label_is_probable_enough(least, labels):
    found = sure_changes(COARSE, REFINED, PROBS, least)
    assert found.refined.labels.tolist() == [labels]
    assert (found.refined.segments, found.refined.categories) == ((5, 9), (1, 2))
    kept = found.refined.labels == COARSE.labels
    assert found.probs[~kept].tolist() == PROBS[~kept].tolist()


def test_a_class_changes_as_a_whole_or_not_at_all():
    refined = Partition(np.array([[5, 5, 5, 10, 10, 10, 0]]), (5, 10), (1, 3))
    probs = np.array([[1, 1, 1, 0.9, 0.6, 0.9, 0]], np.float32)  # 0.8 on the average
    found = sure_changes(COARSE, refined, probs, 0.75).refined
    assert found.labels.tolist() == refined.labels.tolist() and found.categories == (1, 3)
    found = sure_changes(COARSE, refined, probs, 0.85).refined
    assert found.labels.tolist() == COARSE.labels.tolist() and found.categories == (1, 2)


def test_of_segments_that_are_gone_unsure_pixels_are_left():
    refined = Partition(np.array([[5, 5, 5, 5, 5, 5, 0]]), (5,), (1,))
    probs = np.array([[1, 1, 1, 0.9, 0.9, 0.6, 0]], np.float32)
    found = sure_changes(COARSE, refined, probs, 0.75)
    assert found.refined.labels.tolist() == [[5, 5, 5, 5, 5, 9, 0]] and found.refined.segments == (5, 9)
    assert found.probs[0, 5] == pytest.approx(0.4)
