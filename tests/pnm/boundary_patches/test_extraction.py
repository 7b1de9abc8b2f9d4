"""Boundary patches against greedy suppression that compares all pairs of boxes, and torchvision's."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve
from torchvision.ops import nms

from pnm.boundary_patches.extraction import boundary_patches, cut_patches, find_patches, suppression_reach
from pnm.errors import UserError
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import MaskCrop, crop_array, crop_rle, crop_runs, crop_segments, paste
from pnm.masks.runs import decode_masks


def boundary_scores(mask):
    """{(y, x): score} pixel by pixel, in reading order."""
    height, width = mask.shape
    found = {}
    for y in range(height):
        for x in range(width):
            s = sum(
                bool(mask[v, u])
                for v in range(max(0, y - 1), min(height, y + 2))
                for u in range(max(0, x - 1), min(width, x + 2))
            )
            if 0 < s < 9:
                found[y, x] = min(s, 9 - s) / 4.5
    return found


def iou(a, b, size):
    shared = max(0, size - abs(a[0] - b[0])) * max(0, size - abs(a[1] - b[1]))
    return shared / (2 * size * size - shared)


def move(center, size, shape):
    return tuple(max(0, min(c - size // 2, n - size)) for c, n in zip(center, shape))


def brute_force(mask, size, threshold):
    """Greedy suppression over all pairs, boxes moved inside, then one for each boundary pixel left bare."""
    scores = boundary_scores(mask)
    kept = []
    order = sorted(scores, key=lambda p: (-scores[p], p))
    for p in order:
        if all(iou(p, q, size) <= threshold for q in kept):
            kept.append(p)
    corners = [move(p, size, mask.shape) for p in kept]
    for p in order:
        if not any(y <= p[0] < y + size and x <= p[1] < x + size for y, x in corners):
            corners.append(move(p, size, mask.shape))
    return list(dict.fromkeys(corners))


def random_mask(rng, shape):
    mask = rng.random(shape) < rng.choice([0.02, 0.5, 0.98])
    for _ in range(rng.integers(0, 3)):
        y, x, h, w = rng.integers(0, (*shape, *shape), size=4)
        mask[y : y + h + 1, x : x + w + 1] ^= True
    return mask


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.integers(2, 17),
    st.sampled_from([0, 0.1, 0.15, 0.25, 0.3, 1 / 3, 0.4, 0.55, 0.9]),
)
def test_equals_greedy_suppression_of_all_pairs(seed, shape, size, threshold):
    mask = random_mask(np.random.default_rng(seed), shape)
    found = boundary_patches(mask, size, threshold)
    assert [tuple(c) for c in found.tolist()] == brute_force(mask, size, threshold)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([0, 0.15, 0.25, 0.55]))
def test_every_boundary_pixel_is_covered(seed, size, threshold):
    rng = np.random.default_rng(seed)
    mask = random_mask(rng, tuple(rng.integers(1, 90, size=2)))
    covered = np.zeros(mask.shape, bool)
    for y, x in boundary_patches(mask, size, threshold):
        assert 0 <= y <= max(0, mask.shape[0] - size) and 0 <= x <= max(0, mask.shape[1] - size)
        covered[y : y + size, x : x + size] = True
    assert all(covered[p] for p in boundary_scores(mask))


@pytest.mark.parametrize("threshold", [0.25, 0.55])
def test_equals_torchvision_on_real_masks(real_data, threshold):
    """Distinct scores in place of the four: falling with the rank that ties are broken by."""
    labels = read_label_png(next((real_data / "cityscapes").rglob("*_instanceIds.png")))
    checked = 0
    for segment, crop in zip(ids := np.unique(labels[labels >= 1000]), crop_segments(labels, ids.tolist())):
        mask = labels == segment
        s = convolve(mask.astype(np.int64), np.ones((3, 3), np.int64), mode="constant")
        level = np.minimum(s, 9 - s)
        y, x = np.nonzero(level)
        order = np.argsort(-level[y, x], kind="stable")
        y, x = y[order], x[order]
        boxes = torch.from_numpy(np.stack([x - 32, y - 32, x + 32, y + 32], 1)).double()
        kept = nms(boxes, torch.arange(len(boxes), 0, -1).double(), threshold).numpy()
        corners = [move(p, 64, mask.shape) for p in zip(y[kept].tolist(), x[kept].tolist())]
        found = [tuple(c) for c in find_patches(crop, *mask.shape, 64, threshold).tolist()]
        expected = list(dict.fromkeys(corners))
        assert found[: len(expected)] == expected
        assert len(found) == len(expected) or threshold < 1 / 3
        checked += 1
    assert checked > 5


def test_one_pixel_and_small_images():
    assert boundary_patches(np.ones((1, 1), bool)).tolist() == [[0, 0]]
    assert boundary_patches(np.zeros((5, 5), bool)).tolist() == []
    alone = np.zeros((200, 300), bool)
    alone[199, 299] = True
    assert boundary_patches(alone, 64, 0.25).tolist() == [[136, 236]]
    assert boundary_patches(np.ones((10, 300), np.uint8), 64, 0.25)[:, 0].tolist().count(0) > 3


def test_mask_that_fills_the_image_has_its_frame_as_boundary():
    corners = boundary_patches(np.ones((100, 100), bool), 20, 0.55)
    assert corners.min() == 0 and corners.max() == 80


@pytest.mark.parametrize("threshold", [0, 0.15, 0.25, 1 / 3, 0.55])
def test_reach_is_where_the_iou_exceeds_the_threshold(threshold):
    reach = suppression_reach(12, threshold)
    for dy in range(12):
        for dx in range(13):
            assert (dx <= reach[dy]) == (iou((0, 0), (dy, dx), 12) > threshold)


def test_more_boxes_than_memory_was_asked_for(monkeypatch):
    mask = np.random.default_rng(3).random((40, 50)) < 0.5
    wanted = boundary_patches(mask, 2, 0.9)
    monkeypatch.setattr("pnm.boundary_patches.extraction._ROOM", 7)
    assert len(wanted) > 7 and np.array_equal(boundary_patches(mask, 2, 0.9), wanted)


def test_kernels_take_views_and_other_orders():
    whole = np.zeros((30, 40), np.bool_)
    whole[4:20, 7:33] = True
    view, turned = MaskCrop(whole[2:25, 3:36], 2, 3), MaskCrop(np.asfortranarray(whole), 0, 0)
    corners = find_patches(MaskCrop(whole, 0, 0), 30, 40, 8, 0.25)
    for crop in (view, turned):
        assert np.array_equal(find_patches(crop, 30, 40, 8, 0.25), corners)
        for order in (corners, np.asfortranarray(corners)):
            assert np.array_equal(cut_patches(crop, order, 8), cut_patches(MaskCrop(whole, 0, 0), corners, 8))


def test_same_result_wherever_the_crop_ends():
    rng = np.random.default_rng(1)
    mask = np.zeros((90, 120), bool)
    mask[20:70, 30:100] = rng.random((50, 70)) < 0.5
    whole = find_patches(MaskCrop(mask, 0, 0), 90, 120, 16, 0.25)
    assert np.array_equal(whole, find_patches(crop_array(mask), 90, 120, 16, 0.25))


@pytest.mark.parametrize("pad", [0, 3])
def test_cut_patches(pad):
    mask = random_mask(np.random.default_rng(5), (40, 50))
    corners = boundary_patches(mask, 16, 0.25)
    patches = cut_patches(crop_array(mask), corners, 16, pad)
    framed = np.pad(mask, 16 + pad)
    for (y, x), patch in zip(corners, patches, strict=True):
        assert np.array_equal(patch, framed[y + 16 : y + 32 + 2 * pad, x + 16 : x + 32 + 2 * pad])


def test_cut_patches_of_an_image_smaller_than_a_patch():
    patches = cut_patches(crop_array(np.ones((3, 5), bool)), np.zeros((1, 2), np.int32), 8)
    assert patches.sum() == 15 and patches[0, :3, :5].all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_crops_hold_the_mask(seed, shape):
    mask = random_mask(np.random.default_rng(seed), shape)
    crop = crop_array(mask)
    rle = crop_rle(crop, *shape)
    assert np.array_equal(paste(crop, *shape), mask)
    runs = decode_masks([rle, mask.astype(np.uint8)], *shape)
    for n in range(2):
        assert np.array_equal(paste(crop_runs(runs, n), *shape), mask)
    assert json.dumps(rle)


def test_crops_of_segments():
    labels = np.random.default_rng(3).choice([0, 7, 300, 70000], (20, 30)).astype(np.int32)
    labels[labels == 7] = 0
    labels[4, 5] = 7
    for segment, crop in zip((300, 7, 12, 0), crop_segments(labels, (300, 7, 12, 0))):
        assert np.array_equal(paste(crop, 20, 30), labels == segment)
    assert crop_segments(labels, (7,))[0].pixels.shape == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 3, 1), bool),), r"a mask is \(3, 3, 1\) bool, expected an \(H, W\) array"),
        ((np.zeros((3, 3)),), "a mask is .* float64, expected"),
        (([[1]],), "a mask is list, expected"),
        ((np.zeros((3, 3), bool), 1), "patch size is 1, expected"),
        ((np.zeros((3, 3), bool), 64, 1.0), "NMS threshold is 1.0, expected"),
        ((np.zeros((3, 3), bool), 64, float("nan")), "NMS threshold is nan, expected"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        boundary_patches(*arguments)
