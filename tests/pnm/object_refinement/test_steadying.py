"""A synthetic moving scene: a textured disc moves, then stands still, and its coarse mask flickers."""

import cv2
import numpy as np
import pytest

from pnm.object_refinement.refiner import Refiner
from pnm.object_refinement.steadying import SteadyRefiner, still_pixels

SHAPE, MOVING, STANDING = (120, 140), 6, 14


def edge_guess(seen):
    """What an imperfect network says: the image's edge and the coarse mask's, weighed against each other."""
    grey = cv2.GaussianBlur(seen.colors[..., 1].astype(np.float32), (0, 0), 1) / 40 - 3.2
    coarse = cv2.GaussianBlur(seen.coarse.astype(np.float32), (0, 0), 2) * 8 - 4
    return np.stack([(0.5 * grey + 0.8 * coarse)[::2, ::2]] * 2)


def scene(seed=0):
    """(frame, true mask, coarse mask) of each frame; frames are noisy by 3 grey levels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    texture = cv2.GaussianBlur(rng.standard_normal((*SHAPE, 3)), (0, 0), 2).astype(np.float32) * 60
    for n in range(MOVING + STANDING):
        left = 40 + 5 * min(n, MOVING)
        truth = (y - 60) ** 2 + (x - left) ** 2 < 30**2
        moved = np.roll(texture, left, 1)
        frame = np.where(truth[..., None], 170 + moved, 80 + texture) + rng.normal(0, 3, (*SHAPE, 3))
        wobble = cv2.GaussianBlur(rng.standard_normal(SHAPE), (0, 0), 4) * 40
        distance = np.hypot(y - 60, x - left)
        yield np.clip(frame, 0, 255).astype(np.uint8), truth, distance + wobble < 30


def flicker_and_error(masks, truths):
    """Changes of a pixel from frame to frame while all stands still, and wrong pixels, per frame and true boundary
    pixel."""
    boundary = np.count_nonzero(
        cv2.morphologyEx(truths[-1].astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    )
    still = masks[MOVING + 1 :]
    flicker = np.mean([np.count_nonzero(one != other) for one, other in zip(still, still[1:])]) / boundary
    return flicker, np.mean([np.count_nonzero(mask != truth) for mask, truth in zip(masks, truths)]) / boundary


def test_flicker_falls_and_the_boundary_does_not_get_worse():
    frames, truths, coarse = zip(*scene())
    refiner = Refiner.with_prediction(edge_guess, strength=0.9)
    steady = SteadyRefiner(refiner)
    alone = [refiner(frame, mask) for frame, mask in zip(frames, coarse)]
    steadied = [steady.refine(frame, mask) for frame, mask in zip(frames, coarse)]
    assert np.array_equal(alone[0], steadied[0])
    results = [flicker_and_error(masks, truths) for masks in (coarse, alone, steadied)]
    assert results[2][0] < 0.5 * results[1][0] and results[2][1] < results[1][1]
    lag = [np.count_nonzero(one != truth) for one, truth in zip(steadied[:MOVING], truths)]
    own = [np.count_nonzero(one != truth) for one, truth in zip(alone[:MOVING], truths)]
    assert np.mean(lag) <= 1.2 * np.mean(own)  # what moves is not held back


def test_noise_stands_still_and_movement_does_not():
    rng = np.random.default_rng(0)
    frame = np.full((*SHAPE, 3), 100, np.uint8)
    noisy = np.clip(frame + rng.normal(0, 5, frame.shape), 0, 255).astype(np.uint8)
    assert still_pixels(frame, noisy).mean() > 0.95
    moved = frame.copy()
    moved[40:60, 40:60] = 180
    still = still_pixels(frame, moved)
    assert not still[38:62, 38:62].any() and still[:30].all()


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_stay(value):
    steady = SteadyRefiner(Refiner.with_prediction(edge_guess))
    frame = np.zeros((*SHAPE, 3), np.uint8)
    for _ in range(3):
        assert np.array_equal(steady.refine(frame, np.full(SHAPE, value)), np.full(SHAPE, value))
