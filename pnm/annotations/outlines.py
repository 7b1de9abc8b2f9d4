"""Masks as polygons that run along the edges of the pixels: COCO's rule makes the very same pixels of them.

A mask of three pixels, around which there is one outline, of six corners::

    >>> import numpy as np
    >>> from pnm.masks.crops import crop_array
    >>> [outline.tolist() for outline in mask_outlines(crop_array(np.array([[1, 1], [1, 0]])))]
    [[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0], [1.0, 2.0], [0.0, 2.0]]]
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.kernels import kernel
from pnm.masks.crops import MaskCrop

_RIGHT, _DOWN, _LEFT, _UP = 0, 1, 2, 3
_FEW_PARTS = 32


class Loops(NamedTuple):
    """Ways along the edges between foreground and background, the foreground to the right: outer ones, and holes.

    Attributes:
        corners: (C, 2) int64, (x, y) where a loop turns; the first of each is its first in the order of reading.
        ends: (L,) int64, number of corners up to each loop's end.
        parents: (L,) int64, the loop that one meets going to the left from a hole's first corner; -1 of outer loops.
        joints: (L,) int64, the corner of the parent after which that way meets it.
        meets: (L,) int64, the x at which it does.
    """

    corners: np.ndarray
    ends: np.ndarray
    parents: np.ndarray
    joints: np.ndarray
    meets: np.ndarray


@kernel
def _find_leaving(pixels: np.ndarray) -> np.ndarray:
    """(h - 1, w - 1) uint8: bits of the ways that leave each corner, of a mask with a frame of background."""
    height, width = pixels.shape
    leaving = np.zeros((height - 1, width - 1), np.uint8)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if pixels[y, x]:
                if not pixels[y - 1, x]:
                    leaving[y - 1, x - 1] |= 1 << _RIGHT
                if not pixels[y, x + 1]:
                    leaving[y - 1, x] |= 1 << _DOWN
                if not pixels[y + 1, x]:
                    leaving[y, x] |= 1 << _LEFT
                if not pixels[y, x - 1]:
                    leaving[y, x - 1] |= 1 << _UP
    return leaving


@kernel
def _trace(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """:class:`Loops` of a mask (h, w) bool with a frame of background; (0, 0) is the inner corner of the frame."""
    height, width = pixels.shape
    leaving = _find_leaving(pixels)
    most = 0
    for y in range(height - 1):
        for x in range(width - 1):
            for way in range(4):
                most += leaving[y, x] >> way & 1
    corners, ends = np.empty((most, 2), np.int64), np.empty(most, np.int64)
    loop_at = np.empty((height, width), np.int64)  # of the way up at the left side of a pixel
    corner_at = np.empty((height, width), np.int64)  # before it
    parents, joints, meets = np.full(most, -1, np.int64), np.zeros(most, np.int64), np.zeros(most, np.int64)
    loops, count = 0, 0
    for first_y in range(height - 1):
        for first_x in range(width - 1):
            while leaving[first_y, first_x]:
                way = 0
                while not leaving[first_y, first_x] >> way & 1:
                    way += 1
                if pixels[first_y, first_x + 1]:  # above the first step: it is a hole's
                    parents[loops] = -2
                y, x, last = first_y, first_x, -1
                while True:
                    leaving[y, x] &= ~(1 << way)
                    if way != last:
                        corners[count, 0], corners[count, 1] = x, y
                        count += 1
                    last = way
                    if way == _UP:
                        loop_at[y, x + 1], corner_at[y, x + 1] = loops, count - 1
                    y += (way == _DOWN) - (way == _UP)
                    x += (way == _RIGHT) - (way == _LEFT)
                    if y == first_y and x == first_x and not leaving[y, x] >> (way + 1) % 4 & 1:
                        break
                    for turn in (1, 0, 3):  # to the right first: parts that touch at a corner stay apart
                        if leaving[y, x] >> (way + turn) % 4 & 1:
                            way = (way + turn) % 4
                            break
                ends[loops] = count
                loops += 1
    for loop in range(loops):
        if parents[loop] == -2:
            first = ends[loop - 1]
            y, x = corners[first, 1] + 1, corners[first, 0]  # the pixel to the left of the hole's first one
            while pixels[y, x - 1]:
                x -= 1
            parents[loop], joints[loop], meets[loop] = loop_at[y, x], corner_at[y, x], x - 1
    return corners[:count], ends[:loops], parents[:loops], joints[:loops], meets[:loops]


def _outline(loops: Loops, outer: int, children: Mapping[int, Sequence[int]]) -> np.ndarray:
    """(N, 2) of an outer loop and the holes in it, each gone round at the end of a seam there and back."""
    pieces: list[np.ndarray] = []
    todo: list[tuple[str, Any]] = [("loop", outer)]
    while todo:
        kind, what = todo.pop()
        if kind == "points":
            pieces.append(what)
            continue
        first, last = int(loops.ends[what - 1]) if what else 0, int(loops.ends[what])
        steps: list[tuple[str, Any]] = []
        for child in children.get(what, ()):
            joint = int(loops.joints[child]) + 1
            start = loops.corners[loops.ends[child - 1]]
            meeting = np.array([[loops.meets[child], start[1]]])
            steps += [("points", loops.corners[first:joint]), ("points", meeting), ("loop", child)]
            steps += [("points", start[None]), ("points", meeting)]
            first = joint
        steps.append(("points", loops.corners[first:last]))
        todo += reversed(steps)
    return np.concatenate(pieces)


def mask_outlines(crop: MaskCrop) -> list[np.ndarray]:
    """An outline of each 4-connected part of a mask, holes joined to it by seams.

    Returns:
        Of each part (N, 2) float64, (x, y) of the corners of pixels, clockwise as the picture is seen; (0, 0) is the
        upper left corner of the image. Their pixels by COCO's rule, all together, are those of the mask. An empty mask
        has none.
    """
    if not crop.pixels.any():
        return []
    loops = Loops(*_trace(np.pad(crop.pixels, 1)))
    children: dict[int, list[int]] = {}
    rows = loops.corners[np.concatenate([[0], loops.ends[:-1]]), 1]
    for child in np.lexsort((-rows, loops.joints)).tolist():  # in the order in which the way up meets them
        if loops.parents[child] >= 0:
            children.setdefault(int(loops.parents[child]), []).append(child)
    outer = np.flatnonzero(loops.parents < 0).tolist()
    return [_outline(loops, one, children).astype(np.float64) + (crop.left, crop.top) for one in outer]


def one_outline(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """One polygon of several, joined by seams, for formats that have one for each object.

    Args:
        outlines: at least one, each (N, 2).
    """
    whole = outlines[0]
    for outline in outlines[1:]:
        whole = _joined(whole, outline, near=len(outlines) <= _FEW_PARTS)
    return whole


def _joined(whole: np.ndarray, other: np.ndarray, *, near: bool) -> np.ndarray:
    """One outline with both, by a seam that is gone there and back: between corners that are near, or any."""
    at = start = 0
    if near:
        step = max(1, len(whole) * len(other) // 10**6)  # the seam may be a little longer
        distances = np.abs(whole[::step, None] - other[None, :]).sum(axis=2)
        at, start = divmod(int(distances.argmin()), len(other))
        at *= step
    ring = np.concatenate([other[start:], other[: start + 1]])
    return np.concatenate([whole[: at + 1], ring, whole[at:]])
