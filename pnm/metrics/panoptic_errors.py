"""Where a panoptic prediction is wrong, in one image: a pixel is right if its predicted segment matches its true one.

An example, a true segment of four pixels, of which the prediction gives one to another segment of the class::

    >>> import numpy as np
    >>> dense_index(np.array([[7, 7, 9, 0]], np.int32), np.array([7, 9])).tolist()
    [[0, 0, 1, -1]]
"""

from typing import NamedTuple

import numpy as np

from pnm.kernels import kernel
from pnm.metrics.error_counts import NO_SCORES, NOT_COUNTED, RIGHT, WRONG, ImageErrors, no_errors
from pnm.metrics.label_errors import DOUBTFUL_PX, FIRST_DOUBTFUL, TruthMeasures, add_label_map, add_sizes
from pnm.metrics.segment_matching import SegmentMatches, Segments, match_segments
from pnm.metrics.segment_pairs import SegmentPairs

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
        states = np.empty(self.truth.shape, np.uint8)
        flat = self.truth.reshape(-1), self.pred.reshape(-1), states.reshape(-1)
        _find_states(*flat, self.gt.crowd, self.matches.partner, self.gt.column, self.dt.column)
        return states


@kernel
def _find_states(
    truth: np.ndarray,
    pred: np.ndarray,
    states: np.ndarray,
    crowd: np.ndarray,
    partner: np.ndarray,
    gt_column: np.ndarray,
    column: np.ndarray,
) -> None:
    """Writes ``states`` of flat maps of places; the rest as in :class:`PanopticMatching`."""
    for i in range(truth.size):
        t, p = truth[i], pred[i]
        if t < 0 or crowd[t]:
            states[i] = NOT_COUNTED
        elif p < 0:
            states[i] = WRONG + 2
        elif partner[p] == t:
            states[i] = RIGHT
        else:
            states[i] = WRONG + 1 if column[p] == gt_column[t] else WRONG


@kernel
def _take(index: np.ndarray, values: np.ndarray, none: int, out: np.ndarray) -> None:
    for i in range(index.size):
        out[i] = values[index[i]] if index[i] >= 0 else none


def class_map(index: np.ndarray, column: np.ndarray, none: int) -> np.ndarray:
    """(H, W) int32: the class of each pixel's segment, ``none`` where ``index`` (H, W) is -1.

    Args:
        column: (N,) class of each segment.
    """
    classes = np.empty(index.shape, np.int32)
    _take(index.reshape(-1), column, none, classes.reshape(-1))
    return classes


@kernel
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
    truth = class_map(matching.truth, matching.gt.column, num_classes)
    pred = class_map(matching.pred, matching.dt.column, num_classes)
    add_label_map(counts, truth, pred, states, measures, matching.boundary_px)
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
    true = class_map(a.truth, np.where(a.gt.crowd, -1, a.gt.column), -1)
    of_a, of_b = (class_map(one.pred, one.dt.column, -1) for one in (a, b))
    agree = (true >= 0) & (of_a == of_b) & (of_a != true) & (of_a >= 0)
    return float(np.count_nonzero(agree & (measures.distances > DOUBTFUL_PX)))
