"""Boundary patches of a mask, and the mask put together from refined patches (BPR: Hu et al., "Improving Image
Segmentation with Boundary Patch Refinement", IJCV 2022, section 3).

S is the number of foreground pixels in the 3 x 3 pixels around a pixel, background outside the image. A *boundary
pixel* has S from 1 to 8; the more even the split, the higher its score, min(S, 9 - S). On each a square box is centred,
from x - size // 2 on, and greedy non-maximum suppression thins them out: by falling score, equal scores in reading
order (or scattered, see ``TIES``), a box goes if its IoU with one that stays exceeds the threshold. All boxes have one
size, so which ones a box suppresses depends on the distance of the centres alone: it is a stamp that is laid over the
map of scores. That takes time in proportion to the mask's pixels, and gives exactly what comparing all pairs of boxes
does.

Only then are boxes moved into the image. Below a threshold of 1/3 a box may suppress another whose centre it does not
cover: boundary pixels that no box covers then get their own, in the same order.

An example, a bar of 2 x 4 pixels in an image of 6 x 6 and boxes of 4 x 4. The stamp: in its own row a box suppresses
those up to two columns away, a row away up to one, two rows away none but the one straight above or below::

    >>> suppression_reach(4, 0.25).tolist()
    [2, 1, 0, -1]
    >>> mask = np.zeros((6, 6), bool)
    >>> mask[2:4, 1:5] = True
    >>> boundary_patches(mask, 4, 0.25).tolist()  # first rows and columns
    [[0, 0], [0, 2], [2, 0], [2, 2]]
"""

from functools import lru_cache

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.masks.crops import MaskCrop, crop_array

_ROOM = 2**20  # boxes that memory is asked for at first
_LEVELS = 4  # of min(S, 9 - S)
# Order of equal scores: "reading", as the authors' code has it, or "scattered", by a hash of the pixel's place in the
# image, which needs fewer patches: neighbours in reading order leave boxes as close together as the threshold allows.
TIES = ("reading", "scattered")


def check_patch_settings(size: int, threshold: float, pad: int = 0, ties: str = "reading") -> None:
    """Raises UserError unless patches of this size, NMS threshold, padding and order can be."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 2 <= size <= 4096:
        raise UserError(f"the patch size is {size!r}, expected whole pixels, 2 to 4096, like 64")
    if isinstance(threshold, bool) or not 0 <= threshold < 1:
        raise UserError(f"the NMS threshold is {threshold!r}, expected an IoU in [0, 1), like 0.25")
    if isinstance(pad, bool) or not isinstance(pad, (int, np.integer)) or not 0 <= pad <= 4096:
        raise UserError(f"the padding is {pad!r}, expected whole pixels from 0")
    if ties not in TIES:
        raise UserError(f"the order of ties is {ties!r}, expected one of {', '.join(TIES)}")


@lru_cache(maxsize=16)
def suppression_reach(size: int, threshold: float) -> np.ndarray:
    """(size,) int64: for each distance of rows, the largest distance of columns at which a box is suppressed, or -1.

    Boxes of side s that are dy and dx apart share i = (s - dy)(s - dx) pixels; their IoU is i / (2 s^2 - i).
    """
    shared = np.outer(np.arange(size, 0, -1), np.arange(size, 0, -1)).astype(np.float64)
    return (shared / (2 * size * size - shared) > threshold).sum(axis=1) - 1


@kernel
def _score_row(above: np.ndarray, here: np.ndarray, below: np.ndarray, columns: np.ndarray, row: np.ndarray) -> None:
    """``row[x]`` = min(S, 9 - S) of the pixel at x + 1."""
    nine = np.uint8(9)
    for x in range(columns.size):
        columns[x] = above[x] + here[x] + below[x]
    for x in range(row.size):
        s = np.uint8(np.uint8(columns[x] + columns[x + 1]) + columns[x + 2])
        row[x] = min(s, np.uint8(nine - s))


@kernel
def _score(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores min(S, 9 - S) of the crop and a pixel around it, a multiple of 8 wide, 0 outside the image; and the
    (N, 2) places in them that are not 0, best first."""
    h, w = pixels.shape
    stride = (w + 2 + 7) // 8 * 8
    padded, columns = np.zeros((h + 4, stride + 2), np.uint8), np.empty(stride + 2, np.uint8)
    padded[2 : h + 2, 2 : w + 2] = pixels
    levels = np.zeros((h + 2, stride), np.uint8)
    words = levels.view(np.uint64)
    number = 0
    count = np.zeros(_LEVELS + 1, np.int64)
    places = np.empty((h + 2) * 8, np.int32)  # places that are not 0, in reading order; grows
    for y in range(max(0, 1 - top), min(h + 2, height - top + 1)):
        _score_row(padded[y], padded[y + 1], padded[y + 2], columns, levels[y])
        if left == 0:
            levels[y, 0] = 0
        levels[y, min(stride, width - left + 1) :] = 0
        if number + stride > places.size:
            places = np.concatenate((places, np.empty(places.size + stride, np.int32)))
        for k in range(words.shape[1]):
            if words[y, k]:
                for x in range(8 * k, 8 * k + 8):
                    if levels[y, x]:
                        places[number] = y * stride + x
                        number += 1
                        count[levels[y, x]] += 1
    at = np.zeros(_LEVELS + 1, np.int64)
    for level in range(_LEVELS - 1, 0, -1):
        at[level] = at[level + 1] + count[level + 1]
    best_first = np.empty((number, 2), np.int32)
    for n in range(number):
        y, x = places[n] // stride, places[n] % stride
        level = levels[y, x]
        best_first[at[level], 0], best_first[at[level], 1] = y, x
        at[level] += 1
    return levels, best_first


@kernel
def _hash(y: int, x: int) -> int:
    """32 bits that a place in the image has in no visible order (a finalizer of multiplications and shifts)."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.uint64(y) * np.uint64(0x9E3779B1) + np.uint64(x) * np.uint64(0x85EBCA77)) & mask
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x7FEB352D)) & mask
    h = ((h ^ (h >> np.uint64(15))) * np.uint64(0x846CA68B)) & mask
    return int(h ^ (h >> np.uint64(16)))


@kernel
def _scattered(levels: np.ndarray, best_first: np.ndarray, top: int, left: int) -> np.ndarray:
    """The places of ``best_first``, equal scores by their hash."""
    keys = np.empty(len(best_first), np.int64)
    for n in range(len(best_first)):
        y, x = best_first[n]
        keys[n] = ((_LEVELS - np.int64(levels[y, x])) << 32) + _hash(y + top, x + left)
    return best_first[np.argsort(keys, kind="mergesort")]


@kernel
def _suppress(levels: np.ndarray, candidates: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Which candidates stay, (N,) bool. Wipes ``levels``."""
    rows, columns = levels.shape
    stays = np.zeros(len(candidates), np.bool_)
    for n in range(len(candidates)):
        y, x = candidates[n]
        if levels[y, x] == 0:
            continue
        stays[n] = True
        for other in range(max(0, y - reach.size + 1), min(rows, y + reach.size)):
            far = reach[abs(other - y)]
            levels[other, max(0, x - far) : min(columns, x + far + 1)] = 0
    return stays


@kernel
def _place(center: int, size: int, length: int) -> int:
    """First pixel of a box, moved into the image; 0 where the image is smaller."""
    return min(max(center - size // 2, 0), max(length - size, 0))


@kernel
def _cover(covered: np.ndarray, y: int, x: int, size: int) -> None:
    """Marks the part of a box that begins at (y, x) of ``covered``."""
    for row in range(max(0, y), min(covered.shape[0], y + size)):
        covered[row, max(0, x) : max(0, min(covered.shape[1], x + size))] = True


@entry_kernel
def _find(
    pixels: np.ndarray,
    top: int,
    left: int,
    height: int,
    width: int,
    size: int,
    reach: np.ndarray,
    complete: bool,
    scattered: bool,
    out: np.ndarray,
) -> int:
    """Number of boxes, whose first pixels are written to ``out`` (M, 2), if they have room there."""
    levels, candidates = _score(pixels, top, left, height, width)
    if scattered:
        candidates = _scattered(levels, candidates, top, left)
    stays = _suppress(levels, candidates, reach)
    corners, number = np.empty((len(candidates), 2), np.int32), 0
    for n in range(len(candidates)):
        if stays[n]:
            corners[number, 0] = _place(candidates[n, 0] + top - 1, size, height)
            corners[number, 1] = _place(candidates[n, 1] + left - 1, size, width)
            number += 1
    if complete:
        covered = np.zeros(levels.shape, np.bool_)
        for k in range(number):
            _cover(covered, corners[k, 0] - top + 1, corners[k, 1] - left + 1, size)
        for n in range(len(candidates)):
            y, x = candidates[n]
            if not covered[y, x]:
                corners[number, 0], corners[number, 1] = (
                    _place(y + top - 1, size, height),
                    _place(x + left - 1, size, width),
                )
                _cover(covered, corners[number, 0] - top + 1, corners[number, 1] - left + 1, size)
                number += 1
    if number <= out.shape[0]:
        out[:number] = corners[:number]
    return number


def find_patches(
    crop: MaskCrop, height: int, width: int, size: int, threshold: float, ties: str = "reading"
) -> np.ndarray:
    """As :func:`boundary_patches`, of a crop in an image of height x width."""
    check_patch_settings(size, threshold, ties=ties)
    if not crop.pixels.any():
        return np.zeros((0, 2), np.int32)
    reach = suppression_reach(size, threshold)
    complete = max(len(reach[reach >= 0]) - 1, reach[0]) > (size - 1) // 2
    arguments = (crop.top, crop.left, height, width, size, reach, complete, ties == "scattered")
    pixels, (h, w) = np.ascontiguousarray(crop.pixels), crop.pixels.shape
    corners = np.empty((min((h + 2) * (w + 2), _ROOM), 2), np.int32)  # one for each pixel: most of it isn't touched
    number = _find(pixels, *arguments, corners)
    if number > len(corners):
        corners = np.empty((number, 2), np.int32)
        _find(pixels, *arguments, corners)
    corners = corners[:number]
    # Boxes that were moved may have become equal.
    _, first = np.unique(corners[:, 0].astype(np.int64) * width + corners[:, 1], return_index=True)
    return corners[np.sort(first)]


def boundary_patches(mask: np.ndarray, size: int = 64, threshold: float = 0.25, ties: str = "reading") -> np.ndarray:
    """Boxes that cover all boundary pixels of a mask, see the module's head.

    Args:
        mask: (H, W) bool or integers, other than 0 is foreground.
        size: of a patch, in pixels.
        threshold: IoU above which a box is suppressed; the larger, the more boxes.
        ties: order of equal scores, one of ``TIES``.

    Returns:
        (N, 2) int32, row and column of each box's first pixel, best score first, all different. A box lies wholly in
        the image, or begins at 0 along a side that is shorter than itself. Of an empty mask there is none.

    Raises:
        UserError: no such mask, or settings that make no sense.
    """
    crop = crop_array(mask)
    return find_patches(crop, mask.shape[0], mask.shape[1], size, threshold, ties)


@entry_kernel
def _cut(pixels: np.ndarray, top: int, left: int, corners: np.ndarray, pad: int, patches: np.ndarray) -> None:
    side = patches.shape[1]
    h, w = pixels.shape
    for n in range(len(corners)):
        y0, x0 = corners[n, 0] - pad - top, corners[n, 1] - pad - left
        first, last = max(0, -x0), min(side, w - x0)
        for y in range(max(0, -y0), min(side, h - y0)):
            for x in range(first, last):
                patches[n, y, x] = pixels[y0 + y, x0 + x]


def cut_patches(crop: MaskCrop, corners: np.ndarray, size: int, pad: int = 0) -> np.ndarray:
    """(N, size + 2 pad, size + 2 pad) bool: the mask in each box and ``pad`` pixels around it; False outside it."""
    patches = np.zeros((len(corners), size + 2 * pad, size + 2 * pad), np.bool_)
    _cut(np.ascontiguousarray(crop.pixels), crop.top, crop.left, np.ascontiguousarray(corners), pad, patches)
    return patches
