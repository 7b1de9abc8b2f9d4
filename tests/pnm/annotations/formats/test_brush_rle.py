"""Label Studio's RLE: bytes by hand, a decoder bit by bit, and the program's own."""

import contextlib

import numpy as np
import pytest

from pnm.annotations.formats.brush_rle import decode_brush, encode_brush
from pnm.errors import UserError

ONE = [0, 0, 0, 4, 0b00111001, 0b00011011, 0b11111100, 0b01111111, 0b11100000]


def values_of(data):
    """All values, read bit by bit as the packing is documented."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def take(number):
        nonlocal at
        at += number
        return int(bits[at - number : at], 2)

    number, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < number:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    assert len(values) == number and len(bits) - at < 8
    return values


def packed(*pairs):
    """Bytes of (value, bits)."""
    bits = "".join(f"{value:0{number}b}" for value, number in pairs)
    return [int(bits[k : k + 8].ljust(8, "0"), 2) for k in range(0, len(bits), 8)]


def head(number, word=8, sizes=(3, 4, 8, 16)):
    return [(number, 32), (word - 1, 5), *((size - 1, 4) for size in sizes)]


def test_one_pixel_by_hand():
    assert encode_brush(np.array([[True]])) == ONE
    assert decode_brush(ONE, (1, 1), "") == [[True]]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 16384), (1, 16385), (40, 1000), (257, 300)])
def test_masks_come_back(size):
    random = np.random.default_rng(1)
    blocks = np.repeat(random.random((size[0], size[1] // 7 + 1)) < 0.5, 7, axis=1)[:, : size[1]]
    for mask in (np.zeros(size, bool), np.ones(size, bool), random.random(size) < 0.5, blocks):
        rle = encode_brush(mask)
        if mask.size < 50000:
            np.testing.assert_array_equal(values_of(rle), np.repeat(mask.reshape(-1), 4) * 255)
        np.testing.assert_array_equal(decode_brush(rle, size, ""), mask)


def test_values_one_by_one_and_other_sizes():
    """Red, green and blue are not looked at; alpha counts from a half."""
    rle = packed(*head(12, sizes=(1, 2, 5, 16)), (0, 1), (2, 2), (11, 5), *((v, 8) for v in [9, 9, 9, 127]), *(
        (v, 8) for v in [0, 0, 0, 128, 200, 200, 200, 255]))  # fmt: skip
    assert decode_brush(rle, (1, 3), "").tolist() == [[False, True, True]]
    rle = packed(*head(8, word=1), (1, 1), (0, 2), (3, 3), (1, 1), (1, 1), (0, 2), (3, 3), (0, 1))
    assert decode_brush(rle, (2, 1), "").tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        (None, "expected a list of bytes"),
        ([256], "expected a list of bytes"),
        ([1.5], "expected a list of bytes"),
        ([], "it ends too early"),
        (ONE[:-1], "it ends too early"),
        (packed(*head(4), (0, 1), (0, 2), (3, 3), (1, 8)), "it ends too early"),
        (packed(*head(8)), "it has another number of values"),
        (packed(*head(4), (1, 1), (0, 2), (4, 3), (1, 8)), "its lengths go beyond"),
    ],
)
def test_damaged_bytes_are_told(rle, words):
    with pytest.raises(UserError, match=words) as error:
        decode_brush(rle, (1, 1), "file: tasks[3]")
    assert str(error.value).startswith("file: tasks[3]: ")


def test_random_bytes_never_crash():
    random = np.random.default_rng(2)
    for _ in range(300):
        body = random.integers(0, 256, random.integers(0, 40)).tolist()
        with contextlib.suppress(UserError):
            assert decode_brush([0, 0, 0, 64, *body], (4, 4), "").shape == (4, 4)


def test_label_studios_own_program():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = np.random.default_rng(3).random((30, 41)) < 0.3
    np.testing.assert_array_equal(brush.decode_rle(encode_brush(mask)).reshape(30, 41, 4)[..., 3] > 0, mask)
    np.testing.assert_array_equal(decode_brush(brush.mask2rle(mask.astype(np.uint8) * 255), (30, 41), ""), mask)
