"""Binary masks as runs of foreground pixels, read from COCO segmentations, for numba kernels.

Pixels are numbered down the columns, pixel (y, x) of an image of height H being y + x * H, as in COCO's RLE. COCO's
own C code trusts what it reads; here every count is checked, so damaged files end in an error and not in a crash.

An example, a mask of three pixels in an image of 2 x 3, whose pixels are numbered 0 2 4 / 1 3 5::

    >>> mask = np.array([[0, 1, 1], [0, 1, 0]])
    >>> masks = decode_masks([mask], 2, 3)
    >>> masks.starts[:1].tolist(), masks.ends[:1].tolist(), masks.offsets.tolist()  # pixels 2, 3 and 4
    ([2], [5], [0, 1])
    >>> masks.areas.tolist(), masks.boxes_yxyx.tolist()
    ([3], [[0, 1, 2, 3]])
    >>> array_counts(mask).tolist(), rle_text(array_counts(mask))  # 2 of background, 3 of foreground, 1 of background
    ([2, 3, 1], b'231')
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from pycocotools import mask as coco_mask

from pnm.errors import UserError

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")

_FAULTS = (
    "",
    "its counts end in the midst of a number",
    "its counts have a character that COCO's RLE doesn't use",
    "it has a negative count",
    "its counts add up to more than height x width",
    "its counts add up to less than height x width",
)
_CUT_SHORT, _STRANGE, _NEGATIVE, _TOO_MANY, _TOO_FEW = range(1, 6)
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


@_kernel
def _decode(
    text: np.ndarray,
    bounds: np.ndarray,
    height: int,
    width: int,
    starts: np.ndarray,
    ends: np.ndarray,
    offsets: np.ndarray,
    areas: np.ndarray,
    boxes: np.ndarray,
) -> tuple[int, int]:
    """Fills the arrays of :class:`MaskRuns`; ``(mask, fault)`` of the first mask that is wrong, or ``(-1, 0)``.

    A number is written in characters of five bits, the lowest first; 32 stands for "there is more" and 16 in the last
    character for a minus. From the fourth on, it is the difference from the last but one.
    """
    pixels, end = height * width, 0
    for n in range(bounds.size - 1):
        offsets[n] = end
        at, position, count, last, last_but_one = bounds[n], 0, 0, 0, 0
        x, foot = 0, height  # the column of the present pixel, and the first pixel after it
        top, left, bottom, right = height, width, 0, 0
        while at < bounds[n + 1]:
            number, shift, piece = 0, 0, 32
            while piece & 32:
                if at == bounds[n + 1]:
                    return n, _CUT_SHORT
                piece = np.int64(text[at]) - 48
                if piece < 0 or piece > 63 or shift >= _WIDEST_NUMBER:
                    return n, _STRANGE
                number |= (piece & 31) << shift
                shift += 5
                at += 1
            if piece & 16:
                number -= 1 << shift
            if count > 2:
                number += last_but_one
            if number < 0:
                return n, _NEGATIVE
            if number > pixels - position:
                return n, _TOO_MANY
            if count % 2 and number:
                while position >= foot:
                    x, foot = x + 1, foot + height
                left, y = min(left, x), position - foot + height
                top = min(top, y)
                bottom = max(bottom, min(y + number, height))
                while position + number > foot:
                    x, foot, top, bottom = x + 1, foot + height, 0, height
                right = x + 1
                if end > offsets[n] and ends[end - 1] == position:
                    end -= 1
                else:
                    starts[end] = position
                ends[end] = position + number
                end += 1
                areas[n] += number
            position += number
            count, last, last_but_one = count + 1, number, last
        if position < pixels:
            return n, _TOO_FEW
        if areas[n]:
            boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = top, left, bottom, right
    offsets[bounds.size - 1] = end
    return -1, 0


def decode_masks(
    segmentations: Sequence[Any], height: int, width: int, label: Callable[[int], str] = "mask {}".format
) -> MaskRuns:
    """Masks of one image.

    Args:
        segmentations: of each, a COCO RLE ``{"size": [H, W], "counts": str, bytes or list}``, a list of polygons
            ``[[x, y, x, y, x, y, ...], ...]``, or an (H, W) array whose pixels other than 0 are foreground.
        height, width: of the image.
        label: what an error calls mask n, given n.

    Raises:
        UserError: the image has no size; a segmentation is none of these, damaged, or not of the image's size.
    """
    if not (height >= 1 and width >= 1 and height * width <= MOST_PIXELS):
        raise UserError(f"the image is {height} x {width}, expected height and width of 1 to {MOST_PIXELS} pixels")
    texts = [_rle_text(segmentation, height, width, label, n) for n, segmentation in enumerate(segmentations)]
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=bounds[1:])
    joined = np.frombuffer(b"".join(texts), np.uint8)
    starts, ends = np.empty((2, len(joined) // 2 + 1), np.int64)
    masks = MaskRuns(
        starts, ends, np.zeros_like(bounds), np.zeros(len(texts), np.int64), np.zeros((len(texts), 4), np.int64),
        int(height), int(width),
    )  # fmt: skip
    wrong, fault = _decode(joined, bounds, masks.height, masks.width, *masks[:5])
    if wrong >= 0:
        raise UserError(
            f"{label(wrong)}: the RLE of this {height} x {width} mask is damaged, {_FAULTS[fault]}: write it again, "
            "e.g. with pycocotools.mask.encode"
        )
    return masks


def decode_entries(
    entries: Sequence[Mapping[str, Any]], size: tuple[int, int], label: Callable[[int], str]
) -> MaskRuns:
    """Masks of annotations or detections; a UserError calls entry n ``label(n)``."""
    for n, entry in enumerate(entries):
        if "segmentation" not in entry:
            raise UserError(f"{label(n)} has no segmentation: add one, or evaluate boxes alone")
    return decode_masks([entry["segmentation"] for entry in entries], *size, label)


def _rle_text(segmentation: Any, height: int, width: int, label: Callable[[int], str], n: int) -> bytes:
    if isinstance(segmentation, Mapping):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(size, (list, tuple, np.ndarray)) or len(size) != 2 or tuple(size) != (height, width):
            raise UserError(
                f"{label(n)}: the RLE has size {size}, the image is {height} x {width}: the mask must be that of the "
                "image in its own size, as [height, width]"
            )
        if isinstance(counts, bytes):
            return counts
        if isinstance(counts, str):
            return counts.encode("utf-8", "surrogatepass")
        return _encode_counts(counts, height, width, lambda: label(n))
    if isinstance(segmentation, np.ndarray):
        if segmentation.shape != (height, width):
            raise UserError(f"{label(n)}: the mask is {segmentation.shape}, the image {height} x {width}")
        return rle_text(array_counts(segmentation))
    check_polygons(segmentation, height, width, lambda: label(n))
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))["counts"]


def _encode_counts(counts: Any, height: int, width: int, label: Callable[[], str]) -> bytes:
    whole = isinstance(counts, (list, tuple)) and all(isinstance(c, (int, np.integer)) and c >= 0 for c in counts)
    if not whole or sum(counts) != height * width:
        raise UserError(
            f"{label()}: the RLE's counts are {str(counts)[:60]}, expected a compressed string, or a list of whole "
            f"numbers from 0 that add up to {height} x {width} = {height * width}"
        )
    return rle_text(np.array(counts, np.int64))


def check_polygons(polygons: Any, height: int, width: int, label: Callable[[], str]) -> None:
    """Raises a UserError unless COCO's C code can draw these ``polygons`` without harm."""
    if not isinstance(polygons, (list, tuple)) or not polygons:
        raise UserError(f"{label()}: segmentation is {str(polygons)[:60]}, expected an RLE or a list of polygons")
    reach = max(height, width)
    for polygon in polygons:
        if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
            raise UserError(f"{label()}: polygon {str(polygon)[:60]} needs at least three points, as x, y, x, y, ...")
        try:
            values = np.asarray(polygon)
        except (ValueError, OverflowError):
            values = np.empty(0, object)
        if values.dtype.kind not in "iuf" or not (values.min() >= -reach and values.max() <= 2 * reach):
            raise UserError(
                f"{label()}: polygon {str(polygon)[:60]} has coordinates that are no numbers or lie far outside the "
                f"image of {height} x {width}: give pixels"
            )


@_kernel
def _count_down_columns(crop: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Counts of a mask that is background outside of ``crop`` (rows, columns), whose first pixel is (top, left)."""
    rows, columns = crop.shape
    counts = np.empty((rows + 1) * columns + 2, np.int64)
    number, before, since = 0, False, 0
    for x in range(columns):
        first = (left + x) * height + top
        for y in range(rows):
            if crop[y, x] != before:
                counts[number] = first + y - since
                number, before, since = number + 1, not before, first + y
        if before and (rows < height or x == columns - 1):  # otherwise the run goes on in the next column
            counts[number] = first + rows - since
            number, before, since = number + 1, False, first + rows
    if since < height * width:
        counts[number] = height * width - since
        number += 1
    return counts[:number].copy()


def array_counts(mask: np.ndarray) -> np.ndarray:
    """COCO's run lengths of an (H, W) mask, int64: background, foreground, background... down the columns."""
    foreground = mask if mask.dtype == np.bool_ else mask != 0
    rows, columns = np.flatnonzero(foreground.any(axis=1)), np.flatnonzero(foreground.any(axis=0))
    if not len(rows):
        return np.array([mask.size])
    crop = np.ascontiguousarray(foreground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return _count_down_columns(crop, rows[0], columns[0], *mask.shape)


@_kernel
def _write_text(counts: np.ndarray, text: np.ndarray) -> int:
    """Writes counts as :func:`_decode` reads them; the number of characters."""
    end = 0
    for k in range(counts.size):
        number = counts[k] - counts[k - 2] if k > 2 else counts[k]
        more = True
        while more:
            piece = number & 31
            number >>= 5
            more = number != (-1 if piece & 16 else 0)
            text[end] = piece + (32 if more else 0) + 48
            end += 1
    return end


def rle_text(counts: np.ndarray) -> bytes:
    """The "counts" of a compressed COCO RLE; ``counts`` (R,) int64 run lengths, background first."""
    text = np.empty(13 * counts.size, np.uint8)
    return text[: _write_text(counts, text)].tobytes()


def crop_rle_text(crop: np.ndarray, top: int, left: int, height: int, width: int) -> bytes:
    """The "counts" of a mask that is background outside of ``crop`` (h, w), whose first pixel is (top, left)."""
    if not crop.size:
        return rle_text(np.array([height * width]))
    return rle_text(_count_down_columns(np.ascontiguousarray(crop), top, left, height, width))


@_kernel
def shared_pixels(
    starts_a: np.ndarray,
    ends_a: np.ndarray,
    i: int,
    last_a: int,
    starts_b: np.ndarray,
    ends_b: np.ndarray,
    j: int,
    last_b: int,
) -> int:
    """Pixels that runs i..last_a - 1 of one mask and runs j..last_b - 1 of another have in common."""
    shared = 0
    while i < last_a and j < last_b:
        shared += max(0, min(ends_a[i], ends_b[j]) - max(starts_a[i], starts_b[j]))
        first_ends = ends_a[i] < ends_b[j]
        i += first_ends
        j += not first_ends
    return shared
