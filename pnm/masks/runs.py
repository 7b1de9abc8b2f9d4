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
from functools import partial
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.masks.mask_codes import MOST_PIXELS, MaskCodes, MaskRuns, draw_all
from pnm.masks.polygon_runs import FIFTHS, fifths

_FAULTS = (
    "",
    "its counts end in the midst of a number",
    "its counts have a character that COCO's RLE doesn't use",
    "it has a negative count",
    "its counts add up to more than height x width",
    "its counts add up to less than height x width",
)


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
    check_size(height, width)
    codes = mask_codes(segmentations, int(height), int(width), label)
    masks, wrong, fault = _drawn(codes, int(height), int(width))
    if wrong >= 0:
        raise damaged(label(wrong), fault, height, width)
    return masks


def _drawn(codes: MaskCodes, height: int, width: int) -> tuple[MaskRuns, int, int]:
    """As :func:`pnm.masks.mask_codes.draw`, all of them."""
    number = len(codes.bounds) - 1
    room = len(codes.text) // 2 + number
    if len(codes.x):  # a run lies between two edges, and an outline goes as far to the right as to the left
        room += int(np.abs(np.diff(codes.x)).sum()) // FIFTHS + 2 * len(codes.x)
    sizes = np.zeros(number + 1, np.int64), np.zeros(number, np.int64), np.zeros((number, 4), np.int64)
    while True:
        masks = MaskRuns(np.empty(room, np.int64), np.empty(room, np.int64), *sizes, height, width)
        runs, wrong, fault = draw_all(codes, masks)
        if runs <= room:
            return masks._replace(starts=masks.starts[:runs].copy(), ends=masks.ends[:runs].copy()), wrong, fault
        room = runs


def check_size(height: int, width: int) -> None:
    """A UserError unless an image can have this size."""
    if not (height >= 1 and width >= 1 and height * width <= MOST_PIXELS):
        raise UserError(f"the image is {height} x {width}, expected height and width of 1 to {MOST_PIXELS} pixels")


def damaged(name: str, fault: int, height: int, width: int) -> UserError:
    """What is told of a mask that couldn't be drawn."""
    return UserError(
        f"{name}: the RLE of this {height} x {width} mask is damaged, {_FAULTS[fault]}: write it again, "
        "e.g. with pycocotools.mask.encode"
    )


def mask_codes(
    segmentations: Sequence[Any], height: int, width: int, label: Callable[[int], str] = "mask {}".format
) -> MaskCodes:
    """Masks of one image, checked but for their RLE texts and not drawn; as :func:`decode_masks`."""
    texts: list[bytes] = []
    polygons: list[Sequence] = []
    for n, segmentation in enumerate(segmentations):
        if isinstance(segmentation, (Mapping, np.ndarray)):
            texts.append(_rle_text(segmentation, height, width, label, n))
            polygons.append([])
        else:
            check_polygons(segmentation, height, width, partial(label, n))
            texts.append(b"")
            polygons.append(segmentation)
    parts = [np.asarray(polygon, np.float64) for outlines in polygons for polygon in outlines]
    corners = fifths(np.concatenate([np.empty(0), *parts]))
    return MaskCodes(
        np.frombuffer(bytearray(b"".join(texts)), np.uint8),
        bounds_of([len(text) for text in texts]),
        corners[::2].copy(),
        corners[1::2].copy(),
        bounds_of([len(part) // 2 for part in parts]),
        bounds_of([len(outlines) for outlines in polygons]),
    )


def bounds_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where parts of these lengths begin, one after the other, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def decode_entries(
    entries: Sequence[Mapping[str, Any]], size: tuple[int, int], label: Callable[[int], str]
) -> MaskRuns:
    """Masks of annotations or detections; a UserError calls entry n ``label(n)``."""
    check_segmentations(entries, label)
    return decode_masks([entry["segmentation"] for entry in entries], *size, label)


def check_segmentations(entries: Sequence[Mapping[str, Any]], label: Callable[[int], str]) -> None:
    """A UserError if there is an annotation or detection without a mask; it calls entry n ``label(n)``."""
    for n, entry in enumerate(entries):
        if "segmentation" not in entry:
            raise UserError(f"{label(n)} has no segmentation: add one, or evaluate boxes alone")


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
    if segmentation.shape != (height, width):
        raise UserError(f"{label(n)}: the mask is {segmentation.shape}, the image {height} x {width}")
    return rle_text(array_counts(segmentation))


def _encode_counts(counts: Any, height: int, width: int, label: Callable[[], str]) -> bytes:
    whole = isinstance(counts, (list, tuple)) and all(isinstance(c, (int, np.integer)) and c >= 0 for c in counts)
    if not whole or sum(counts) != height * width:
        raise UserError(
            f"{label()}: the RLE's counts are {str(counts)[:60]}, expected a compressed string, or a list of whole "
            f"numbers from 0 that add up to {height} x {width} = {height * width}"
        )
    return rle_text(np.array(counts, np.int64))


def check_polygons(polygons: Any, height: int, width: int, label: Callable[[], str]) -> None:
    """Raises a UserError unless these ``polygons`` can be drawn, by COCO's C code, too."""
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


@entry_kernel
def _count_down_columns(crop: np.ndarray, top: int, left: int, height: int, width: int, counts: np.ndarray) -> int:
    """Writes counts, see :func:`_crop_counts`; their number."""
    rows, columns = crop.shape
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
    return number


def _crop_counts(crop: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Counts of a mask that is background outside of ``crop`` (rows, columns), whose first pixel is (top, left)."""
    rows, columns = crop.shape
    counts = np.empty((rows + 1) * columns + 2, np.int64)
    return counts[: _count_down_columns(np.ascontiguousarray(crop), top, left, height, width, counts)].copy()


def array_counts(mask: np.ndarray) -> np.ndarray:
    """COCO's run lengths of an (H, W) mask, int64: background, foreground, background... down the columns."""
    foreground = mask if mask.dtype == np.bool_ else mask != 0
    rows, columns = np.flatnonzero(foreground.any(axis=1)), np.flatnonzero(foreground.any(axis=0))
    if not len(rows):
        return np.array([mask.size])
    crop = foreground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _crop_counts(crop, int(rows[0]), int(columns[0]), *mask.shape)


@entry_kernel
def _write_text(counts: np.ndarray, text: np.ndarray) -> int:
    """Writes counts as :func:`pnm.masks.mask_codes.draw` reads them; the number of characters."""
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
    return text[: _write_text(np.ascontiguousarray(counts, np.int64), text)].tobytes()


def crop_rle_text(crop: np.ndarray, top: int, left: int, height: int, width: int) -> bytes:
    """The "counts" of a mask that is background outside of ``crop`` (h, w), whose first pixel is (top, left)."""
    if not crop.size:
        return rle_text(np.array([height * width]))
    return rle_text(_crop_counts(crop, top, left, height, width))


@kernel
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
