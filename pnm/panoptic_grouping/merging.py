"""Instances and semantic predictions to a panoptic map (PRN, section 3.5), at the size of the image.

An instance takes the thing class that most of its pixels vote for, the rest takes stuff. An example of five pixels with
two thing classes (0, 1) and one of stuff (2)::

    >>> labels = np.array([[1, 1, 1, 0, 2]], np.int32)
    >>> votes = PixelVotes(np.array([[0, 1, 1, 0, 0]]), np.full((1, 5), 0.5, np.float32), np.full((1, 5), 2))
    >>> instance_classes(labels, 2, votes, things=2).tolist()
    [1, 0]
    >>> merge_segments(labels, (1, 0), votes.stuff).labels.tolist()
    [[1, 1, 1, 3, 2]]
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pnm.kernels import entry_kernel
from pnm.masks.nearest_label import filled_from_nearest
from pnm.panoptic_grouping.panoptic_map import PanopticMap

NO_CLASS = -1  # of a pixel that is void


class PixelVotes(NamedTuple):
    """What the semantic branch says of each pixel; (H, W) each.

    Attributes:
        things: integers, the most probable thing class.
        probs: float32, its probability.
        stuff: integers, the most probable stuff class; ``NO_CLASS`` where there is none.
    """

    things: np.ndarray
    probs: np.ndarray
    stuff: np.ndarray


@entry_kernel
def _count_votes(
    labels: np.ndarray, votes: np.ndarray, probs: np.ndarray, counts: np.ndarray, sums: np.ndarray
) -> None:
    """Adds each pixel's vote to ``counts`` (N + 1, T), and its probability to ``sums``."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                counts[labels[y, x], votes[y, x]] += 1
                sums[labels[y, x], votes[y, x]] += probs[y, x]


def instance_classes(labels: np.ndarray, count: int, votes: PixelVotes, *, things: int) -> np.ndarray:
    """Class of each instance, (N,) int64: the one that most of its pixels vote for.

    Of classes with as many votes, the one whose votes have the higher sum of probabilities, then the lower class. An
    instance without pixels has class 0.

    Args:
        labels: (H, W) int32, instances 1 to ``count``.
        votes: of things; stuff can't be elected.
        things: T, number of thing classes.
    """
    counts, sums = np.zeros((count + 1, things), np.int64), np.zeros((count + 1, things), np.float64)
    labels, kinds, probs = (np.ascontiguousarray(part) for part in (labels, votes.things, votes.probs))
    _count_votes(labels, kinds, probs, counts, sums)
    best = counts == counts.max(1, keepdims=True)
    return np.where(best, np.nan_to_num(sums), -1.0)[1:].argmax(1)


def resized_labels(labels: np.ndarray, foreground: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Instances at another size, (H, W) int32: numbers are taken from the nearest pixel, offsets are never resized.

    A pixel that is foreground where the map before was not takes the nearest instance's number; one that isn't has
    none.

    Args:
        labels: (h, w) int32, instances from 1 on; 0 is none's.
        foreground: (H, W) bool, at the new size.
        source: (h, w) bool, the foreground before.
    """
    height, width = foreground.shape
    rows = (np.arange(height) * 2 + 1) * labels.shape[0] // (2 * height)  # centres on centres
    columns = (np.arange(width) * 2 + 1) * labels.shape[1] // (2 * width)
    resized, was_foreground = labels[rows][:, columns], source[rows][:, columns]
    is_new = foreground & ~was_foreground
    if is_new.any() and resized.any():
        resized = filled_from_nearest(resized, sources=resized > 0, where=is_new)
    return np.where(foreground, resized, 0).astype(np.int32)


def small_stuff(labels: np.ndarray, stuff: np.ndarray, least_px: int) -> set[int]:
    """Stuff classes with fewer pixels than ``least_px``; the largest is never among them.

    Args:
        labels: (H, W), instances; only pixels of none count.
        stuff: (H, W) integers, class of each pixel, or ``NO_CLASS``.
    """
    areas = np.bincount(stuff[labels == 0].astype(np.int64) - NO_CLASS)[-NO_CLASS:]
    present = np.flatnonzero(areas)
    return {int(k) for k in present if areas[k] < least_px and k != areas.argmax()}


def merge_segments(labels: np.ndarray, classes: Sequence[int], stuff: np.ndarray) -> PanopticMap:
    """The panoptic map: instances that have pixels in their order, then stuff by class.

    Args:
        labels: (H, W) int32, instances 1 to N; 0 is stuff.
        classes: (N,), of the instances.
        stuff: (H, W) integers, class of each pixel that is no instance's; ``NO_CLASS`` is void.
    """
    count = len(classes)
    kinds = int(stuff.max(initial=NO_CLASS)) + 1
    merged = np.where(labels > 0, labels, np.where(stuff == NO_CLASS, 0, stuff.astype(np.int32) + count + 1))
    used = np.bincount(merged.ravel(), minlength=count + kinds + 1) > 0
    used[0] = False
    number_of = np.where(used, np.cumsum(used), 0).astype(np.int32)
    every = [*classes, *range(kinds)]
    return PanopticMap(number_of[merged], tuple(int(k) for k, is_used in zip(every, used[1:]) if is_used))


def without_holes(refined: PanopticMap, was_segment: np.ndarray) -> PanopticMap:
    """Pixels that are void and were a segment's take the nearest segment; if there is none, they stay void."""
    holes = (refined.labels == 0) & was_segment
    if not holes.any():
        return refined
    filled = filled_from_nearest(refined.labels, sources=refined.labels > 0, where=holes)
    return PanopticMap(filled, refined.classes)
