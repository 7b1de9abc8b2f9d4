"""What is drawn: colours where masks are, nothing elsewhere, whatever the size."""

import cv2
import numpy as np
import pytest

from pnm.masks.crops import EMPTY, crop_array
from pnm.pictures.overlay import colour_of, draw_objects, draw_segments, encode_jpeg


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (97, 131)])
def test_masks_are_coloured_and_the_rest_is_as_it_was(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    before, mask = image.copy(), np.zeros(size, bool)
    mask[: size[0] // 2 + 1, : size[1] // 2 + 1] = True
    drawn = draw_objects(image, [crop_array(mask), EMPTY], ["", "nothing"])
    np.testing.assert_array_equal(image, before)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
    np.testing.assert_array_equal(drawn[~near], image[~near])
    inside = cv2.erode(np.pad(mask.astype(np.uint8), 1), np.ones((9, 9)))[1:-1, 1:-1] > 0
    expected = 0.55 * image[inside] + 0.45 * np.array(colour_of(0))
    assert not inside.any() or np.abs(drawn[inside] - expected).max() <= 0.5 + 1e-6


def test_the_first_lies_on_top():
    image, mask = np.zeros((60, 60, 3), np.uint8), np.ones((60, 60), bool)
    drawn = draw_objects(image, [crop_array(mask)] * 2, ["", ""])
    below = np.rint(0.45 * np.array(colour_of(1)))
    assert np.abs(drawn[30, 30] - (0.55 * below + 0.45 * np.array(colour_of(0)))).max() <= 1


def test_segments_without_a_name_stay(size=(50, 70)):
    image = np.full((*size, 3), 90, np.uint8)
    labels = np.full(size, 255, np.uint8)
    labels[:, 40:] = 3
    drawn = draw_segments(image, labels, {3: "ä", 5: "absent"}, {3: 3, 5: 5})
    np.testing.assert_array_equal(drawn[:, :36], image[:, :36])
    assert (drawn[2, 60] != 90).any()
    assert (drawn.max(axis=(0, 1)) > 200).any()  # the name
    assert not (draw_segments(image, labels, {}) != image).any()


def test_numbers_near_each_other_differ_in_colour():
    colours = np.array([colour_of(n) for n in range(12)], int)
    assert all(np.abs(colours[n] - colours[n + 1]).sum() > 60 for n in range(11))


def test_a_jpeg_keeps_its_colours():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[...] = 200, 30, 60
    read = cv2.imdecode(np.frombuffer(encode_jpeg(picture), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(read.astype(int) - picture).max() < 8
