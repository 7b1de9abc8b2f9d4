"""Which detection finds which instance: overlaps of masks or boxes and COCO's greedy matching, in numba.

Detections and instances of one image are sorted by category, so that the instances a detection may find stand side by
side. Overlaps are kept for such pairs alone, one row for each detection: those of detection d with instances
``first[d]..last[d] - 1`` are ``ious[rows[d]:rows[d + 1]]``.
"""

from typing import NamedTuple

import numpy as np

from pnm.kernels import kernel
from pnm.masks.runs import MaskRuns, shared_pixels

_CLOSE_TO_ONE = 1 - 1e-10  # COCO lets a threshold of 1 pass for this


class Pairs(NamedTuple):
    """``first``, ``last`` (D,) and ``rows`` (D + 1,), int64; see above."""

    first: np.ndarray
    last: np.ndarray
    rows: np.ndarray


class Matches(NamedTuple):
    """What became of each detection. Bit a * T + t stands for area range a and threshold t of T.

    Attributes:
        found: (D,) uint64, it found an instance or crowd region.
        excused: (D,) uint64, it counts neither as right nor as wrong: what it found is crowd or out of the area
            range, or it found nothing and is itself out of the range.
        partner: (D, T) int64, the instance that it found in the first area range, -1 if none or an excused one.
    """

    found: np.ndarray
    excused: np.ndarray
    partner: np.ndarray


def pair_up(dt_categories: np.ndarray, gt_categories: np.ndarray) -> Pairs:
    """Pairs of equal category; both arrays sorted."""
    first = np.searchsorted(gt_categories, dt_categories, "left").astype(np.int64)
    last = np.searchsorted(gt_categories, dt_categories, "right").astype(np.int64)
    return Pairs(first, last, np.concatenate([np.zeros(1, np.int64), np.cumsum(last - first)]))


@kernel
def _out_of_reach(shared: int, dt_area: int, gt_area: int, crowd: bool, lowest: float) -> bool:
    """Whether the overlap stays under ``lowest`` even if as many as ``shared`` pixels are common.

    The division is that of the overlap itself, so rounding can't part the two.
    """
    return shared <= 0 or shared / (dt_area if crowd else dt_area + gt_area - shared) < lowest


@kernel
def mask_ious(dt: MaskRuns, gt: MaskRuns, pairs: Pairs, crowd: np.ndarray, lowest: float) -> np.ndarray:
    """Overlap of the masks of each pair: IoU, or with crowd the part of the detection inside it.

    Args:
        dt, gt: :class:`pnm.masks.runs.MaskRuns`.
        crowd: (G,) bool.
        lowest: overlaps under this may be reported as 0; those that cannot reach it aren't counted out.

    Returns:
        (P,) float64.
    """
    ious = np.zeros(pairs.rows[-1])
    for d in range(pairs.first.size):
        for g in range(pairs.first[d], pairs.last[d]):
            a, b = dt.boxes_yxyx[d], gt.boxes_yxyx[g]
            most = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            most = min(most, min(dt.areas[d], gt.areas[g]))
            if _out_of_reach(most, dt.areas[d], gt.areas[g], crowd[g], lowest):
                continue
            shared = shared_pixels(
                dt.starts,
                dt.ends,
                dt.offsets[d],
                dt.offsets[d + 1],
                gt.starts,
                gt.ends,
                gt.offsets[g],
                gt.offsets[g + 1],
            )
            union = dt.areas[d] if crowd[g] else dt.areas[d] + gt.areas[g] - shared
            ious[pairs.rows[d] + g - pairs.first[d]] = shared / union
    return ious


@kernel
def box_ious(dt_xywh: np.ndarray, gt_xywh: np.ndarray, pairs: Pairs, crowd: np.ndarray) -> np.ndarray:
    """Overlap of the boxes (D, 4) and (G, 4) of each pair, as :func:`mask_ious`; (P,) float64."""
    ious = np.zeros(pairs.rows[-1])
    for d in range(pairs.first.size):
        for g in range(pairs.first[d], pairs.last[d]):
            a, b = dt_xywh[d], gt_xywh[g]
            width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
            height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
            if width > 0 and height > 0:
                shared, area = width * height, a[2] * a[3]
                union = area if crowd[g] else area + b[2] * b[3] - shared
                ious[pairs.rows[d] + g - pairs.first[d]] = shared / union
    return ious


@kernel
def _best(
    ious: np.ndarray,
    row: int,
    first: int,
    last: int,
    threshold: float,
    bit: int,
    taken: np.ndarray,
    crowd: np.ndarray,
    left_out: np.ndarray,
) -> int:
    """The free instance of most overlap, the later one of equals; a left-out one only if there is no other."""
    for want_left_out in (False, True):
        best, bar = -1, threshold
        for g in range(first, last):
            if left_out[g] != want_left_out or (taken[g] & bit and not crowd[g]):
                continue
            if ious[row + g - first] >= bar:
                best, bar = g, ious[row + g - first]
        if best >= 0:
            return best
    return -1


@kernel
def match(
    ious: np.ndarray,
    pairs: Pairs,
    crowd: np.ndarray,
    gt_left_out: np.ndarray,
    dt_out_of_range: np.ndarray,
    thresholds: np.ndarray,
) -> Matches:
    """COCO's matching of one image; see :class:`Matches`.

    Detections, of a category by falling score, take in turn the free instance they overlap most.

    Args:
        ious: (P,) overlaps.
        crowd: (G,) bool; crowd regions are never taken.
        gt_left_out: (A, G) bool, crowd or out of area range a.
        dt_out_of_range: (A, D) bool.
        thresholds: (T,) ascending; A * T <= 64.
    """
    number, areas = pairs.first.size, gt_left_out.shape[0]
    found, excused = np.zeros(number, np.uint64), np.zeros(number, np.uint64)
    partner = np.full((number, thresholds.size), -1, np.int64)
    taken = np.zeros(crowd.size, np.uint64)
    for d in range(number):
        row, end = pairs.rows[d], pairs.rows[d + 1]
        most = ious[row:end].max() if end > row else 0.0
        for a in range(areas):
            for t in range(thresholds.size):
                bit = np.uint64(1) << np.uint64(a * thresholds.size + t)
                threshold, best = min(thresholds[t], _CLOSE_TO_ONE), -1
                if most >= threshold:
                    first, last = pairs.first[d], pairs.last[d]
                    best = _best(ious, row, first, last, threshold, bit, taken, crowd, gt_left_out[a])
                if best >= 0:
                    found[d] |= bit
                    taken[best] |= bit
                if gt_left_out[a, best] if best >= 0 else dt_out_of_range[a, d]:
                    excused[d] |= bit
                elif a == 0:
                    partner[d, t] = best
    return Matches(found, excused, partner)
