"""Fields of instances against a loop over masks, and maps of any ids."""

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.panoptic_grouping.encoding import instance_fields
from pnm.panoptic_grouping.panoptic_map import numbered


def by_masks(numbers, count, sigma):
    height, width = numbers.shape
    heat, offsets, boxes = np.zeros((height, width)), np.zeros((2, height, width)), np.zeros((4, height, width))
    grid = np.mgrid[:height, :width]
    for n in range(1, count + 1):
        mask = numbers == n
        if not mask.any():
            continue
        ys, xs = np.nonzero(mask)
        center = np.array([ys.mean(), xs.mean()])
        offsets[:, mask] = (center[:, None, None] - grid)[:, mask]
        sides = [grid[0] - ys.min(), ys.max() - grid[0], grid[1] - xs.min(), xs.max() - grid[1]]
        boxes[:, mask] = np.stack(sides)[:, mask]
        py, px = np.floor(center + 0.5)
        gaussian = np.exp(-((grid[0] - py) ** 2 + (grid[1] - px) ** 2) / (2 * sigma**2))
        reach = np.ceil(3 * sigma)
        gaussian[(abs(grid[0] - py) > reach) | (abs(grid[1] - px) > reach)] = 0
        heat = np.maximum(heat, gaussian)
    return heat, offsets, boxes


@pytest.mark.parametrize("seed", range(6))
def test_fields_are_those_of_a_loop_over_masks(seed):
    rng = np.random.default_rng(seed)
    height, width, count = rng.integers(1, 30), rng.integers(1, 40), int(rng.integers(0, 6))
    numbers = rng.integers(0, count + 1, (height, width)).astype(np.int32)
    sigma = rng.uniform(0.5, 5)
    for got, wanted in zip(instance_fields(numbers, count, sigma), by_masks(numbers, count, sigma), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_one_pixel_and_no_instance():
    fields = instance_fields(np.array([[1]], np.int32), 1)
    assert fields.heat.tolist() == [[1]] and not fields.boxes.any() and not fields.offsets.any()
    assert not instance_fields(np.zeros((3, 4), np.int32), 0).stacked().any()


def test_an_instance_without_pixels_has_no_peak():
    assert instance_fields(np.full((5, 5), 2, np.int32), 2).heat.max() == 1
    assert (instance_fields(np.full((5, 5), 2, np.int32), 2, 1.0).heat == 1).sum() == 1


@pytest.mark.parametrize(
    ("numbers", "count", "sigma", "message"),
    [
        ([[1, 2]], 1, 1.0, "go from 1 to 2, expected 0 to count, 1"),
        ([[-1, 0]], 1, 1.0, "go from -1 to 0, expected 0 to count, 1"),
        ([[0, 0]], -1, 1.0, "expected 0 to count, -1"),
        ([[10**8, 0]], 1, 1.0, "expected 0 to count, 1"),
        ([[0.5, 1]], 1, 1.0, r"expected \(H, W\) integers"),
        ([1, 1], 1, 1.0, r"expected \(H, W\) integers"),
        ([[1, 1]], 1, 0.0, "sigma is 0.0 px, expected a positive number"),
        ([[1, 1]], 1, float("nan"), "sigma is nan px"),
    ],
)
def test_numbers_that_cannot_be(numbers, count, sigma, message):
    with pytest.raises(UserError, match=message):
        instance_fields(np.array(numbers), count, sigma)


def test_a_gaussian_wider_than_the_image():
    assert (instance_fields(np.array([[1, 0, 0]]), 1, 1e9).heat > 0.99).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_numbers_of_sparse_ids(dtype):
    rng = np.random.default_rng(0)
    segments = (7, 200, 3, 90)
    ids = rng.choice([0, 5, *segments], (20, 30)).astype(dtype)
    wanted = np.zeros(ids.shape, int)
    for number, segment in enumerate(segments, 1):
        wanted[ids == segment] = number
    assert (numbered(ids, segments) == wanted).all()
    assert not numbered(ids, ()).any()
