"""Parts and holes that are kept: counted by OpenCV, and matched one by one."""

import cv2
import numpy as np
import pytest

from pnm.object_refinement.topology import with_kept_segments, with_kept_topology


def parts_and_holes(mask):
    """Numbers of parts of the foreground (8) and of the background (4), what lies outside being background."""
    framed = np.pad(mask, 1).astype(np.uint8)
    return (
        cv2.connectedComponents(framed, connectivity=8)[0] - 1,
        cv2.connectedComponents(1 - framed, connectivity=4)[0] - 1,
    )


def blobs(rng, shape, smooth):
    noise = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), smooth)
    return noise > np.quantile(noise, rng.uniform(0.3, 0.7))


@pytest.mark.parametrize("smooth", [0.6, 2, 5])
def test_random_masks_keep_their_parts_and_holes(smooth):
    rng = np.random.default_rng(int(smooth * 10))
    for _ in range(40):
        shape = rng.integers(1, 40, 2)
        coarse = blobs(rng, shape, smooth)
        refined = coarse ^ (blobs(rng, shape, smooth) & blobs(rng, shape, smooth))
        kept = with_kept_topology(coarse, refined)
        assert parts_and_holes(kept) == parts_and_holes(coarse)
        assert not (kept != coarse)[coarse == refined].any()  # nothing that wasn't asked for
        assert np.array_equal(with_kept_topology(coarse, coarse), coarse)


def test_a_boundary_that_moves_is_what_was_asked_for():
    y, x = np.mgrid[:60, :70]
    disc = (y - 30) ** 2 + (x - 33) ** 2
    for one, other in ((400, 600), (600, 400)):
        assert np.array_equal(with_kept_topology(disc < one, disc < other), disc < other)
        ring, wider = (disc < 800) & (disc > one // 4), (disc < 700) & (disc > other // 4)
        assert np.array_equal(with_kept_topology(ring, wider), wider)


def test_a_bar_is_not_cut_and_keeps_its_width():
    coarse = np.zeros((30, 60), bool)
    coarse[12:17, 5:55] = True
    refined = coarse.copy()
    refined[:, 25:32] = False  # cut
    refined[11, 5:15] = True  # and moved elsewhere
    kept = with_kept_topology(coarse, refined)
    assert kept[12:17, 25:32].sum() >= 0.8 * 5 * 7 and kept[11, 5:14].all()


def test_holes_and_specks():
    coarse = np.zeros((40, 40), bool)
    coarse[5:35, 5:35] = True
    coarse[15:20, 15:20] = False
    coarse[1:3, 37:39] = True
    refined = np.zeros((40, 40), bool)
    refined[5:35, 5:35] = True  # the hole filled, the speck gone
    refined[25:28, 25:28] = False  # a hole opened
    assert np.array_equal(with_kept_topology(coarse, refined), coarse)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_small_and_full_masks(shape):
    full, empty = np.ones(shape, bool), np.zeros(shape, bool)
    assert with_kept_topology(full, empty).any() and not with_kept_topology(empty, full).any()


def test_segments_keep_their_parts_and_stay_a_partition():
    rng = np.random.default_rng(0)
    for _ in range(8):
        coarse, moved = (
            np.argmax([cv2.GaussianBlur(rng.standard_normal((30, 40)), (0, 0), 4) for _ in range(4)], axis=0)
            for _ in range(2)
        )
        moved = np.where(rng.random((30, 40)) < 0.7, coarse, moved)
        kept = with_kept_segments(coarse, moved)
        assert ((kept == coarse) | (kept == moved)).all()
        for label in range(4):
            assert parts_and_holes(kept == label) == parts_and_holes(coarse == label)
