"""Interior pixels against an erosion of each segment, and the boundary's width against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from pnm.errors import UserError
from pnm.metrics.boundary_pixels import interior_pixels
from pnm.metrics.boundary_width import boundary_distance_px, check_distance


def eroded_segments(labels, d):
    interior = np.zeros(labels.shape, bool)
    for label in np.unique(labels):
        interior |= binary_erosion(labels == label, np.ones((2 * d + 1, 2 * d + 1)))
    return interior


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equals_erosion_of_each_segment(data):
    height, width = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 130))
    rows, columns = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    blocks = rng.integers(0, data.draw(st.integers(1, 5)), (-(-height // rows), -(-width // columns)))
    labels = blocks.repeat(rows, axis=0).repeat(columns, axis=1)[:height, :width]
    labels = labels.astype(data.draw(st.sampled_from([np.uint8, np.int16, np.int32, np.int64])))
    d = data.draw(st.integers(1, 12))
    assert np.array_equal(interior_pixels(labels, d), eroded_segments(labels, d))


@pytest.mark.parametrize("d", [1, 5, 127, 128, 150])
def test_widths_on_either_side_of_a_byte(d):
    labels = np.zeros((310, 420), np.uint8)
    labels[:, 400:] = 1
    expected = np.zeros(labels.shape, bool)
    expected[d : 310 - d, d : 400 - d] = True
    if 2 * d + 1 <= 20:
        expected[d : 310 - d, 400 + d : 420 - d] = True
    assert np.array_equal(interior_pixels(labels, d), expected)


def test_real_map(real_data):
    from pnm.formats.label_png import read_label_png

    labels = read_label_png(next((real_data / "camvid/trainannot").glob("*.png")))
    for d in (1, 3, 12):
        assert np.array_equal(interior_pixels(labels, d), eroded_segments(labels, d))


def test_any_labels_and_layout():
    labels = np.zeros((9, 9), bool)
    labels[:, 5:] = True
    for same in (labels, labels.astype(np.int64) * (2**62) - 7, np.asfortranarray(labels), labels[::-1]):
        before = same.copy()
        interior = interior_pixels(same, 1)
        assert np.argwhere(interior.any(axis=0)).ravel().tolist() == [1, 2, 3, 6, 7]
        assert not interior[0].any() and not interior[-1].any()
        assert np.array_equal(same, before)


def test_window_larger_than_the_image_and_no_pixels():
    assert not interior_pixels(np.zeros((4, 100), np.uint8), 2).any()
    assert interior_pixels(np.zeros((5, 100), np.uint8), 2).sum() == 96
    assert interior_pixels(np.zeros((0, 7), np.int64), 1).shape == (0, 7)


def test_distance_is_rounded_to_even():
    assert boundary_distance_px(1024, 2048, 0.02) == 46
    assert boundary_distance_px(1024, 2048, 0.005) == 11
    assert boundary_distance_px(480, 640, 0.02) == 16
    assert boundary_distance_px(3, 4, 0.02) == 1
    assert [boundary_distance_px(30, 40, ratio) for ratio in (0.05, 0.07, 0.09)] == [2, 4, 4]


def test_wrong_input():
    labels = np.zeros((4, 4), np.uint8)
    for wrong in (labels[None], labels / 2, [[0]]):
        with pytest.raises(UserError, match=r"expected an \(H, W\) array of integers"):
            interior_pixels(wrong, 1)
    for wrong_d in (0, 1.5, True):
        with pytest.raises(UserError, match="expected whole pixels, at least 1"):
            interior_pixels(labels, wrong_d)
    for ratio in (0, 1, -0.1, float("nan")):
        with pytest.raises(UserError, match="expected a fraction of the image's diagonal"):
            check_distance(ratio, None)
    check_distance(None, None)
    check_distance(7, 3)
