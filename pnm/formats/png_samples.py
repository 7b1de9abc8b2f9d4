"""Samples of a PNG from its compressed data: inflated, unfiltered, taken apart (https://www.w3.org/TR/png-3/, 7 to 10).

Made for label maps. Most of their stored bytes are 0, the difference from a neighbour that is the same: such blocks are
copied from that neighbour, and only the others go through the filter byte by byte.

An example, two rows of three grey pixels: each row starts with its filter, 1 for "difference from the left", 2 for
"from above"::

    >>> stored = zlib_ng.compress(bytes([1, 7, 0, 2]) + bytes([2, 0, 0, 1]))
    >>> decode_samples(stored, 2, 3, bits=8, channels=1, interlaced=False).tolist()
    [[7, 7, 9], [7, 7, 10]]
"""

import numpy as np
from zlib_ng import zlib_ng

from pnm.kernels import entry_kernel, kernel
from pnm.masks.simd_lanes import LANES, differs, lowest_bit

_MOST_INFLATED = 1032  # bytes that deflate can make of one
_FACTORS = {1: (1,), 2: (256, 1), 3: (1, 256, 65536), 4: (1, 256, 65536, 0)}  # bytes of a pixel to the number it is
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))

# Unsigned, as numba then leaves out the test for negative indices, and the loops become vector instructions.
_BLOCK = np.uint64(24)  # holds whole pixels of 1, 2, 3 and 4 bytes
_AS_LEFT, _AS_ABOVE = 1, 2
_ZEROS = np.zeros(32, np.uint8)


def decode_samples(
    compressed: bytes, height: int, width: int, *, bits: int, channels: int, interlaced: bool
) -> np.ndarray:
    """One number for each pixel.

    Args:
        compressed: content of all IDAT chunks.
        height, width: of the image, at least 1.
        bits: of a sample; 1, 2, 4 or 8, with one channel 16, too.
        channels: 1, or 3 or 4 with 8 bits.
        interlaced: stored in the seven passes of Adam7.

    Returns:
        (H, W) uint8 samples, or uint16 ones of 16 bits; with more channels int32, R + 256 G + 65536 B.

    Raises:
        ValueError: the data are damaged, or are not those of an image of this size. Memory is taken for what they
            inflate to, at most a thousand times as much as they are, not for the size that is claimed.
    """
    passes = [(y, x, dy, dx) for y, x, dy, dx in (_ADAM7 if interlaced else [(0, 0, 1, 1)]) if y < height and x < width]
    sizes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in passes]
    strides = [(w * channels * bits + 7) // 8 for _, w in sizes]
    rows = _inflate(compressed, sum(h * (1 + stride) for (h, _), stride in zip(sizes, strides)))
    images, start = [], 0
    for (h, w), stride in zip(sizes, strides):
        filtered = np.frombuffer(rows, np.uint8, h * (1 + stride), start).reshape(h, 1 + stride)
        images.append(_pixels(filtered, w, bits, channels))
        start += filtered.size
    if not interlaced:
        return images[0]
    whole = np.empty((height, width), images[0].dtype)
    for (y, x, dy, dx), image in zip(passes, images):
        whole[y::dy, x::dx] = image
    return whole


def _inflate(compressed: bytes, size: int) -> bytes:
    if size > _MOST_INFLATED * len(compressed):
        raise ValueError(f"{len(compressed)} compressed bytes can't hold {size}")
    stream = zlib_ng.decompressobj()
    try:
        content = stream.decompress(compressed, size + 1)
    except zlib_ng.error as error:  # type: ignore[misc]  # an instance, says its stub
        raise ValueError(str(error)) from None
    if len(content) != size or not stream.eof:
        raise ValueError(f"expected {size} bytes, which end with a checksum")
    return content


def _pixels(filtered: np.ndarray, width: int, bits: int, channels: int) -> np.ndarray:
    """(H, W) numbers of (H, 1 + bytes of a row) stored bytes, see :func:`decode_samples`."""
    height, stride = filtered.shape[0], filtered.shape[1] - 1
    dtype = np.int32 if channels > 1 else np.uint16 if bits == 16 else np.uint8
    factors = _FACTORS[max(1, channels * bits // 8)]
    numbers = np.empty((height, stride // len(factors)), dtype)
    known = _unfilter_bytes(filtered, numbers) if len(factors) == 1 else _unfilter(filtered, factors, numbers)
    if not known:
        raise ValueError("unknown filter type")
    if bits >= 8:
        return numbers
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)  # the leftmost pixel is in the highest bits
    samples = (numbers[..., None] >> shifts) & np.uint8(2**bits - 1)
    return np.ascontiguousarray(samples.reshape(height, -1)[:, :width])


@entry_kernel
def _unfilter_bytes(filtered: np.ndarray, pixels: np.ndarray) -> bool:
    """Pixels of a byte each; False if a row's filter type is none of the five."""
    nothing, marks = np.zeros(pixels.shape[1], np.uint8), np.empty(pixels.shape[1] // _BLOCK + 1, np.uint8)
    for y in range(pixels.shape[0]):
        if filtered[y, 0] == 1:
            _add_left_bytes(filtered[y, 1:], pixels[y])
            continue
        above = pixels[y - 1] if y else nothing
        if not _unfilter_row(filtered[y, 0], filtered[y, 1:], above, pixels[y], np.uint64(1), marks):
            return False
    return True


@entry_kernel
def _unfilter(filtered: np.ndarray, factors: tuple, numbers: np.ndarray) -> bool:
    """Each pixel's bytes, times ``factors``, summed into ``numbers``; False if a row's filter type is none of the five.

    The length of the tuple, the bytes of a pixel, is known when this is compiled. The numbers of a block that repeats
    its left neighbour, or the block above, are copied.
    """
    step, width = np.uint64(len(factors)), np.uint64(numbers.shape[1])
    two_rows = np.zeros((2, filtered.shape[1] - 1), np.uint8)
    marks = np.empty(two_rows.shape[1] // _BLOCK + 1, np.uint8)
    for y in range(numbers.shape[0]):
        if filtered[y, 0] == 1 and (y + 1 == numbers.shape[0] or filtered[y + 1, 0] <= 1):
            _repeat_left(filtered[y, 1:], factors, numbers[y])  # the next row doesn't need this one's bytes
            continue
        row, above = two_rows[y & 1], two_rows[(y + 1) & 1]
        if not _unfilter_row(filtered[y, 0], filtered[y, 1:], above, row, step, marks):
            return False
        out, out_above = numbers[y], numbers[max(y - 1, 0)]
        out[0] = _number(row, np.uint64(0), factors)
        block, blocks = 0, marks.size
        while block < blocks:
            first, mark = np.uint64(1) + np.uint64(block) * (_BLOCK // step), marks[block]
            while block < blocks and marks[block] == mark:
                block += 1
            last = min(np.uint64(1) + np.uint64(block) * (_BLOCK // step), width)
            if mark == _AS_LEFT:
                number = out[first - np.uint64(1)]
                for x in range(first, last):
                    out[x] = number
            elif mark == _AS_ABOVE and y > 0:
                for x in range(first, last):
                    out[x] = out_above[x]
            else:
                for x in range(first, last):
                    out[x] = _number(row, x, factors)
    return True


@kernel
def _next_change(stored: np.ndarray, at: int) -> int:
    """The first byte from ``at`` on that isn't 0, or the end."""
    size = np.uint64(stored.size)
    while at + np.uint64(LANES) <= size:
        bits = differs(stored, at, _ZEROS, 0)
        if bits != 0:
            return at + np.uint64(lowest_bit(bits))
        at += np.uint64(LANES)
    while at < size and stored[at] == 0:
        at += np.uint64(1)
    return at


@kernel
def _repeat_left(stored: np.ndarray, factors: tuple, numbers: np.ndarray) -> None:
    """Numbers of a row of filter type 1, from one change to the next."""
    step, width = np.uint64(len(factors)), np.uint64(numbers.size)
    pixel = np.zeros(4, np.uint8)
    x = np.uint64(0)
    while x < width:
        number = np.int32(0)
        for k in range(len(factors)):
            pixel[k] += stored[x * step + np.uint64(k)]
            number += np.int32(factors[k]) * np.int32(pixel[k])
        last = _next_change(stored, (x + np.uint64(1)) * step) // step
        for after in range(x, last):
            numbers[after] = number
        x = last


@kernel
def _number(row: np.ndarray, x: int, factors: tuple) -> int:
    """The number that pixel x stands for."""
    number = np.int32(0)
    for k in range(len(factors)):
        number += np.int32(factors[k]) * np.int32(row[x * np.uint64(len(factors)) + np.uint64(k)])
    return number


@kernel
def _unfilter_row(
    kind: int, stored: np.ndarray, above: np.ndarray, row: np.ndarray, step: int, marks: np.ndarray
) -> bool:
    """Bytes of a row; False if its filter type is none of the five.

    ``marks`` tells of each block, counted from the second pixel, whether it is ``_AS_LEFT`` or ``_AS_ABOVE``.
    """
    marks[:] = 0
    if kind == 0:
        row[:] = stored
    elif kind == 1:
        _add_left(stored, row, step, marks)
    elif kind == 2:
        _add_above(stored, above, row, step, marks)
    elif kind == 3:
        _add_average(stored, above, row, step)
    elif kind == 4:
        _add_paeth(stored, above, row, step, marks)
    else:
        return False
    return True


@kernel
def _is_zero(stored: np.ndarray, start: int) -> bool:
    """Whether a whole block is 0."""
    any_bit = np.uint8(0)
    for k in range(_BLOCK):
        any_bit = np.uint8(any_bit | stored[start + k])
    return any_bit == 0


@kernel
def _add_left(stored: np.ndarray, row: np.ndarray, step: int, marks: np.ndarray) -> None:
    """Filter type 1; a block of zeros after another one repeats it."""
    row[:step] = stored[:step]
    start, size, after_zeros = step, np.uint64(row.size), False
    while start < size:
        end = min(start + _BLOCK, size)
        is_zero = end == start + _BLOCK and _is_zero(stored, start)
        if is_zero and after_zeros:
            marks[(start - step) // _BLOCK] = _AS_LEFT
            for i in range(start, end):
                row[i] = row[i - _BLOCK]
        else:
            for channel in range(step):
                value = row[start - step + channel]
                for i in range(start + channel, end, step):
                    value = np.uint8(value + stored[i])
                    row[i] = value
        start, after_zeros = end, is_zero


@kernel
def _add_left_bytes(stored: np.ndarray, row: np.ndarray) -> None:
    """Filter type 1 of pixels of a byte each; lanes of zeros repeat the last pixel."""
    value, start, size = np.uint8(0), np.uint64(0), np.uint64(row.size)
    while start + np.uint64(LANES) <= size:
        if differs(stored, start, _ZEROS, 0) == 0:
            for k in range(np.uint64(LANES)):
                row[start + k] = value
        else:
            for k in range(np.uint64(LANES)):
                value = np.uint8(value + stored[start + k])
                row[start + k] = value
        start += np.uint64(LANES)
    for i in range(start, size):
        value = np.uint8(value + stored[i])
        row[i] = value


@kernel
def _add_above(stored: np.ndarray, above: np.ndarray, row: np.ndarray, step: int, marks: np.ndarray) -> None:
    """Filter type 2."""
    for i in range(row.size):
        row[i] = stored[i] + above[i]
    size = np.uint64(row.size)
    for start in range(step, size, _BLOCK):
        if start + _BLOCK <= size and _is_zero(stored, start):
            marks[(start - step) // _BLOCK] = _AS_ABOVE


@kernel
def _add_average(stored: np.ndarray, above: np.ndarray, row: np.ndarray, step: int) -> None:
    """Filter type 3."""
    for i in range(step):
        row[i] = stored[i] + (above[i] >> 1)
    for i in range(step, np.uint64(row.size)):
        row[i] = stored[i] + ((np.int32(row[i - step]) + np.int32(above[i])) >> 1)


@kernel
def _add_paeth(stored: np.ndarray, above: np.ndarray, row: np.ndarray, step: int, marks: np.ndarray) -> None:
    """Filter type 4. A block of zeros after a pixel that equals the one above it equals the block above."""
    for i in range(step):
        row[i] = stored[i] + above[i]
    start, size = step, np.uint64(row.size)
    while start < size:
        end = min(start + _BLOCK, size)
        as_above = end == start + _BLOCK
        for i in range(start - step, start):
            as_above &= row[i] == above[i]
        if as_above and _is_zero(stored, start):
            marks[(start - step) // _BLOCK] = _AS_ABOVE
            for i in range(start, end):
                row[i] = above[i]
        else:
            for channel in range(step):
                left, corner = np.int32(row[start - step + channel]), np.int32(above[start - step + channel])
                for i in range(start + channel, end, step):
                    up = np.int32(above[i])
                    left = (stored[i] + _nearest(left, up, corner)) & 255
                    row[i], corner = left, up
        start = end


@kernel
def _nearest(left: int, above: int, corner: int) -> int:
    """Of three neighbours the one nearest to left + above - corner, the first of equals."""
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner
