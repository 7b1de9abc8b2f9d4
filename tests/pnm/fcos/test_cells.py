"""Cells stand where a loop puts them, boxes survive the round trip, and centre-ness has its closed form."""

import math

import pytest
import torch

from pnm.errors import UserError
from pnm.fcos.cells import (
    Level,
    boxes_of_distances,
    cell_positions,
    centerness,
    check_ranges,
    distances_of_boxes,
)

PYRAMIDS = [
    [Level(13, 21, 8), Level(7, 11, 16), Level(4, 6, 32), Level(2, 3, 64), Level(1, 2, 128)],
    [Level(3, 5, 1)],
    [Level(2, 3, 7), Level(0, 3, 9), Level(1, 1, 5)],  # odd strides, and a level without cells
]


@pytest.mark.parametrize("levels", PYRAMIDS)
def test_positions_are_those_of_a_loop(levels):
    places = []
    for height, width, stride in levels:
        for row in range(height):
            for column in range(width):
                places.append([column * stride + stride // 2, row * stride + stride // 2])
    assert cell_positions(levels).dtype == torch.float32
    assert cell_positions(levels).tolist() == places


def test_no_levels_have_no_cells():
    assert cell_positions([]).shape == (0, 2)


def test_distances_are_left_top_right_bottom():
    box = torch.tensor([10.0, 20.0, 50.0, 100.0])
    assert distances_of_boxes(torch.tensor([12.0, 25.0]), box).tolist() == [2, 5, 38, 75]
    assert distances_of_boxes(torch.tensor([60.0, 0.0]), box).tolist() == [50, -20, -10, 100]


def test_boxes_survive_the_round_trip_exactly_on_sixteenths_of_a_pixel():
    rng = torch.Generator().manual_seed(0)
    boxes = torch.randint(-5000, 20000, (7, 300, 4), generator=rng) / 16
    positions = torch.randint(0, 1344, (300, 2), generator=rng).float()
    assert torch.equal(boxes_of_distances(positions, distances_of_boxes(positions.expand(7, 300, 2), boxes)), boxes)


def test_each_distance_moves_its_own_side():
    position, distances = torch.tensor([30.0, 40.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert boxes_of_distances(position, distances).tolist() == [29, 38, 33, 44]


@pytest.mark.parametrize(
    "distances, expected",
    [
        ([5, 5, 5, 5], 1),
        ([3, 70, 3, 70], 1),  # the centre of a long box
        ([1, 1, 4, 1], 1 / 2),
        ([1, 2, 4, 8], 1 / 4),
        ([8, 3, 2, 6], math.sqrt(1 / 8)),
        ([0.5, 1, 1343.5, 799], math.sqrt(0.5 / 1343.5 / 799)),
    ],
)
def test_centerness_in_closed_form(distances, expected):
    assert centerness(torch.tensor(distances, dtype=torch.float32)).item() == pytest.approx(expected, rel=1e-6)


def test_centerness_is_above_0_and_at_most_1_and_only_1_at_the_centre():
    distances = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(1)) * 500 + 0.01
    scores = centerness(distances)
    assert scores.shape == (20_000,) and scores.min() > 0 and scores.max() < 1
    assert torch.equal(centerness(torch.cat([distances[:, :2], distances[:, :2]], 1)), torch.ones(20_000))


def test_centerness_is_unchanged_by_flips_transposition_and_scale():
    distances = torch.rand(500, 4, generator=torch.Generator().manual_seed(2)) + 0.01
    scores = centerness(distances)
    for order in ([2, 1, 0, 3], [0, 3, 2, 1], [1, 0, 3, 2]):
        torch.testing.assert_close(centerness(distances[:, order]), scores)
    torch.testing.assert_close(centerness(distances * 8), scores)


@pytest.mark.parametrize("bounds, levels", [([64, 128, 256, 512], 5), ([], 1), ([0.5], 2)])
def test_ranges_that_fit(bounds, levels):
    check_ranges(bounds, levels)


@pytest.mark.parametrize(
    "bounds, levels, told",
    [
        ([64, 128], 2, r"\[64, 128\], expected 1 .* for 2 levels"),
        ([], 3, r"\[\], expected 2 .* for 3 levels"),
        ([128, 64], 3, r"\[128, 64\], expected 2"),
        ([64, 64], 3, r"\[64, 64\], expected 2"),
        ([0, 64], 3, r"\[0, 64\], expected 2"),
        ([-1.5], 2, r"\[-1.5\], expected 1"),
        ([math.nan], 2, r"\[nan\], expected 1"),
        ([64, math.nan, 128], 4, r"\[64, nan, 128\], expected 3"),
    ],
)
def test_ranges_that_do_not_fit_are_told_with_their_numbers(bounds, levels, told):
    with pytest.raises(UserError, match=told):
        check_ranges(bounds, levels)
