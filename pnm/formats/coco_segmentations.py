"""COCO's segmentations, as :mod:`pnm.formats.coco_tables` reads them, made into codes of masks.

Numbers of polygons are the greater part of a ground truth. They are read from the text by a kernel, an example::

    >>> text = np.frombuffer(bytearray(b"[1, 2.5, 30e-1, 0][-4.25,7]"), np.uint8)
    >>> x, y, counts, faults = np.empty(9, np.int32), np.empty(9, np.int32), np.empty(2, np.int64), np.empty(2, np.int8)
    >>> _read_polygons(text, x, y, counts, faults)
    3
    >>> x[[0, 2]].tolist(), y[[0, 2]].tolist(), counts.tolist()  # fifths of a pixel
    ([5, -20], [13, 35], [4, 2])
    >>> faults.tolist()  # 1: numbers that Python has to read
    [1, 0]
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw, Struct

from pnm.kernels import entry_kernel, kernel
from pnm.masks.mask_codes import MaskCodes, first_damaged
from pnm.masks.polygon_runs import FIFTHS, fifth, fifths
from pnm.masks.runs import bounds_of, rle_text

_AT_ONCE = 4096  # polygons or texts
_HARD, _STRANGE = 1, 2
_MOST_PX = 4e8  # whose fifths an int32 holds
_EXACT = 2**53  # whole numbers to here are floats without rounding
_POWERS = 10.0 ** np.arange(23)  # exact, too: the quotient of both is rounded once, as it must be


class Rle(Struct, gc=False):
    """A mask as COCO's RLE, compressed or not."""

    size: tuple[int, int]
    counts: str | list[int]


Segmentation = Rle | list[Raw]  # or polygons, whose texts are left as they are


@kernel
def _read_number(text: np.ndarray, at: int) -> tuple[int, float, int]:
    """A number of sound JSON: the place after it, its value, and a fault or 0, with which the value isn't right."""
    is_minus = text[at] == ord("-")
    at += is_minus
    digits, decimals, has_point, first = np.int64(0), 0, False, at
    while ord("0") <= text[at] <= ord("9") or text[at] == ord("."):
        if text[at] == ord("."):
            has_point = True
        else:
            digits = digits * 10 + (text[at] - ord("0"))
            decimals += has_point
        at += 1
    if at == first:
        return at, 0.0, _STRANGE
    is_hard = at - first > 18 or digits > _EXACT or text[at] | 32 == ord("e")
    while ord("0") <= text[at] <= ord("9") or text[at] == ord("-") or text[at] == ord("+") or text[at] | 32 == ord("e"):
        at += 1
    if is_hard:
        return at, 0.0, _HARD
    value = digits / _POWERS[decimals]
    return at, -value if is_minus else value, _HARD if value > _MOST_PX else 0


@entry_kernel
def _read_polygons(text: np.ndarray, x: np.ndarray, y: np.ndarray, counts: np.ndarray, faults: np.ndarray) -> int:
    """Reads P arrays of numbers in JSON, one after the other.

    Args:
        text: (L,) uint8, sound JSON.
        x, y: for the corners in fifths of a pixel, int32.
        counts: (P,) int64, for the numbers in each.
        faults: (P,) int8, for ``_HARD`` if some are not easily read, ``_STRANGE`` if it isn't an array of numbers.

    Returns:
        How many corners were written. After a strange polygon, nothing is.
    """
    at = corner = 0
    for p in range(counts.size):
        counts[p], faults[p] = 0, (0 if text[at] == ord("[") else _STRANGE)
        at += 1
        while faults[p] != _STRANGE and text[at] != ord("]"):
            if text[at] == ord(" ") or text[at] == ord(",") or 9 <= text[at] <= 13:
                at += 1
                continue
            at, value, fault = _read_number(text, at)
            faults[p] = max(faults[p], fault)
            if counts[p] & 1:
                y[corner] = fifth(value)
            else:
                x[corner] = fifth(value)
            corner += counts[p] & 1
            counts[p] += 1
        at += 1
        if faults[p] == _STRANGE:
            return corner
        corner += counts[p] & 1
    return corner


class _Polygons(NamedTuple):
    """Corners x, y in fifths of a pixel, (C,) int32, and (P,) numbers that each polygon has, two for a corner."""

    x: np.ndarray
    y: np.ndarray
    numbers: np.ndarray


def _some_polygons(raws: Sequence[Raw]) -> _Polygons | None:
    """None if one of them isn't an array of numbers."""
    text = np.frombuffer(bytearray(b"".join(raws)), np.uint8)
    x, y = np.empty((2, text.size // 4 + len(raws)), np.int32)
    numbers, faults = np.empty(len(raws), np.int64), np.zeros(len(raws), np.int8)
    end = _read_polygons(text, x, y, numbers, faults)
    if (faults == _STRANGE).any():
        return None
    bounds = bounds_of((numbers + 1) // 2)
    for p in np.flatnonzero(faults).tolist():
        try:
            coordinates = fifths(np.array(msgspec.json.decode(raws[p], type=list[float]), np.float64))
        except ValueError:  # beyond the range of numbers
            return None
        x[bounds[p] : bounds[p + 1]] = coordinates[::2]
        y[bounds[p] : bounds[p] + len(coordinates) // 2] = coordinates[1::2]
    return _Polygons(x[:end].copy(), y[:end].copy(), numbers)


def _all_polygons(raws: Sequence[Raw]) -> _Polygons | None:
    """As :func:`_some_polygons`."""
    nothing = np.empty(0, np.int32)
    parts = [_Polygons(nothing, nothing, np.empty(0, np.int64))]
    for n in range(0, len(raws), _AT_ONCE):
        part = _some_polygons(raws[n : n + _AT_ONCE])
        if part is None:
            return None
        parts.append(part)
    return _Polygons(*(np.concatenate(columns) for columns in zip(*parts)))


def _drawable(polygons: _Polygons, owner: np.ndarray, reach: np.ndarray) -> tuple[_Polygons, np.ndarray] | None:
    """Polygons without those of fewer than three corners, and which are left; None if that leaves none, or if others
    can't be drawn.

    Args:
        owner: (P,) the mask that each belongs to.
        reach: (P,) the longer side of its image.
    """
    kept = polygons.numbers >= 6
    if len(np.unique(owner[kept])) < len(np.unique(owner)):
        return None
    if not kept.all():
        corners = np.repeat(kept, (polygons.numbers + 1) // 2)
        polygons = _Polygons(polygons.x[corners], polygons.y[corners], polygons.numbers[kept])
    if (polygons.numbers % 2).any():
        return None
    first, limit = bounds_of(polygons.numbers // 2)[:-1], FIFTHS * reach[kept]
    for side in (polygons.x, polygons.y) if len(first) else ():
        # By a fifth more strict than need be: rounding hides what lies just outside.
        if (np.minimum.reduceat(side, first) <= -limit).any() or (np.maximum.reduceat(side, first) >= 2 * limit).any():
            return None
    return polygons, kept


def _texts(rles: Sequence[Rle], sizes: np.ndarray) -> tuple[np.ndarray, list[int]] | None:
    """Text of masks one after the other, uint8, and the length of each; None if one isn't what its image needs."""
    given = np.array([rle.size for rle in rles]).reshape(-1, 2)
    if not np.array_equal(given, sizes):
        return None
    text, lengths = bytearray(), list[int]()
    for n in range(0, len(rles), _AT_ONCE):
        counts = [
            rle.counts if isinstance(rle.counts, str) else _compressed(rle.counts, math.prod(rle.size))
            for rle in rles[n : n + _AT_ONCE]
        ]
        joined = "".join(counts)
        if not joined.isascii():
            return None
        text += joined.encode()
        lengths += map(len, counts)
    return np.frombuffer(text, np.uint8), lengths


def _compressed(counts: list[int], pixels: int) -> str:
    """Run lengths as a text; one that no mask has if they aren't those of an image of so many pixels."""
    is_sound = sum(counts) == pixels and min(counts) >= 0
    return rle_text(np.array(counts, np.int64)).decode("ascii") if is_sound else "~"


def read_codes(segmentations: Sequence[Any], sizes: np.ndarray) -> tuple[MaskCodes, np.ndarray] | None:
    """Codes of masks, all of which can be drawn.

    Args:
        segmentations: of each of N masks what ``Segmentation`` says, or something else.
        sizes: (N, 2) int64, height and width of their images.

    Returns:
        The codes, and the numbers of the masks that lost polygons of fewer than three corners; None if a mask isn't
        sound.
    """
    number = len(segmentations)
    rles, outlines = [s for s in segmentations if type(s) is Rle], [s for s in segmentations if type(s) is list and s]
    if len(outlines) + len(rles) < number:
        return None
    is_rle = np.array([type(s) is Rle for s in segmentations], np.bool_)
    texts = _texts(rles, sizes[is_rle])
    polygons = _all_polygons([polygon for each in outlines for polygon in each])
    owner = np.repeat(np.flatnonzero(~is_rle), [len(each) for each in outlines])
    drawable = _drawable(polygons, owner, sizes[owner].max(axis=1, initial=0)) if polygons else None
    if texts is None or drawable is None:
        return None
    polygons, kept = drawable
    lengths = np.zeros(number, np.int64)
    lengths[is_rle] = texts[1]
    codes = MaskCodes(
        texts[0],
        bounds_of(lengths),
        polygons.x,
        polygons.y,
        bounds_of(polygons.numbers // 2),
        bounds_of(np.bincount(owner[kept], minlength=number)),
    )
    return (codes, np.unique(owner[~kept])) if first_damaged(codes, sizes) < 0 else None
