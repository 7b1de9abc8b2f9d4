"""Labels moved along a field, against loops over pixels; what an oracle's field mends."""

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION, bin_steps
from pnm.interior_offsets.field import InteriorOffsets, interior_offsets, offsets_of_targets, packed, unpacked
from pnm.interior_offsets.shifting import shift_of, shifted_labels, shifted_mask
from pnm.interior_offsets.targets import offset_targets
from pnm.masks.crops import EMPTY, MaskCrop, crop_array, paste

SIZE = 23, 31


def random_field(rng, bins=8, share=0.6):
    directions = rng.integers(0, bins, SIZE).astype(np.uint8)
    directions[rng.random(SIZE) > share] = NO_DIRECTION
    return directions


def walked(directions, place, steps, most):
    """Where a pixel looks."""
    y, x = place
    for _ in range(most):
        if directions[y, x] == NO_DIRECTION:
            break
        dy, dx = steps[directions[y, x]]
        y, x = min(max(y + dy, 0), SIZE[0] - 1), min(max(x + dx, 0), SIZE[1] - 1)
    return y, x


@pytest.mark.parametrize(("bins", "scale", "most"), [(8, 1, 1), (8, 2, 1), (8, 1, 8), (16, 3, 4)])
def test_labels_and_masks_equal_a_loop_over_pixels(bins, scale, most):
    rng = np.random.default_rng(0)
    for _ in range(10):
        directions = random_field(rng, bins)
        shift = shift_of(directions, bins, scale=scale, steps=most)
        labels = rng.integers(0, 5, SIZE).astype(rng.choice([np.uint8, np.int32, np.int64]))
        void = 4
        wanted, steps = labels.copy(), bin_steps(bins, scale)
        for place in np.ndindex(SIZE):
            other = labels[walked(directions, place, steps, most)]
            wanted[place] = labels[place] if other == void and labels[place] != void else other
        refined = shifted_labels(labels, shift, [0, 1, 2, 3])
        assert refined.dtype == labels.dtype and np.array_equal(refined, wanted)
        mask = np.zeros(SIZE, np.bool_)
        top, left = rng.integers(0, 10, 2)
        mask[top : top + 9, left : left + 12] = rng.random((9, 12)) > 0.4
        moved = [mask[walked(directions, place, steps, most)] for place in np.ndindex(SIZE)]
        assert np.array_equal(paste(shifted_mask(crop_array(mask), shift), *SIZE), np.reshape(moved, SIZE))


def test_no_boundary_changes_nothing():
    shift = shift_of(np.full(SIZE, NO_DIRECTION, np.uint8), 8, steps=8)
    labels = np.random.default_rng(0).integers(0, 9, SIZE)
    assert np.array_equal(shifted_labels(labels, shift, range(9)), labels)
    crop = MaskCrop(np.ones((3, 4), np.bool_), 2, 5)
    assert shifted_mask(crop, shift) is crop and shifted_mask(EMPTY, shift) is EMPTY
    assert labels is not shifted_labels(labels, shift, range(9))


def test_a_mask_may_vanish_and_the_argument_stays():
    directions = np.zeros(SIZE, np.uint8)  # all look left
    crop = MaskCrop(np.ones((2, 1), np.bool_), 4, 0)
    assert shifted_mask(crop, shift_of(directions, 8)).pixels.shape == (2, 2)  # the frame's pixel looks at itself
    lone = MaskCrop(np.ones((1, 1), np.bool_), 4, SIZE[1] - 1)
    assert shifted_mask(lone, shift_of(directions, 8)) is EMPTY and lone.pixels.all()


@pytest.mark.parametrize("error_px", [1, 2, 3])
def test_the_true_field_mends_an_edge_that_is_off(error_px):
    """A straight edge that is off by no more than a boundary's half is put right by steps to the interior."""
    true = np.zeros((40, 60), np.uint8)
    true[:, 30:] = 1
    coarse = np.zeros((40, 60), np.uint8)
    coarse[:, 30 + error_px :] = 1
    offsets = offsets_of_targets(offset_targets(true), 8)
    assert np.array_equal(shifted_labels(coarse, offsets.shift(steps=8), [0, 1]), true)
    one_step = shifted_labels(coarse, offsets.shift(scale=2), [0, 1])
    assert np.array_equal(one_step, true) == (error_px <= 2)


def test_offsets_are_packed_without_loss():
    rng = np.random.default_rng(0)
    offsets = interior_offsets(rng.random(SIZE), rng.integers(0, 16, SIZE), 16)
    again = unpacked(packed(offsets), 16)
    assert all(np.array_equal(a, b) for a, b in zip(offsets[:2], again[:2])) and again.bins == 16
    assert (offsets.directions[offsets.boundary == 0] == 0).all()
    with pytest.raises(UserError, match="no offsets of 8 directions"):
        unpacked(packed(offsets), 8)
    nothing = interior_offsets(np.full(SIZE, np.nan), np.zeros(SIZE, int), 8)
    assert not nothing.boundary.any() and (nothing.on_boundary() == NO_DIRECTION).all()


def test_threshold():
    boundary = np.array([[0, 100, 127, 128, 255]], np.uint8)
    offsets = InteriorOffsets(boundary, np.ones_like(boundary), 8)
    assert (offsets.on_boundary() != NO_DIRECTION).tolist() == [[False, False, False, True, True]]
    assert (offsets.on_boundary(0.3) != NO_DIRECTION).sum() == 4


def test_other_sizes_and_bad_fields():
    shift = shift_of(random_field(np.random.default_rng(0)), 8)
    with pytest.raises(
        UserError, match="the prediction is 5 x 6, the offsets are 23 x 31: both must be of the same image"
    ):
        shifted_labels(np.zeros((5, 6), int), shift, [0])
    with pytest.raises(UserError, match="a mask reaches out of an image of 23 x 31"):
        shifted_mask(MaskCrop(np.ones((5, 5), np.bool_), 20, 0), shift)
    with pytest.raises(UserError, match="a direction is bin 9, expected 0 to 7, or 255"):
        shift_of(np.full(SIZE, 9, np.uint8), 8)
    with pytest.raises(UserError, match="steps is 0 and scale 1.0, expected whole steps from 1 to 255 of 1 to 64 px"):
        shift_of(np.zeros(SIZE, np.uint8), 8, steps=0)
    with pytest.raises(UserError, match=r"directions are \(3,\) uint8"):
        shift_of(np.zeros(3, np.uint8), 8)
