"""Outlines of pixels give the same pixels again by COCO's rule, whatever the mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from pnm.annotations.outlines import mask_outlines, one_outline
from pnm.masks.crops import EMPTY, MaskCrop, crop_array

MASKS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(lambda size: arrays(np.bool_, size))


def drawn(outlines, height, width):
    """By pycocotools itself."""
    rles = coco_mask.frPyObjects([outline.reshape(-1).tolist() for outline in outlines], height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


@given(MASKS)
@settings(max_examples=400, deadline=None)
def test_outlines_give_the_mask_again(mask):
    outlines = mask_outlines(crop_array(mask))
    if not mask.any():
        assert outlines == []
        return
    assert np.array_equal(drawn(outlines, *mask.shape), mask)
    assert np.array_equal(drawn([one_outline(outlines)], *mask.shape), mask)


def test_one_outline_for_each_part_that_touches_at_edges():
    mask = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]], bool)
    assert [outline.tolist() for outline in mask_outlines(crop_array(mask))] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [3, 1], [3, 3], [1, 3]],
    ]


def test_a_hole_is_a_seam():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (outline,) = mask_outlines(crop_array(mask))
    x, y = outline.T
    assert np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) == 2 * 8  # twice the area
    assert {(1, 1), (2, 1), (2, 2), (1, 2)} <= {tuple(corner) for corner in outline.tolist()}


def test_places_are_the_images():
    crop = MaskCrop(np.ones((2, 3), bool), 10, 20)
    assert mask_outlines(crop)[0].tolist() == [[20, 10], [23, 10], [23, 12], [20, 12]]
    assert mask_outlines(EMPTY) == []


@pytest.mark.parametrize("size", [(480, 640)])
def test_a_large_mask_with_many_holes(size):
    mask = np.random.default_rng(0).random(size) < 0.9
    outlines = mask_outlines(crop_array(mask))
    assert np.array_equal(drawn(outlines, *size), mask)
