"""Where a panoptic prediction is wrong, in one image: a pixel is right if its predicted segment matches its true one.

An example, a true segment of four pixels, of which the prediction gives one to another segment of the class::

    >>> import numpy as np
    >>> dense_index(np.array([[7, 7, 9, 0]], np.int32), np.array([7, 9])).tolist()
    [[0, 0, 1, -1]]
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from pnm.metrics.error_counts import NO_SCORES, NOT_COUNTED, RIGHT, WRONG, ImageErrors, no_errors
from pnm.metrics.label_errors import DOUBTFUL_PX, FIRST_DOUBTFUL, TruthMeasures, add_label_map, add_sizes
from pnm.metrics.segment_matching import SegmentMatches, Segments, match_segments
from pnm.metrics.segment_pairs import SegmentPairs

_kernel: Any = numba.njit(nogil=True, cache=True, error_model="numpy")

WAYS = ("another class", "another segment of the class", "nothing predicted")


class PanopticMatching(NamedTuple):
    """Maps and segments of an image.

    Attributes:
        truth_ids: (H, W) ids, 0 = void.
        truth, pred: (H, W) int32, the places of segments in ``gt`` and ``dt``, -1 for none.
        gt, dt: true and predicted segments.
        matches: by PQ's rule; ``any_class`` as if all were of one class.
        boundary_px: width of boundaries.
    """

    truth_ids: np.ndarray
    truth: np.ndarray
    pred: np.ndarray
    gt: Segments
    dt: Segments
    matches: SegmentMatches
    any_class: SegmentMatches
    boundary_px: int

    def states(self) -> np.ndarray:
        """(H, W) uint8: what each pixel counts as; see ``WAYS``. Void and crowds don't count."""
        counted = np.append(~self.gt.crowd, False)[self.truth]  # the last one is that of -1
        partner, pred_class = np.append(self.matches.partner, -2), np.append(self.dt.column, -1)
        gt_class = np.append(self.gt.column, -2)
        right = partner[self.pred] == self.truth
        states = np.where(pred_class[self.pred] == gt_class[self.truth], np.uint8(WRONG + 1), np.uint8(WRONG))
        states[self.pred < 0] = WRONG + 2
        states[right] = RIGHT
        states[~counted] = NOT_COUNTED
        return states


@_kernel
def _find(ids: np.ndarray, sorted_ids: np.ndarray, index: np.ndarray) -> None:
    last, place = np.int64(-1), -1
    for i in range(ids.size):
        if ids[i] != last:
            last = np.int64(ids[i])
            place = np.searchsorted(sorted_ids, last)
            if place == sorted_ids.size or sorted_ids[place] != last:
                place = -1
        index[i] = place


def dense_index(ids: np.ndarray, sorted_ids: np.ndarray) -> np.ndarray:
    """(H, W) int32: the place of each pixel's id among ``sorted_ids`` (N,), -1 if it isn't there.

    Args:
        ids: (H, W) integers from 0.
    """
    index = np.empty(ids.shape, np.int32)
    _find(np.ascontiguousarray(ids).reshape(-1), sorted_ids, index.reshape(-1))
    return index


def match_panoptic(
    truth_ids: np.ndarray, pred_ids: np.ndarray, gt: Segments, dt: Segments, pairs: SegmentPairs, boundary_px: int
) -> PanopticMatching:
    """Matches the segments of two (H, W) maps of ids.

    Args:
        gt, dt, pairs: of :meth:`pnm.metrics.panoptic_quality.PanopticQuality.image_pairs`, with boundaries.

    Raises:
        UserError: a predicted id is in only one of map and list.
    """
    truth, pred = dense_index(truth_ids, gt.ids), dense_index(pred_ids, dt.ids)
    gt_alike, dt_alike = (side._replace(column=np.zeros_like(side.column)) for side in (gt, dt))
    matches, any_class = match_segments(gt, dt, pairs), match_segments(gt_alike, dt_alike, pairs)
    return PanopticMatching(truth_ids, truth, pred, gt, dt, matches, any_class, boundary_px)


def panoptic_errors(matching: PanopticMatching, num_classes: int, measures: TruthMeasures) -> ImageErrors:
    """Errors of one image; true objects are its segments.

    Args:
        measures: of the true ids.

    Returns:
        Doubt is the number of wrong pixels further than ``DOUBTFUL_PX`` from the true boundary.
    """
    counts, states = no_errors(num_classes, len(WAYS)), matching.states()
    gt_class, pred_class = (np.append(side.column, num_classes) for side in (matching.gt, matching.dt))
    columns = gt_class[matching.truth], pred_class[matching.pred]
    add_label_map(counts, *columns, states, measures, matching.boundary_px)
    outcomes = matching.matches.outcomes
    add_sizes(counts, matching.truth, states, outcomes.gt_matched)
    counts.confusion[:] = _confusion(matching, num_classes)
    shared, either, ious = _boundaries(matching)
    doubt = float(counts.ways[:, FIRST_DOUBTFUL:].sum())
    return ImageErrors(counts, shared, either, ious, doubt, NO_SCORES)


def _confusion(matching: PanopticMatching, num_classes: int) -> np.ndarray:
    """(K + 1, K + 1) segments, matched whatever their class."""
    confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    gt, dt, (outcomes, partner, *_) = matching.gt, matching.dt, matching.any_class
    right = partner >= 0
    np.add.at(confusion, (gt.column[partner[right]], dt.column[right]), 1)
    np.add.at(confusion[:, num_classes], gt.column[~outcomes.gt_matched & ~gt.crowd], 1)
    np.add.at(confusion[num_classes], dt.column[~outcomes.pred_matched & ~outcomes.pred_excused], 1)
    return confusion


def _boundaries(matching: PanopticMatching) -> tuple[int, int, np.ndarray]:
    """Boundary pixels that matches share, those of all segments that count, and (G,) IoUs."""
    outcomes, partner, gt_boundary, pred_boundary, shared = matching.matches
    ious = np.where(matching.gt.crowd, np.nan, 0.0)
    finder = np.flatnonzero(partner >= 0)
    found = partner[finder]
    ious[found] = shared[found] / np.maximum(gt_boundary[found] + pred_boundary[finder] - shared[found], 1)
    counted = outcomes.pred_matched | ~outcomes.pred_excused
    either = gt_boundary[~matching.gt.crowd].sum() + pred_boundary[counted].sum() - shared.sum()
    return int(shared.sum()), int(either), ious


def shared_panoptic_doubt(a: PanopticMatching, b: PanopticMatching, measures: TruthMeasures) -> float:
    """Pixels further than ``DOUBTFUL_PX`` from the true boundary for which A and B predict one class, the annotation
    another."""
    counted = np.append(~a.gt.crowd, False)[a.truth]
    true = np.append(a.gt.column, -1)[a.truth]
    of_a, of_b = (np.append(one.dt.column, -1)[one.pred] for one in (a, b))
    agree = counted & (of_a == of_b) & (of_a != true) & (of_a >= 0)
    return float(np.count_nonzero(agree & (measures.distances > DOUBTFUL_PX)))
