"""Instances and stuff to a panoptic map by Detectron2's rule: instances by score, then stuff on what is left.

Each instance is counted and painted within its crop; stuff is counted in one pass over the map and painted in another.
An example of six pixels, two instances of four pixels and stuff 7::

    >>> crops = [MaskCrop(np.ones((1, 4), np.bool_), 0, left) for left in (0, 1)]
    >>> ids = np.zeros((1, 6), np.int32)
    >>> _take_free(ids, crops[0].pixels.view(np.uint8), 0, 0, 1, 0.5)  # pixels it took
    4
    >>> _take_free(ids, crops[1].pixels.view(np.uint8), 0, 1, 2, 0.5)  # three quarters are taken: it is left out
    0
    >>> ids.tolist()
    [[1, 1, 1, 1, 0, 0]]
    >>> fused = fuse(crops, [0.9, 0.8], [3, 3], np.full((1, 6), 7), FusionSettings(min_stuff_area_px=1))
    >>> fused.ids.tolist(), [(s.id, s.category, s.area) for s in fused.segments]
    ([[1, 1, 1, 1, 2, 2]], [(1, 3, 4), (2, 7, 2)])
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel
from pnm.masks.crops import MaskCrop, trimmed

_WAYS = 4  # tables that stuff is counted in by turns, so that a pixel needn't wait for its neighbour's count


@dataclass(frozen=True)
class FusionSettings:
    """Which instances and stuff a panoptic map takes; defaults are BlendMask's.

    Attributes:
        min_score: 0 to 1; instances below it are left out.
        max_overlap: 0 to 1; an instance is dropped if a larger share of it is taken by others.
        min_stuff_area_px: 0 or more; stuff with fewer free pixels is dropped.

    Raises:
        UserError: a value is out of its range.
    """

    min_score: float = 0.45
    max_overlap: float = 0.4
    min_stuff_area_px: float = 4096

    def __post_init__(self) -> None:
        for name, most in (("min_score", 1.0), ("max_overlap", 1.0), ("min_stuff_area_px", math.inf)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise UserError(f"{name} is {value}, expected 0 {'or more' if math.isinf(most) else f'to {most:g}'}")


class FusedSegment(NamedTuple):
    """A segment of a panoptic map.

    Attributes:
        id: its number in the map.
        isthing: whether it is an instance.
        category: class of a thing, label of stuff.
        area: pixels that it has in the map.
        score: of a thing.
        row: of a thing, among the instances given.
    """

    id: int
    isthing: bool
    category: int
    area: int
    score: float | None = None
    row: int | None = None


class FusedMap(NamedTuple):
    """A panoptic map: ``ids`` (H, W) int32, 0 for none, and its segments 1, 2, ... in order."""

    ids: np.ndarray
    segments: tuple[FusedSegment, ...]


@entry_kernel
def _take_free(ids: np.ndarray, pixels: np.ndarray, top: int, left: int, number: int, max_overlap: float) -> int:
    """Gives an instance its free pixels, unless too many are taken; how many it took.

    Args:
        ids: the map, in which 0 is free.
        pixels: (h, w) uint8 0 or 1, whose first pixel is (``top``, ``left``) of the map.
        number: of the instance, in the map.
    """
    rows, columns = pixels.shape
    area, free = 0, 0
    for y in range(rows):
        mask_row, ids_row = pixels[y], ids[top + y, left : left + columns]
        row_area, row_free = np.int32(0), np.int32(0)
        for x in range(columns):
            row_area += np.int32(mask_row[x])
            row_free += np.int32(mask_row[x] != 0) & np.int32(ids_row[x] == 0)
        area += row_area
        free += row_free
    if free == 0 or (area - free) / area > max_overlap:
        return 0
    for y in range(rows):
        mask_row, ids_row = pixels[y], ids[top + y, left : left + columns]
        for x in range(columns):
            is_taken = (mask_row[x] != 0) & (ids_row[x] == 0)
            ids_row[x] = number if is_taken else ids_row[x]
    return free


@entry_kernel
def _count_stuff(ids: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> None:
    """Adds the free pixels of each label to ``counts`` (_WAYS, labels + 1); the last column counts the others."""
    height, width = ids.shape
    taken = counts.shape[1] - 1
    for y in range(height):
        for x in range(width):
            counts[x % _WAYS, labels[y, x] if ids[y, x] == 0 else taken] += 1


@entry_kernel
def _paint_stuff(ids: np.ndarray, labels: np.ndarray, number_of: np.ndarray) -> None:
    height, width = ids.shape
    for y in range(height):
        for x in range(width):
            number = number_of[labels[y, x]]
            ids[y, x] = number if ids[y, x] == 0 else ids[y, x]


def _ranking(
    crops: Sequence[MaskCrop], scores: Sequence[float], classes: Sequence[int], settings: FusionSettings
) -> list[int]:
    """Rows of the instances that have the score, best first."""
    rows = [n for n, score in enumerate(scores) if score >= settings.min_score]
    times = {scores[n]: 0 for n in rows}
    for n in rows:
        times[scores[n]] += 1

    def key(n: int) -> tuple:
        if times[scores[n]] == 1:
            return (-scores[n],)
        tight = trimmed(crops[n])
        area = int(np.count_nonzero(tight.pixels))
        return -scores[n], -area, tight.top, tight.left, classes[n], tight.pixels.shape, tight.pixels.tobytes()

    return sorted(rows, key=key)


def _check(crops: Sequence[MaskCrop], scores: list, classes: list, stuff_labels: np.ndarray) -> int:
    """The largest label + 1."""
    if not len(crops) == len(scores) == len(classes):
        raise UserError(f"{len(crops)} masks have {len(scores)} scores and {len(classes)} classes, expected as many")
    if not all(math.isfinite(score) for score in scores):
        raise UserError(f"scores are {scores}, expected finite numbers")
    if stuff_labels.ndim != 2 or stuff_labels.dtype.kind not in "iu":
        raise UserError(f"stuff is {stuff_labels.shape} {stuff_labels.dtype}, expected (H, W) integer labels")
    height, width = stuff_labels.shape
    for n, crop in enumerate(crops):
        bottom, right = crop.top + crop.pixels.shape[0], crop.left + crop.pixels.shape[1]
        if crop.pixels.size and not (min(crop.top, crop.left) >= 0 and bottom <= height and right <= width):
            raise UserError(
                f"mask {n} covers rows {crop.top} to {bottom} and columns {crop.left} to {right} of {height} x {width}"
            )
        if crop.pixels.dtype != np.bool_:
            raise UserError(f"mask {n} is {crop.pixels.dtype}, expected bool")
    if stuff_labels.dtype == np.uint8:
        return 256
    if stuff_labels.size and not (stuff_labels.min() >= 0 and stuff_labels.max() < 2**16):
        raise UserError(f"stuff labels are {stuff_labels.min()} to {stuff_labels.max()}, expected 0 to 65535")
    return int(stuff_labels.max(initial=0)) + 1


def fuse(
    crops: Sequence[MaskCrop],
    scores: Any,
    classes: Any,
    stuff_labels: np.ndarray,
    settings: FusionSettings,
    other_label: int = 0,
) -> FusedMap:
    """The panoptic map, by the rule of Detectron2's ``combine_semantic_and_instance_outputs``.

    Instances go by descending score. Of equal scores the larger area comes first, then the topmost, leftmost box, the
    lower class, and the mask's own pixels, so the order in which they are stored says nothing. Unlike Detectron2's, a
    segment without a pixel is never listed (it would be at ``max_overlap`` 1 or ``min_stuff_area_px`` 0).

    Args:
        crops: N masks, inside the image.
        scores, classes: (N,) numbers and integers.
        stuff_labels: (H, W) integers from 0 to 65535, at the size of the map.
        other_label: the label that is no stuff; what only it has stays empty.

    Returns:
        Things by rank, then stuff by label.

    Raises:
        UserError: numbers of masks, scores and classes differ, a score is NaN, a mask lies over the frame or isn't
            bool, or labels are none.
    """
    scores, classes = np.asarray(scores).tolist(), np.asarray(classes).tolist()
    labels = _check(crops, scores, classes, stuff_labels)
    ids = np.zeros(stuff_labels.shape, np.int32)
    segments: list[FusedSegment] = []
    for n in _ranking(crops, scores, classes, settings):
        pixels, number = np.ascontiguousarray(crops[n].pixels).view(np.uint8), len(segments) + 1
        area = _take_free(ids, pixels, crops[n].top, crops[n].left, number, float(settings.max_overlap))
        if area:
            segments.append(FusedSegment(number, True, classes[n], area, scores[n], n))
    stuff, counts = np.ascontiguousarray(stuff_labels), np.zeros((_WAYS, labels + 1), np.int64)
    _count_stuff(ids, stuff, counts)
    areas, number_of = counts.sum(0)[:labels].tolist(), np.zeros(labels, np.int32)
    for label, area in enumerate(areas):
        if area and area >= settings.min_stuff_area_px and label != other_label:
            number_of[label] = len(segments) + 1
            segments.append(FusedSegment(len(segments) + 1, False, label, area))
    _paint_stuff(ids, stuff, number_of)
    return FusedMap(ids, tuple(segments))
