"""Which predicted segments match which of the ground truth, as PQ and Boundary PQ define it, in one image."""

from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.metrics.exact_sums import QUOTIENT_SCALE
from pnm.metrics.segment_pairs import SegmentPairs

VOID = 0
COUNTS = ("true positives", "false positives", "false negatives", "IoU")


class Segments(NamedTuple):
    """Segments of one map; (N,) each.

    Attributes:
        ids: ascending.
        column: class index.
        crowd: bool.
    """

    ids: np.ndarray
    column: np.ndarray
    crowd: np.ndarray

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Index of the segment that has each id, or -1."""
        at = np.searchsorted(self.ids, ids)
        return np.where(np.append(self.ids, -1)[at] == ids, at, -1)

    def sums(self, index: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """(N,) int64: the sum of ``amounts`` (P,) for each segment ``index`` (P,), -1 being none."""
        sums = np.zeros(len(self.ids), np.int64)
        np.add.at(sums, index[index >= 0], amounts[index >= 0])
        return sums


class _Match(NamedTuple):
    """Sides and pairs of an image; ``gt_index`` and ``pred_index`` (P,) are those of the pairs' segments, or -1."""

    gt: Segments
    pred: Segments
    pairs: SegmentPairs
    gt_index: np.ndarray
    pred_index: np.ndarray

    @property
    def on_void(self) -> np.ndarray:
        return self.pairs.gt == VOID


class Outcomes(NamedTuple):
    """What becomes of G ground-truth and P predicted segments; bool arrays in the order of the segments.

    Attributes:
        gt_matched, pred_matched: (G,) and (P,), whether a segment matches one of the other side.
        pred_excused: (P,), whether a prediction lies mostly on void and crowds, and is no false positive if unmatched.
    """

    gt_matched: np.ndarray
    pred_matched: np.ndarray
    pred_excused: np.ndarray


def match_outcomes(gt: Segments, pred: Segments, pairs: SegmentPairs) -> Outcomes:
    """Which segments match by PQ's rule, without a boundary.

    Raises:
        UserError: a predicted id is in only one of map and list.
    """
    match = _joined(gt, pred, pairs)
    return _outcomes(match, _pair_ious(match, pairs.shared, pairs.shared, pairs.shared))


class SegmentMatches(NamedTuple):
    """Which segment matches which, and their boundaries, of G true and P predicted segments.

    Attributes:
        outcomes: see :class:`Outcomes`.
        partner: (P,) the true segment that each predicted one matches, -1 if none.
        gt_boundary, pred_boundary: (G,) and (P,) boundary pixels; of predictions, those off void.
        shared_boundary: (G,) boundary pixels that each true segment shares with its match.
    """

    outcomes: Outcomes
    partner: np.ndarray
    gt_boundary: np.ndarray
    pred_boundary: np.ndarray
    shared_boundary: np.ndarray


def match_segments(gt: Segments, pred: Segments, pairs: SegmentPairs) -> SegmentMatches:
    """Matches by PQ's rule, with the boundary pixels that ``pairs`` have counted.

    Raises:
        UserError: a predicted id is in only one of map and list.
    """
    match = _joined(gt, pred, pairs)
    ious = _pair_ious(match, pairs.shared, pairs.shared, pairs.shared)
    chosen = ious > 0.5
    partner, shared = np.full(len(pred.ids), -1, np.int64), np.zeros(len(gt.ids), np.int64)
    partner[match.pred_index[chosen]] = match.gt_index[chosen]
    shared[match.gt_index[chosen]] = pairs.shared_boundary[chosen]
    return SegmentMatches(
        _outcomes(match, ious),
        partner,
        gt.sums(match.gt_index, pairs.gt_boundary),
        pred.sums(match.pred_index, np.where(match.on_void, 0, pairs.pred_boundary)),
        shared,
    )


def match_counts(gt: Segments, pred: Segments, pairs: SegmentPairs, classes: int, has_boundary: bool) -> np.ndarray:
    """``COUNTS`` of each class, IoU in 2**-40, for PQ and, with a boundary, Boundary PQ.

    Ground truth that only the list has is a false negative. Pixels whose ground-truth id only the map has are no
    segment's and, unlike void, excuse nothing.

    Returns:
        (4 or 8, classes) int64.

    Raises:
        UserError: a predicted id is in only one of map and list.
    """
    match = _joined(gt, pred, pairs)
    ious = [_pair_ious(match, pairs.shared, pairs.shared, pairs.shared)]
    if has_boundary:
        boundary = _pair_ious(match, pairs.shared_boundary, pairs.gt_boundary, pairs.pred_boundary)
        ious.append(np.minimum(ious[0], boundary))
    return np.concatenate([_counts(match, classes, values) for values in ious])


def _joined(gt: Segments, pred: Segments, pairs: SegmentPairs) -> _Match:
    """Both sides and their pairs; a UserError if a predicted id is in only one of map and list."""
    match = _Match(gt, pred, pairs, gt.find(pairs.gt), pred.find(pairs.pred))
    _check_predicted_ids(match)
    return match


def _check_predicted_ids(match: _Match) -> None:
    only_map = sorted(set(match.pairs.pred[match.pred_index < 0].tolist()) - {VOID})
    only_list = sorted(set(match.pred.ids.tolist()) - set(match.pairs.pred.tolist()))
    if only_map or only_list:
        raise UserError(
            f"prediction: segment ids {only_map[:5]} are in the map but not in segments_info, "
            f"{only_list[:5]} in segments_info but not in the map"
        )


def _pair_ious(match: _Match, shared: np.ndarray, gt_amount: np.ndarray, pred_amount: np.ndarray) -> np.ndarray:
    """(P,) IoU with void left out of the union; 0 for pairs that can't match."""
    ious = np.zeros(len(shared))
    listed = np.flatnonzero((match.gt_index >= 0) & (match.pred_index >= 0))
    g, p = match.gt_index[listed], match.pred_index[listed]
    alike = (match.gt.column[g] == match.pred.column[p]) & ~match.gt.crowd[g]
    listed, g, p = listed[alike], g[alike], p[alike]
    of_gt = match.gt.sums(match.gt_index, gt_amount)
    of_pred = match.pred.sums(match.pred_index, np.where(match.on_void, 0, pred_amount))
    ious[listed] = shared[listed] / (of_gt[g] + of_pred[p] - shared[listed])
    return ious


def _is_excused(match: _Match) -> np.ndarray:
    """Whether more than half of a prediction lies on void and on crowd regions of its class."""
    listed = (match.gt_index >= 0) & (match.pred_index >= 0)
    g, p = match.gt_index[listed], match.pred_index[listed]
    excuses = match.on_void.copy()
    excuses[listed] = match.gt.crowd[g] & (match.gt.column[g] == match.pred.column[p])
    pixels = match.pred.sums(match.pred_index, np.where(excuses, match.pairs.shared, 0))
    return 2 * pixels > match.pred.sums(match.pred_index, match.pairs.shared)


def _outcomes(match: _Match, ious: np.ndarray) -> Outcomes:
    """Of (P,) IoUs of the pairs; above 0.5 a match is unique on both sides."""
    matches = ious > 0.5
    gt_matched, pred_matched = (np.zeros(len(side.ids), np.bool_) for side in (match.gt, match.pred))
    gt_matched[match.gt_index[matches]] = pred_matched[match.pred_index[matches]] = True
    return Outcomes(gt_matched, pred_matched, _is_excused(match))


def _counts(match: _Match, classes: int, ious: np.ndarray) -> np.ndarray:
    """(4, classes), of (P,) IoUs of the pairs."""
    matches, outcomes = ious > 0.5, _outcomes(match, ious)
    counts = np.zeros((len(COUNTS), classes), np.int64)
    column = match.gt.column[match.gt_index[matches]]
    np.add.at(counts[0], column, 1)
    np.add.at(counts[1], match.pred.column[~outcomes.pred_matched & ~outcomes.pred_excused], 1)
    np.add.at(counts[2], match.gt.column[~outcomes.gt_matched & ~match.gt.crowd], 1)
    np.add.at(counts[3], column, np.rint(ious[matches] * QUOTIENT_SCALE).astype(np.int64))
    return counts
