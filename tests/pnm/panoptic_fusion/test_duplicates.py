"""Groups of duplicates against a loop over all pairs, and case by case."""

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.masks.crops import EMPTY, MaskCrop, crop_array
from pnm.panoptic_fusion.duplicates import without_duplicates


def segment(left, right):
    return MaskCrop(np.ones((1, right - left), bool), 0, left)


def kept(*arguments, **options):
    rows, scores = without_duplicates(*arguments, **options)
    assert rows.dtype == np.int64 and scores.dtype == np.float64
    return rows.tolist(), scores.tolist()


def by_all_pairs(masks, classes, mask_scores, silhouette_scores, min_iou):
    groups = []
    for row in sorted(range(len(masks)), key=lambda row: (-mask_scores[row], row)):
        for group in groups:
            head = group[0]
            either = (masks[row] | masks[head]).sum()
            iou = (masks[row] & masks[head]).sum() / either if either else 0
            if classes[row] == classes[head] and iou > min_iou:
                group.append(row)
                break
        else:
            groups.append([row])
    best = [sorted(group, key=lambda row: -silhouette_scores[row])[0] for group in groups]
    return best, [mask_scores[group[0]] for group in groups]


@pytest.mark.parametrize("min_iou", [0.0, 0.3, 0.5, 1.0])
def test_against_all_pairs(min_iou):
    fewer = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 15))
        masks = np.zeros((count, 12, 13), bool)
        for mask in masks:
            (top, left), (height, width) = rng.integers(0, 4, 2), rng.choice([0, 4, 6, 7, 8], 2)
            mask[top : top + height, left : left + width] = rng.random() < 0.9
            mask &= rng.random(mask.shape) < 0.95
        classes = rng.integers(0, 2, count)
        scores, silhouettes = rng.integers(1, 9, (2, count)) / 8
        crops = [MaskCrop(mask, 0, 0) if rng.random() < 0.3 else crop_array(mask) for mask in masks]
        wanted = by_all_pairs(masks, classes, scores, silhouettes, min_iou)
        assert kept(crops, classes, scores, silhouettes, min_iou) == wanted
        fewer += count - len(wanted[0])
    assert fewer > 20 or min_iou == 1


def test_the_better_silhouette_stands_in_the_heads_place():
    crops = [segment(0, 10), segment(20, 30), segment(0, 9)]
    assert kept(crops, [1, 1, 1], [0.9, 0.8, 0.7], [0.2, 0.5, 0.3]) == ([2, 1], [0.9, 0.8])
    assert kept(crops, [1, 1, 1], [0.9, 0.8, 0.7], [0.3, 0.5, 0.3]) == ([0, 1], [0.9, 0.8])  # a tie: the head
    three = [segment(0, 10), segment(0, 9), segment(0, 8)]
    assert kept(three, [1, 1, 1], [0.9, 0.8, 0.7], [0.3, 0.5, 0.5]) == ([1], [0.9])  # a tie: the earlier


def test_another_class_or_an_overlap_of_half_is_no_duplicate():
    crops = [segment(0, 10), segment(0, 10)]
    assert kept(crops, [1, 2], [0.9, 0.8], [0.1, 0.9]) == ([0, 1], [0.9, 0.8])
    assert kept([segment(0, 10), segment(0, 5)], [1, 1], [0.9, 0.8], [0.1, 0.9]) == ([0, 1], [0.9, 0.8])
    assert kept([segment(0, 10), segment(0, 6)], [1, 1], [0.9, 0.8], [0.1, 0.9]) == ([1], [0.9])


def test_a_chain_is_compared_with_heads_only():
    a, b, c = segment(0, 10), segment(2, 12), segment(4, 14)  # IoU of neighbours 8 / 12, of a and c 6 / 14
    assert kept([a, b, c], [1] * 3, [0.9, 0.8, 0.7], [0.1, 0.5, 0.9]) == ([1, 2], [0.9, 0.7])  # c is no member's
    assert kept([a, b, c], [1] * 3, [0.7, 0.9, 0.8], [0.1, 0.5, 0.9]) == ([2], [0.9])  # b is the head of both


def test_of_two_heads_the_first_takes_it():
    a, c, b = segment(0, 10), segment(4, 14), segment(2, 12)
    assert kept([a, c, b], [1] * 3, [0.9, 0.8, 0.7], [0.1, 0.1, 0.9]) == ([2, 1], [0.9, 0.8])
    assert kept([a, c, b], [1] * 3, [0.8, 0.9, 0.7], [0.1, 0.1, 0.9]) == ([2, 0], [0.9, 0.8])


def test_empty_masks_and_none():
    assert kept([EMPTY, EMPTY], [1, 1], [0.5, 0.5], [0, 1]) == ([0, 1], [0.5, 0.5])
    assert kept([], [], [], []) == ([], [])


def test_errors():
    with pytest.raises(UserError, match=r"expected \(1,\) each"):
        without_duplicates([EMPTY], [1, 2], [0.5], [0.5])
    with pytest.raises(UserError, match="min_iou is 2, expected 0 to 1"):
        without_duplicates([EMPTY], [1], [0.5], [0.5], min_iou=2)
