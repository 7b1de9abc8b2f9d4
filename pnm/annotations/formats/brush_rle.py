"""Label Studio's RLE of brush strokes, a stream of bits, the highest of each byte first.

https://labelstud.io/guide/export#Brush-annotations; the packing is that of https://github.com/thi-ng/umbrella
(rle-pack). It holds the red, green, blue and alpha of each pixel, along the rows; alpha is the mask. A mask of one
pixel that is foreground, four values of 255::

    32 bits 4             the number of values
    5 bits  7             bits of a value, less 1
    4 bits  2, 3, 7, 15   bits of a length, less 1, of four sizes
    1       1             a run follows (0: values follow one by one)
    2 bits  0             its length is of the first size
    3 bits  3             its length, less 1
    8 bits  255           its value

    >>> encode_brush(np.ones((1, 1), bool))
    [0, 0, 0, 4, 57, 27, 252, 127, 224]
    >>> decode_brush([0, 0, 0, 4, 57, 27, 252, 127, 224], (1, 1), "x").tolist()
    [[True]]
"""

from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.kernels import kernel

_SIZES = np.array([3, 4, 8, 16], np.int64)  # bits of lengths
_HALF = 128  # of alpha: half covered
_CUT_SHORT, _TOO_MANY, _OTHER_NUMBER = 1, 2, 3
_FAULTS = ("", "it ends too early", "its lengths go beyond its number of values", "it has another number of values")


@kernel
def _bits(data: np.ndarray, at: int, number: int) -> int:
    value = 0
    for k in range(at, at + number):
        value = value << 1 | data[k >> 3] >> (7 - (k & 7)) & 1
    return value


@kernel
def _decode(data: np.ndarray, alpha: np.ndarray) -> int:
    """Fills ``alpha`` with every fourth value; 0, or a fault."""
    last, sizes = data.size * 8, np.zeros(4, np.int64)
    if last < 53:
        return _CUT_SHORT
    values = _bits(data, 0, 32)
    if values != 4 * alpha.size:
        return _OTHER_NUMBER
    word = _bits(data, 32, 5) + 1
    for k in range(4):
        sizes[k] = _bits(data, 37 + 4 * k, 4) + 1
    at, done = 53, 0
    while done < values:
        if at + 3 > last:
            return _CUT_SHORT
        is_run, size = _bits(data, at, 1), sizes[_bits(data, at + 1, 2)]
        at += 3
        if at + size > last:
            return _CUT_SHORT
        end = done + 1 + _bits(data, at, size)
        at += size
        if end > values:
            return _TOO_MANY
        if at + word * (1 if is_run else end - done) > last:
            return _CUT_SHORT
        value = 0
        for k in range(done, end):
            if k == done or not is_run:
                value = _bits(data, at, word)
                at += word
            if k & 3 == 3:
                alpha[k >> 2] = value
        done = end
    return 0


@kernel
def _put(data: np.ndarray, at: int, value: int, number: int) -> int:
    for k in range(number):
        if value >> (number - 1 - k) & 1:
            data[(at + k) >> 3] |= 1 << (7 - ((at + k) & 7))
    return at + number


@kernel
def _encode(lengths: np.ndarray, sizes: np.ndarray, data: np.ndarray) -> int:
    """Writes runs of 0 and 255, in turn, 0 first, of which none but the first is empty; the number of bytes."""
    at = _put(data, 0, lengths.sum(), 32)
    at = _put(data, at, 7, 5)
    for k in range(4):
        at = _put(data, at, sizes[k] - 1, 4)
    for n in range(lengths.size):
        rest = lengths[n]
        while rest:
            length, k = min(rest, 1 << sizes[3]), 0
            while length > 1 << sizes[k]:
                k += 1
            at = _put(data, at, 1, 1)
            at = _put(data, at, k, 2)
            at = _put(data, at, length - 1, sizes[k])
            at = _put(data, at, 255 * (n & 1), 8)
            rest -= length
    return (at + 7) >> 3


def decode_brush(rle: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """(H, W) bool, the pixels that are at least half covered; of values 0 and 1 alone those of 1.

    Args:
        rle: a list of bytes.
        size: (height, width).
        where: the file and the place in it, for messages.

    Raises:
        UserError: it is no such list, damaged, or of another size.
    """
    if not isinstance(rle, list) or not all(type(byte) is int and 0 <= byte <= 255 for byte in rle):
        raise UserError(f"{where}: rle is {str(rle)[:60]}, expected a list of bytes, 0 to 255")
    alpha = np.zeros(size[0] * size[1], np.uint8)
    fault = _decode(np.array(rle, np.uint8), alpha)
    if fault:
        raise UserError(
            f"{where}: the RLE of this {size[0]} x {size[1]} brush mask is damaged, {_FAULTS[fault]}: export it again"
        )
    threshold = _HALF if alpha.max() > 1 else 1
    return (alpha >= threshold).reshape(size)


def encode_brush(mask: np.ndarray) -> list[int]:
    """The bytes of an (H, W) bool mask, of values 0 and 255."""
    row = np.concatenate([[False], mask.reshape(-1)])
    turns = np.flatnonzero(row[1:] != row[:-1])
    lengths = 4 * np.diff([0, *turns, mask.size]).astype(np.int64)
    pieces = len(lengths) + int((lengths >> int(_SIZES[3])).sum())
    data = np.zeros(8 + 4 * pieces, np.uint8)  # a piece has 27 bits at most
    return data[: _encode(lengths, _SIZES, data)].tolist()
