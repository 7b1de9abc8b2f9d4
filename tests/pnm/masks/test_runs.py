"""Masks read from RLE, polygons and arrays against pycocotools; Boundary IoU against its definition."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_erosion

from pnm.errors import UserError
from pnm.masks.runs import MaskRuns, array_counts, decode_masks, rle_text
from pnm.metrics.boundary_mask_iou import boundary_iou, erode
from pnm.metrics.instance_matching import box_ious, mask_ious, pair_up


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def uncompressed(mask):
    flat = np.concatenate([[0], np.asarray(mask, dtype=np.int8).ravel("F")])
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def drawn(masks: MaskRuns, n: int) -> np.ndarray:
    flat = np.zeros(masks.height * masks.width, bool)
    for r in range(masks.offsets[n], masks.offsets[n + 1]):
        assert masks.starts[r] < masks.ends[r]
        flat[masks.starts[r] : masks.ends[r]] = True
    return flat.reshape((masks.height, masks.width), order="F")


def some_masks():
    """Noise, blobs, stripes, the frame, one pixel, nothing and everything, in a few sizes."""
    rng = np.random.default_rng(7)
    for height, width in ((1, 1), (1, 9), (13, 1), (17, 23), (48, 64)):
        masks = [rng.random((height, width)) < p for p in (0.0, 0.03, 0.5, 0.97, 1.0)]
        frame = np.ones((height, width), bool)
        frame[1:-1, 1:-1] = False
        one = np.zeros((height, width), bool)
        one[height // 2, width // 2] = True
        blob = np.zeros((height, width), np.uint8)
        cv2.ellipse(blob, (width // 2, height // 3), (width // 3, height // 3), 30, 0, 360, 1, -1)
        stripes = np.broadcast_to(np.arange(width) % 5 < 4, (height, width)).copy()
        yield from [*masks, frame, one, blob.astype(bool), stripes, stripes & (np.arange(height)[:, None] % 7 < 6)]


@pytest.mark.parametrize("mask", [*some_masks()])
def test_every_form_gives_the_same_runs(mask):
    text = rle(mask)
    forms = [text, text | {"counts": text["counts"].decode()}, uncompressed(mask), mask, mask.astype(np.int64) * 7]
    masks = decode_masks(forms, *mask.shape)
    box = coco_mask.toBbox(text)
    for n in range(len(forms)):
        np.testing.assert_array_equal(drawn(masks, n), mask)
        assert masks.areas[n] == mask.sum()
        top, left, bottom, right = masks.boxes_yxyx[n]
        assert [left, top, right - left, bottom - top] == (box.tolist() if mask.any() else [0] * 4)


@pytest.mark.parametrize("mask", [*some_masks()])
def test_runs_are_written_as_pycocotools_writes_them(mask):
    assert rle_text(array_counts(mask)) == rle(mask)["counts"]
    assert array_counts(mask.astype(np.uint8)).tolist() == uncompressed(mask)["counts"]


@given(st.lists(st.integers(0, 2**24), max_size=20))
def test_any_run_lengths_are_written_as_pycocotools_writes_them(counts):
    size = [sum(counts), 1]
    assert (
        rle_text(np.array(counts, np.int64)) == coco_mask.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
    )


def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = [[10.2, 3, 50.7, 12.5, 40, 40.1, 5, 30], [55, 1, 63.9, 1, 60, 20, 56.5, 33]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 48, 64)))
    masks = decode_masks([polygons, polygons[1:]], 48, 64)
    np.testing.assert_array_equal(drawn(masks, 0), expected)
    np.testing.assert_array_equal(
        drawn(masks, 1), coco_mask.decode(coco_mask.frPyObjects(polygons[1:], 48, 64))[..., 0]
    )


def test_runs_of_no_length_are_no_runs():
    counts = [3, 2, 0, 0, 0, 4, 1, 0, 5]  # foreground 3..9, with empty runs in its midst
    masks = decode_masks([{"size": [3, 5], "counts": counts}], 3, 5)
    assert masks.starts[: masks.offsets[1]].tolist() == [3] and masks.ends[: masks.offsets[1]].tolist() == [9]


def test_no_masks_at_all():
    assert decode_masks([], 4, 5).offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ("", "less than"),
        ("5", "less than"),
        ("P", "in the midst"),
        ("oooo", "in the midst"),
        ("5!", "a character"),
        ("5\x00", "a character"),
        ("5é", "a character"),
        ("5\ud800", "a character"),
        ("5~", "a character"),
        ("O", "negative"),
        ("00O", "negative"),
        ("n1", "more than"),
        ("P" * 40, "a character"),
        ("oooooooooooO", "negative"),
        ("oooooooooooo?", "a character"),
        ("ooooooooooo0", "more than"),
        (b"\xff\xff", "a character"),
        ([5, 7], "add up to"),
        ([-1, 21], "add up to"),
        ([2.5, 17.5], "add up to"),
        ([[20]], "add up to"),
        (["20"], "add up to"),
        (None, "add up to"),
        (20, "add up to"),
    ],
)
def test_damaged_rle(counts, reason):
    good = rle(np.ones((4, 5)))
    with pytest.raises(UserError, match=f"third thing.*{reason}"):
        decode_masks(
            [good, good, {"size": [4, 5], "counts": counts}], 4, 5, ["first", "second", "third thing"].__getitem__
        )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=30) | st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=30))
def test_no_rle_does_harm(counts):
    try:
        masks = decode_masks([{"size": [6, 7], "counts": counts}], 6, 7)
    except UserError:
        return
    assert drawn(masks, 0).sum() == masks.areas[0]
    np.testing.assert_array_equal(drawn(masks, 0), coco_mask.decode({"size": [6, 7], "counts": counts}))


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [5, 4], "counts": "d0"}, "has size .5, 4., the image is 4 x 5"),
        ({"size": 20, "counts": "d0"}, "has size 20"),
        ({"counts": "d0"}, "has size None"),
        (np.ones((5, 4), bool), "mask is .5, 4."),
        (np.ones(20, bool), "mask is .20,."),
        ([], "expected an RLE or a list of polygons"),
        ("d0", "expected an RLE or a list of polygons"),
        (None, "expected an RLE or a list of polygons"),
        ([[0, 0, 1, 1]], "at least three points"),
        ([[0, 0, 1, 1, 2, 2, 3]], "at least three points"),
        ([7], "at least three points"),
        ([[0, 0, 3, 0, 3, float("nan")]], "no numbers or lie far outside"),
        ([[0, 0, 3, 0, 3, float("inf")]], "no numbers or lie far outside"),
        ([[0, 0, 3, 0, 3, 1e9]], "no numbers or lie far outside"),
        ([[0, 0, 3, 0, 3, 10**400]], "no numbers or lie far outside"),
        ([[0, 0, 3, 0, 3, "1"]], "no numbers or lie far outside"),
        ([[0, 0, 3, 0, 3, [1]]], "no numbers or lie far outside"),
        ([[0, 0, 3, 0, 3, None]], "no numbers or lie far outside"),
    ],
)
def test_segmentation_of_no_use(segmentation, reason):
    with pytest.raises(UserError, match=f"mask 0.*{reason}"):
        decode_masks([segmentation], 4, 5)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5), (1 << 20, 1 << 20)])
def test_image_of_no_size(size):
    with pytest.raises(UserError, match="expected height and width of 1 to"):
        decode_masks([], *size)


def eroded(mask, d):
    return binary_erosion(mask, np.ones((2 * d + 1, 2 * d + 1), bool), border_value=0)


@pytest.mark.parametrize("d", [1, 2, 3, 6, 40])
def test_erosion_equals_its_definition(d):
    for mask in some_masks():
        masks = decode_masks([mask, mask], *mask.shape)
        inside = erode(masks, np.array([False, True]), d)
        np.testing.assert_array_equal(drawn(inside, 1), eroded(mask, d))
        assert inside.areas.tolist() == [0, eroded(mask, d).sum()]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))
def test_erosion_of_holes(seed, d, height, width):
    rng = np.random.default_rng(seed)
    mask = np.ones((height, width), bool)
    for _ in range(rng.integers(0, 8)):
        mask[rng.integers(height), rng.integers(width)] = False
    masks = decode_masks([mask], height, width)
    np.testing.assert_array_equal(drawn(erode(masks, np.ones(1, bool), d), 0), eroded(mask, d))


@pytest.mark.parametrize("d", [1, 3, 9])
def test_boundary_iou_equals_its_definition(d):
    rng = np.random.default_rng(d)
    masks = [np.zeros((60, 80), np.uint8) for _ in range(12)]
    for mask in masks[:10]:
        cv2.ellipse(mask, (40 + int(rng.integers(-45, 45)), 30), (25, 20), float(rng.integers(180)), 0, 360, 1, -1)
    masks[10][59, 79] = 1
    runs = decode_masks(masks, 60, 80)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            rims = [(m > 0) & ~eroded(m > 0, d) for m in (a, b)]
            union = (rims[0] | rims[1]).sum()
            ours = boundary_iou(runs, i, runs, j, d)
            assert np.isnan(ours) if union == 0 else ours == (rims[0] & rims[1]).sum() / union


def test_overlaps_equal_pycocotools():
    rng = np.random.default_rng(3)
    masks = [rng.random((20, 30)) < p for p in (0.0, 0.2, 0.5, 0.9, 1.0, 0.001, 0.5)]
    rles, crowd = [rle(m) for m in masks], np.arange(len(masks)) % 3 == 1
    runs, pairs = decode_masks(rles, 20, 30), pair_up(np.zeros(len(masks)), np.zeros(len(masks)))
    expected = coco_mask.iou(rles, rles, crowd.astype(int))
    np.testing.assert_array_equal(mask_ious(runs, runs, pairs, crowd, 0.0).reshape(expected.shape), expected)
    at_least_half = mask_ious(runs, runs, pairs, crowd, 0.5).reshape(expected.shape)
    np.testing.assert_array_equal(
        np.where(at_least_half >= 0.5, at_least_half, 0), np.where(expected >= 0.5, expected, 0)
    )
    boxes = np.concatenate([rng.random((6, 4)) * 20, [[5, 5, 0, 0]]])
    expected = coco_mask.iou(boxes, boxes, crowd.astype(int))
    np.testing.assert_array_equal(box_ious(boxes, boxes, pairs, crowd).reshape(expected.shape), expected)
