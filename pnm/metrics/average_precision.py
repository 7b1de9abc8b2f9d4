"""COCO's average precision and recall from what became of each detection, with images counted any number of times."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)


class Detections(NamedTuple):
    """All detections of a data set, by class, then by falling score, then by image, then by rank.

    Attributes:
        offsets: (K + 1,) int64, where each class begins.
        image: (N,) int64, index of the image.
        rank: (N,) int64, number of better detections of its image and class.
        tied: (N,) bool, whether class, score and image are those of the detection before.
    """

    offsets: np.ndarray
    image: np.ndarray
    rank: np.ndarray
    tied: np.ndarray


def tied_with_the_one_before(image: np.ndarray, score: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """:attr:`Detections.tied` of sorted detections."""
    tied = np.zeros(image.shape, bool)
    tied[1:] = (image[1:] == image[:-1]) & (score[1:] == score[:-1])
    tied[offsets[:-1][offsets[:-1] < len(tied)]] = False
    return tied


def sort_detections(column: np.ndarray, score: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """``(order, offsets)``: by class, then by falling score, equals as they came; where each class begins."""
    order = np.lexsort((-score, column))
    return order, np.searchsorted(column[order], np.arange(classes + 1)).astype(np.int64)


@kernel
def _weigh(
    detections: Detections,
    found: np.ndarray,
    excused: np.ndarray,
    bit: int,
    k: int,
    weights: np.ndarray,
    limits: np.ndarray,
    hits: np.ndarray,
) -> tuple[int, int]:
    """Adds weights: right ones to ``hits`` (M,), by the limit on the rank; returns all right and all wrong ones."""
    right = wrong = 0
    for n in range(detections.offsets[k], detections.offsets[k + 1]):
        weight = weights[detections.image[n]]
        if weight == 0 or excused[n] & bit:
            continue
        if found[n] & bit:
            right += weight
            for m in range(limits.size):
                if detections.rank[n] < limits[m]:
                    hits[m] += weight
        else:
            wrong += weight
    return right, wrong


@kernel
def _precision(
    detections: Detections,
    found: np.ndarray,
    excused: np.ndarray,
    bit: int,
    k: int,
    weights: np.ndarray,
    positives: int,
    right: int,
    wrong: int,
    recalls: np.ndarray,
) -> float:
    """Mean over ``recalls`` of the best precision at that recall or a higher one, from the last detection to the first.

    An image that counts m times is taken for m equal ones. Its detections of one score, if there are several, come m
    times one after the other, as COCO sorts by score and then by image. One alone comes m times in a row: precision
    rises from the first to the last of these if they are right, so the last one's stands for all.
    """
    total, best, r = 0.0, 0.0, recalls.size - 1
    while r >= 0 and recalls[r] > right / positives:
        r -= 1
    last = detections.offsets[k + 1] - 1
    while last >= detections.offsets[k]:
        first = last
        while detections.tied[first]:
            first -= 1
        weight = weights[detections.image[last]]
        times, step = (weight, 1) if first < last else (1, weight)
        for _ in range(times if weight else 0):
            for n in range(last, first - 1, -1):
                if excused[n] & bit:
                    continue
                if not found[n] & bit:
                    wrong -= step
                    continue
                best = max(best, right / (right + wrong))
                right -= step
                while r >= 0 and recalls[r] > right / positives:
                    total += best
                    r -= 1
        last = first - 1
    return (total + (r + 1) * best) / recalls.size


@entry_kernel
def _fill(
    detections: Detections,
    found: np.ndarray,
    excused: np.ndarray,
    weights: np.ndarray,
    positives: np.ndarray,
    limits: np.ndarray,
    recalls: np.ndarray,
    ap: np.ndarray,
    recall: np.ndarray,
) -> None:
    """As :func:`precision_and_recall`, whose result it fills."""
    classes, areas, thresholds = ap.shape
    hits = np.zeros(limits.size, np.int64)
    for k in range(classes):
        for a in range(areas):
            if positives[k, a] == 0:
                continue
            for t in range(thresholds):
                bit = np.uint64(1) << np.uint64(a * thresholds + t)
                hits[:] = 0
                right, wrong = _weigh(detections, found, excused, bit, k, weights, limits, hits)
                recall[k, a, t] = hits / positives[k, a]
                ap[k, a, t] = _precision(
                    detections, found, excused, bit, k, weights, positives[k, a], right, wrong, recalls
                )


def precision_and_recall(
    detections: Detections,
    found: np.ndarray,
    excused: np.ndarray,
    weights: np.ndarray,
    positives: np.ndarray,
    limits: np.ndarray,
    thresholds: int,
    recalls: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """AP and recall of each class.

    Args:
        detections: :class:`Detections`.
        found, excused: (N,) uint64, see :class:`pnm.metrics.instance_matching.Matches`.
        weights: (I,) int64, how often each image counts.
        positives: (K, A) int64, weighted number of instances to be found.
        limits: (M,) most detections of an image and class, for the recall.
        thresholds: number T of IoU thresholds.
        recalls: (R,) ascending from 0.

    Returns:
        AP (K, A, T) and recall (K, A, T, M); nan where there is no instance to be found.
    """
    ap = np.full((*positives.shape, thresholds), np.nan)
    recall = np.full((*ap.shape, limits.size), np.nan)
    _fill(detections, found, excused, weights, positives, limits, recalls, ap, recall)
    return ap, recall


def mean_of_known(values: np.ndarray) -> float:
    """Mean of the values that aren't nan; nan if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def joined(parts: Sequence[np.ndarray], dtype: Any = np.int64, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Parts one after the other; (0, *shape) of none."""
    return np.concatenate([np.zeros((0, *shape), dtype), *parts])


def check_multiplicities(multiplicities: np.ndarray, images: int) -> np.ndarray:
    """(B, ``images``) int64, how often each image counts in each of B data sets; a UserError if it is anything else."""
    weights = np.asarray(multiplicities)
    if weights.ndim != 2 or weights.shape[1] != images or weights.dtype.kind not in "iu" or (weights < 0).any():
        raise UserError(
            f"multiplicities are {weights.shape} {weights.dtype}, expected (B, {images}) whole numbers from 0"
        )
    return weights.astype(np.int64)
