"""Masks as polygons that run along the edges of the pixels: COCO's rule makes the very same pixels of them.

A mask of three pixels, around which there is one outline, of six corners::

    >>> import numpy as np
    >>> from pnm.masks.crops import crop_array
    >>> [outline.tolist() for outline in mask_outlines(crop_array(np.array([[1, 1], [1, 0]])))]
    [[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0], [1.0, 2.0], [0.0, 2.0]]]
"""

from collections.abc import Sequence

import cv2
import numba
import numpy as np

from pnm.masks.crops import MaskCrop

_RIGHT, _DOWN, _LEFT, _UP = 0, 1, 2, 3


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _trace(
    labels: np.ndarray, corners: np.ndarray, ends: np.ndarray, parts: np.ndarray, leaving: np.ndarray
) -> tuple[int, int]:
    """Loops along the edges between foreground and background, the foreground to the right of the way.

    Args:
        labels: (h + 2, w + 2) int32, the number of the 4-connected part of each pixel, 0 for background and frame.
        corners: filled with (x, y) where a loop turns; ``ends`` with the number of corners up to each loop's end, and
            ``parts`` with the part that it is of.
        leaving: (h + 2, w + 2) zeros: bits of the ways that leave a corner.

    Returns:
        Numbers of loops and of corners.
    """
    height, width = labels.shape
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if labels[y, x]:
                if not labels[y - 1, x]:
                    leaving[y - 1, x - 1] |= 1 << _RIGHT
                if not labels[y, x + 1]:
                    leaving[y - 1, x] |= 1 << _DOWN
                if not labels[y + 1, x]:
                    leaving[y, x] |= 1 << _LEFT
                if not labels[y, x - 1]:
                    leaving[y, x - 1] |= 1 << _UP
    loops, count = 0, 0
    for first_y in range(height - 1):
        for first_x in range(width - 1):
            while leaving[first_y, first_x]:
                way = 0
                while not leaving[first_y, first_x] >> way & 1:
                    way += 1
                # The pixel to the right of the first step.
                inner_y = first_y + (1 if way in (_RIGHT, _DOWN) else 0)
                inner_x = first_x + (1 if way in (_RIGHT, _UP) else 0)
                parts[loops] = labels[inner_y, inner_x]
                y, x, last = first_y, first_x, -1
                while True:
                    leaving[y, x] &= ~(1 << way)
                    if way != last:
                        corners[count, 0], corners[count, 1] = x, y
                        count += 1
                    last = way
                    y += (way == _DOWN) - (way == _UP)
                    x += (way == _RIGHT) - (way == _LEFT)
                    if y == first_y and x == first_x and not leaving[y, x] >> (way + 1) % 4 & 1:
                        break
                    for turn in (1, 0, 3):  # to the right first: parts that touch at a corner stay apart
                        if leaving[y, x] >> (way + turn) % 4 & 1:
                            way = (way + turn) % 4
                            break
                loops += 1
                ends[loops - 1] = count
    return loops, count


def _area(outline: np.ndarray) -> float:
    """Twice the area; negative of a hole."""
    x, y = outline.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _loops(crop: MaskCrop) -> list[tuple[int, np.ndarray]]:
    """(part, (N, 2) float64 corners in the image) of each loop."""
    _, labels = cv2.connectedComponents(np.pad(crop.pixels.astype(np.uint8), 1), connectivity=4)
    most = 4 * int(np.count_nonzero(crop.pixels))
    corners, ends = np.empty((most, 2), np.int64), np.empty(most, np.int64)
    parts, leaving = np.empty(most, np.int64), np.zeros(labels.shape, np.uint8)
    loops, count = _trace(labels, corners, ends, parts, leaving)
    outlines = np.split(corners[:count].astype(np.float64) + (crop.left, crop.top), ends[: loops - 1])
    return list(zip(parts[:loops].tolist(), outlines))


def _joined(outer: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One outline with both, by a seam that is gone there and back, between corners that are near each other."""
    step = max(1, len(outer) * len(other) // 10**6)  # a seam may be a little longer; it has no area anyway
    distances = np.abs(outer[::step, None] - other[None, :]).sum(axis=2)
    at, start = divmod(int(distances.argmin()), len(other))
    at *= step
    ring = np.concatenate([other[start:], other[: start + 1]])
    return np.concatenate([outer[: at + 1], ring, outer[at:]])


def mask_outlines(crop: MaskCrop) -> list[np.ndarray]:
    """An outline of each 4-connected part of a mask, holes joined to it by seams.

    Returns:
        Of each part (N, 2) float64, (x, y) of the corners of pixels, clockwise as the picture is seen; (0, 0) is the
        upper left corner of the image. Their pixels by COCO's rule, all together, are those of the mask. An empty mask
        has none.
    """
    if not crop.pixels.any():
        return []
    loops = _loops(crop)
    outlines = {part: outline for part, outline in loops if _area(outline) > 0}
    for part, outline in loops:
        if _area(outline) < 0:
            outlines[part] = _joined(outlines[part], outline)
    return [outlines[part] for part in sorted(outlines)]


def one_outline(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """One polygon of several, joined by seams, for formats that have one for each object.

    Args:
        outlines: at least one, each (N, 2).
    """
    whole = outlines[0]
    for outline in outlines[1:]:
        whole = _joined(whole, outline)
    return whole
