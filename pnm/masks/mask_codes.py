"""Masks of many images as files have them, RLE texts and corners of polygons, drawn as runs in numba when needed.

An example, a mask of two rectangles as polygons and one as RLE text, of an image of 2 x 3::

    >>> corners = np.array([[0, 5, 5, 0, 10, 15, 15, 10], [0, 0, 5, 5, 0, 0, 10, 10]], np.int32)  # fifths of a pixel
    >>> text, bounds = np.frombuffer(bytearray(b"231"), np.uint8), np.array([0, 0, 3])
    >>> codes = MaskCodes(text, bounds, corners[0], corners[1], np.array([0, 4, 8]), np.array([0, 2, 2]))
    >>> masks, wrong, fault = draw(codes, np.array([0, 1]), 2, 3)
    >>> masks.starts[:3].tolist(), masks.ends[:3].tolist(), masks.offsets.tolist()
    ([0, 4, 2], [1, 6, 5], [0, 2, 3])
"""

from typing import NamedTuple

import numpy as np

from pnm.kernels import entry_kernel, kernel
from pnm.masks.polygon_runs import draw_polygon, unite

CUT_SHORT, STRANGE, NEGATIVE, TOO_MANY, TOO_FEW = range(1, 6)
MOST_PIXELS = 2**29 - 1  # of an image; beyond, pycocotools writes numbers past the end of its buffer
_WIDEST_NUMBER = 60  # bits; far more than any image needs, and no sum overflows


class MaskRuns(NamedTuple):
    """N masks of one image. Runs of mask n are ``starts[offsets[n]:offsets[n + 1]]``, sorted, neither empty nor
    touching; a run may go on from the foot of a column to the head of the next.

    Attributes:
        starts, ends: (R,) int64, first pixel of each run and the one after its last.
        offsets: (N + 1,) int64.
        areas: (N,) int64, pixels.
        boxes_yxyx: (N, 4) int64, first row and column, and those after the last; zeros for an empty mask.
        height, width: of the image, in pixels.
    """

    starts: np.ndarray
    ends: np.ndarray
    offsets: np.ndarray
    areas: np.ndarray
    boxes_yxyx: np.ndarray
    height: int
    width: int


class MaskCodes(NamedTuple):
    """N masks of any images, not yet drawn. A mask with polygons is their union, one without has a text.

    Attributes:
        text: (L,) uint8, the "counts" of compressed COCO RLEs; that of mask n is ``text[bounds[n]:bounds[n + 1]]``.
        bounds: (N + 1,) int64.
        x, y: (C,) int32, corners in fifths of a pixel; polygon p has ``corners[p]`` to ``corners[p + 1] - 1``.
        corners: (P + 1,) int64.
        polygons: (N + 1,) int64; mask n has the polygons ``polygons[n]`` to ``polygons[n + 1] - 1``.
    """

    text: np.ndarray
    bounds: np.ndarray
    x: np.ndarray
    y: np.ndarray
    corners: np.ndarray
    polygons: np.ndarray


NO_CODES = MaskCodes(
    np.empty(0, np.uint8),
    np.zeros(1, np.int64),
    np.empty(0, np.int32),
    np.empty(0, np.int32),
    np.zeros(1, np.int64),
    np.zeros(1, np.int64),
)


@kernel
def _read_text(
    text: np.ndarray, at: int, last: int, pixels: int, starts: np.ndarray, ends: np.ndarray, end: int
) -> tuple[int, int]:
    """Writes the runs of an RLE text to ``starts[end:]`` and ``ends[end:]``; the next free place, and the fault or 0.

    A number is written in characters of five bits, the lowest first; 32 stands for "there is more" and 16 in the last
    character for a minus. From the fourth on, it is the difference from the last but one.
    """
    position, count, previous, last_but_one, first = 0, 0, 0, 0, end
    while at < last:
        number, shift, piece = 0, 0, 32
        while piece & 32:
            if at == last:
                return end, CUT_SHORT
            piece = np.int64(text[at]) - 48
            if piece < 0 or piece > 63 or shift >= _WIDEST_NUMBER:
                return end, STRANGE
            number |= (piece & 31) << shift
            shift += 5
            at += 1
        if piece & 16:
            number -= 1 << shift
        if count > 2:
            number += last_but_one
        if number < 0:
            return end, NEGATIVE
        if number > pixels - position:
            return end, TOO_MANY
        if count & 1 and number:
            if end > first and ends[end - 1] == position:
                end -= 1
            else:
                starts[end] = position
            ends[end] = position + number
            end += 1
        position += number
        count, previous, last_but_one = count + 1, number, previous
    return end, (TOO_FEW if position < pixels else 0)


@kernel
def _measure(starts: np.ndarray, ends: np.ndarray, first: int, last: int, height: int, box: np.ndarray) -> int:
    """Area of a mask whose runs are first..last - 1, at least one; fills ``box`` (4,), see :class:`MaskRuns`."""
    area, x, foot = 0, starts[first] // height, 0
    foot = (x + 1) * height
    box[0], box[1], box[2] = height, x, 0
    for r in range(first, last):
        start, end = starts[r], ends[r]
        area += end - start
        while start >= foot:
            x, foot = x + 1, foot + height
        box[0] = min(box[0], start - foot + height)
        if end > foot:
            box[0], box[2] = 0, height
            while end > foot:
                x, foot = x + 1, foot + height
        else:
            box[2] = max(box[2], end - foot + height)
    box[3] = x + 1
    return area


@kernel
def _enlarged(array: np.ndarray, used: int, room: int) -> np.ndarray:
    if room <= array.size:
        return array
    larger = np.empty(max(room, 2 * array.size), array.dtype)
    larger[:used] = array[:used]
    return larger


@kernel
def _draw_polygons(codes: MaskCodes, n: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    p = codes.polygons[n]
    first, last = codes.corners[p], codes.corners[p + 1]
    starts, ends = draw_polygon(codes.x[first:last], codes.y[first:last], height, width)
    for p in range(codes.polygons[n] + 1, codes.polygons[n + 1]):
        first, last = codes.corners[p], codes.corners[p + 1]
        more_starts, more_ends = draw_polygon(codes.x[first:last], codes.y[first:last], height, width)
        starts, ends = unite(starts, ends, more_starts, more_ends)
    return starts, ends


@kernel
def draw(codes: MaskCodes, numbers: np.ndarray, height: int, width: int) -> tuple[MaskRuns, int, int]:
    """Masks of one image.

    Args:
        codes: :class:`MaskCodes`.
        numbers: (N,) int64, which of them; -1 gives an empty mask.
        height, width: of the image.

    Returns:
        The masks; place in ``numbers`` and fault of the first one that is damaged, or -1 and 0. What comes after a
        damaged one is not drawn.
    """
    offsets, areas = np.zeros(numbers.size + 1, np.int64), np.zeros(numbers.size, np.int64)
    boxes, end = np.zeros((numbers.size, 4), np.int64), 0
    starts, ends = np.empty(256, np.int64), np.empty(256, np.int64)
    for k in range(numbers.size):
        n = numbers[k]
        offsets[k] = end
        if n < 0:
            continue
        if codes.polygons[n] < codes.polygons[n + 1]:
            more_starts, more_ends = _draw_polygons(codes, n, height, width)
            last = end + more_starts.size
            starts, ends = _enlarged(starts, end, last), _enlarged(ends, end, last)
            starts[end:last], ends[end:last] = more_starts, more_ends
        else:
            room = end + (codes.bounds[n + 1] - codes.bounds[n]) // 2 + 1
            starts, ends = _enlarged(starts, end, room), _enlarged(ends, end, room)
            last, fault = _read_text(
                codes.text, codes.bounds[n], codes.bounds[n + 1], height * width, starts, ends, end
            )
            if fault:
                return MaskRuns(starts, ends, offsets, areas, boxes, height, width), k, fault
        if end < last:
            areas[k] = _measure(starts, ends, end, last, height, boxes[k])
        end = last
    offsets[numbers.size] = end
    return MaskRuns(starts, ends, offsets, areas, boxes, height, width), -1, 0


@entry_kernel
def draw_all(codes: MaskCodes, masks: MaskRuns) -> tuple[int, int, int]:
    """Draws all masks into the arrays of ``masks``; see :func:`draw`.

    Returns:
        How many runs they have, which were written only if all have room; place and fault of the first damaged one.
    """
    drawn, wrong, fault = draw(codes, np.arange(masks.areas.size), masks.height, masks.width)
    masks.offsets[:], masks.areas[:], masks.boxes_yxyx[:] = drawn.offsets, drawn.areas, drawn.boxes_yxyx
    runs = drawn.offsets[-1]
    if runs <= masks.starts.size:
        masks.starts[:runs], masks.ends[:runs] = drawn.starts[:runs], drawn.ends[:runs]
    return runs, wrong, fault


@entry_kernel
def first_damaged(codes: MaskCodes, sizes: np.ndarray) -> int:
    """Number of the first mask whose text is damaged, or -1; ``sizes`` (N, 2) int64, height and width of the images."""
    starts, ends = np.empty(256, np.int64), np.empty(256, np.int64)
    for n in range(len(sizes)):
        room = (codes.bounds[n + 1] - codes.bounds[n]) // 2 + 1
        starts, ends = _enlarged(starts, 0, room), _enlarged(ends, 0, room)
        if codes.polygons[n] == codes.polygons[n + 1]:
            pixels = sizes[n, 0] * sizes[n, 1]
            if _read_text(codes.text, codes.bounds[n], codes.bounds[n + 1], pixels, starts, ends, 0)[1]:
                return n
    return -1
