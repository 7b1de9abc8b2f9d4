"""Where predicted instances are wrong, in one image.

Detections from a score on are matched as COCO does, class by class at IoU 0.5. Wrong pixels are those that only one
mask of a match has, those of missed objects, and those of false detections, each at its distance from the boundary of
the true object (of a false one, from its own).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.interior_offsets.distances import label_distances
from pnm.masks.crops import crop_runs
from pnm.masks.runs import MaskRuns, decode_entries
from pnm.metrics.boundary_mask_iou import boundary_iou, boundary_sizes, shared_boundaries
from pnm.metrics.error_counts import (
    DISTANCE_EDGES_PX,
    LOCALITY,
    WEIGHT_EDGES,
    ErrorCounts,
    ImageErrors,
    add_object,
    bands,
    no_errors,
    size_band,
)
from pnm.metrics.instance_matching import Pairs, mask_ious, match, pair_up
from pnm.metrics.instance_records import class_indices, finite_scores
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights

WAYS = ("found, too small", "found, too large", "missed objects", "false objects")
_TOO_SMALL, _TOO_LARGE, _MISSED, _FALSE = range(4)
LEAST_IOU, TOUCHED = 0.5, 0.1  # of a match; of an object that a detection has something to do with
_HALF = LOCALITY // 2


class InstanceMatching(NamedTuple):
    """G true objects and D detections of an image, by class, then falling score.

    Attributes:
        gt_column, column, score: (G,), (D,) and (D,) class indices and scores.
        gt, dt: their masks.
        crowd: (G,) bool.
        ious: (D, G) overlaps of all pairs, whatever their class; less than ``TOUCHED`` may be 0.
        partner: (D,) the true object that each detection finds, -1 if none.
        excused: (D,) bool, it lies on a crowd region.
        kept: (D,) bool, its score is high enough.
        boundary_px: width of boundaries.
    """

    gt_column: np.ndarray
    column: np.ndarray
    score: np.ndarray
    gt: MaskRuns
    dt: MaskRuns
    crowd: np.ndarray
    ious: np.ndarray
    partner: np.ndarray
    excused: np.ndarray
    kept: np.ndarray
    boundary_px: int

    def finder(self) -> np.ndarray:
        """(G,) the kept detection that finds each true object, -1 if none."""
        finder = np.full(len(self.gt_column), -1, np.int64)
        kept = np.flatnonzero(self.kept & (self.partner >= 0))
        finder[self.partner[kept]] = kept
        return finder

    def false(self) -> np.ndarray:
        """(D,) bool: kept detections that find nothing and aren't excused."""
        return self.kept & (self.partner < 0) & ~self.excused

    def untouched(self) -> np.ndarray:
        """(G,) bool: true objects that no detection of any class and score has much to do with."""
        return ~self.crowd & ~(self.ious >= TOUCHED).any(axis=0)


def match_instances(
    size: tuple[int, int],
    gt: Sequence[Mapping[str, Any]],
    dt: Sequence[Mapping[str, Any]],
    columns: Mapping[int, int],
    least_score: float,
    boundary_px: int,
) -> InstanceMatching:
    """Matches detections with true objects.

    Args:
        size: height and width of the image, in pixels.
        gt, dt: annotations and detections, as of :meth:`pnm.metrics.instance_ap.InstanceMetrics.update`.
        columns: class index of each category id.
        least_score: of detections that are kept.

    Raises:
        UserError: an unknown category, a score that isn't finite, a damaged mask.
    """
    gt_column, column = class_indices(gt, "annotation", columns), class_indices(dt, "detection", columns)
    score = finite_scores(dt, "detection")
    gt_order, order = np.argsort(gt_column, kind="stable"), np.lexsort((-score, column))
    gt_column, column, score = gt_column[gt_order], column[order], score[order]
    gt_masks = decode_entries([gt[n] for n in gt_order], size, lambda n: f"annotation {gt_order[n]}")
    masks = decode_entries([dt[n] for n in order], size, lambda n: f"detection {order[n]}")
    crowd = np.array([bool(gt[n].get("iscrowd", 0)) for n in gt_order], np.bool_)
    ious = mask_ious(masks, gt_masks, _all_pairs(len(dt), len(gt)), crowd, TOUCHED).reshape(len(dt), len(gt))
    pairs = pair_up(column, gt_column)
    partner, excused = _matched(ious[column[:, None] == gt_column], pairs, crowd)
    kept = score >= least_score
    return InstanceMatching(gt_column, column, score, gt_masks, masks, crowd, ious, partner, excused, kept, boundary_px)


def _all_pairs(detections: int, objects: int) -> Pairs:
    return pair_up(np.zeros(detections, np.int64), np.zeros(objects, np.int64))


def _matched(ious: np.ndarray, pairs: Pairs, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``partner`` and ``excused`` (D,) of COCO's matching, detections in the order in which they take their turn."""
    none = np.zeros((1, len(pairs.first)), np.bool_)
    matches = match(ious, pairs, crowd, crowd[None], none, np.array([LEAST_IOU]))
    return matches.partner[:, 0], (matches.excused & np.uint64(1)) > 0


def instance_errors(matching: InstanceMatching, num_classes: int) -> ImageErrors:
    """Errors of one image.

    Returns:
        Doubt is the sum of score x (1 - boundary IoU) over objects that were found, of the scores of false detections,
        and of 1 for each object that no detection touches. Scores are those of all detections that aren't excused.
    """
    counts = no_errors(num_classes, len(WAYS))
    finder, false = matching.finder(), matching.false()
    for n in np.flatnonzero(~matching.crowd):
        _add_true(counts, matching, int(n), int(finder[n]))
    for n in np.flatnonzero(false):
        crop = crop_runs(matching.dt, int(n))
        _add(counts, crop.pixels, crop.pixels, (crop.top, crop.left), matching, matching.column[n], is_false=True)
    counts.confusion[:] = _confusion(matching, num_classes)
    shared, boundary_all, ious = _boundaries(matching, finder, false)
    counted = ~matching.excused
    scores = np.stack([matching.column, matching.score, matching.partner >= 0], axis=1)[counted]
    found = finder >= 0
    doubt = (matching.score[finder[found]] * (1 - ious[found])).sum() + matching.score[false].sum()
    return ImageErrors(counts, shared, boundary_all, ious, float(doubt + matching.untouched().sum()), scores)


def _add_true(counts: ErrorCounts, matching: InstanceMatching, n: int, finder: int) -> None:
    """A true object and the detection that finds it, if one does."""
    boxes = [matching.gt.boxes_yxyx[n], *matching.dt.boxes_yxyx[finder : finder + 1]]
    boxes = [box for box in boxes if box[2] > box[0]]
    if not boxes:
        return
    edges = [*np.min(boxes, axis=0)[:2], *np.max(boxes, axis=0)[2:]]
    truth, pred = np.zeros((2, int(edges[2] - edges[0]), int(edges[3] - edges[1])), np.bool_)
    for side, masks, index in ((truth, matching.gt, n), (pred, matching.dt, finder)):
        if index >= 0:
            crop = crop_runs(masks, index)
            top, left = crop.top - int(edges[0]), crop.left - int(edges[1])
            side[top : top + crop.pixels.shape[0], left : left + crop.pixels.shape[1]] |= crop.pixels
    amounts = _add(counts, truth, pred, (int(edges[0]), int(edges[1])), matching, matching.gt_column[n])
    size = size_band(matching.gt.areas[n : n + 1])[0]
    counts.sizes[:, size] += np.array([1, finder >= 0, *amounts])


def _add(
    counts: ErrorCounts,
    truth: np.ndarray,
    pred: np.ndarray,
    corner: tuple[int, int],
    matching: InstanceMatching,
    column: int,
    *,
    is_false: bool = False,
) -> tuple[int, int]:
    """A pair of masks (h, w) whose first pixel is ``corner`` of the image; pixels looked at, and wrong ones.

    Distances and weights are those of ``truth``, which for a false object is its own mask.
    """
    height, width = matching.gt.height, matching.gt.width
    before = [min(_HALF, corner[0]), min(_HALF, corner[1])]  # what windows of the null model see of the image
    after = [min(_HALF, side - at - n) for side, at, n in zip((height, width), corner, truth.shape)]
    padded = np.pad(truth, list(zip(before, after)))
    inside = tuple(slice(b, b + n) for b, n in zip(before, truth.shape))
    distances = label_distances(padded)[inside]
    weights = pixel_weights(pixel_null_model(padded, LOCALITY, ignore_label=None)[inside])
    measures = bands(distances, DISTANCE_EDGES_PX), bands(weights, WEIGHT_EDGES), distances <= matching.boundary_px
    missed_way = _TOO_SMALL if pred.any() else _MISSED
    sides = (np.zeros_like(truth), truth) if is_false else (truth, pred)
    flat = [array.reshape(-1) for array in (*sides, *measures)]
    false_way = _FALSE if is_false else _TOO_LARGE
    totals = counts.distances, counts.ways, counts.weights, counts.near
    return add_object(flat[0], flat[1], column, missed_way, false_way, *flat[2:], *totals)


def _confusion(matching: InstanceMatching, num_classes: int) -> np.ndarray:
    """(K + 1, K + 1) objects: kept detections matched whatever their class, the best one first."""
    kept = np.flatnonzero(matching.kept)
    kept = kept[np.argsort(-matching.score[kept], kind="stable")]
    pairs = _all_pairs(len(kept), len(matching.gt_column))
    partner, excused = _matched(matching.ious[kept].reshape(-1), pairs, matching.crowd)
    confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    right = partner >= 0
    np.add.at(confusion, (matching.gt_column[partner[right]], matching.column[kept[right]]), 1)
    np.add.at(confusion[num_classes], matching.column[kept[~right & ~excused]], 1)
    missed = ~matching.crowd
    missed[partner[right]] = False
    np.add.at(confusion[:, num_classes], matching.gt_column[missed], 1)
    return confusion


def _boundaries(matching: InstanceMatching, finder: np.ndarray, false: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Boundary pixels that matches share, those of all true objects, matches and false detections, and (G,) IoUs."""
    found = np.flatnonzero(finder >= 0)
    gt = boundary_sizes(matching.gt, ~matching.crowd, matching.boundary_px)
    wanted = false.copy()
    wanted[finder[found]] = True
    dt = boundary_sizes(matching.dt, wanted, matching.boundary_px)
    shared = shared_boundaries(matching.gt, found, matching.dt, finder[found], matching.boundary_px)
    ious = np.where(matching.crowd, np.nan, 0.0)
    ious[found] = shared / np.maximum(gt[found] + dt[finder[found]] - shared, 1)
    return int(shared.sum()), int(gt.sum() + dt.sum() - shared.sum()), ious


def shared_instance_doubt(a: InstanceMatching, b: InstanceMatching) -> float:
    """How far A and B agree with each other against the annotation of an image.

    Of an object that both find, the lesser score x how much higher the boundary IoU of their two masks is than that of
    the better one with the truth; of a false detection that both have (IoU 0.5, same class), the lesser score; of a
    true object that no detection of either touches, 1.
    """
    doubt = float((a.untouched() & b.untouched()).sum())
    finders = a.finder(), b.finder()
    for n in np.flatnonzero((finders[0] >= 0) & (finders[1] >= 0)):
        i, j = int(finders[0][n]), int(finders[1][n])
        together = boundary_iou(a.dt, i, b.dt, j, a.boundary_px)
        apart = max(boundary_iou(one.dt, k, one.gt, int(n), one.boundary_px) for one, k in ((a, i), (b, j)))
        doubt += min(a.score[i], b.score[j]) * max(0.0, together - apart)
    ious = mask_ious(a.dt, b.dt, pair_up(a.column, b.column), np.zeros(len(b.column), np.bool_), LEAST_IOU)
    matrix = np.zeros((len(a.column), len(b.column)))
    matrix[a.column[:, None] == b.column] = ious
    matrix[~a.false()] = 0
    matrix[:, ~b.false()] = 0
    for i, j in zip(*np.nonzero(matrix >= LEAST_IOU)):
        if matrix[i, j] == matrix[i].max() == matrix[:, j].max():
            doubt += min(a.score[i], b.score[j])
    return doubt


def break_even_score(scores: np.ndarray, objects: int) -> float:
    """The score from which on there are as many detections as true objects, where precision and recall meet.

    Args:
        scores: (D,) of all detections.
        objects: true objects, crowds left out; none counts as one.

    Returns:
        The lowest score if there are fewer detections than objects; 0 without detections.
    """
    if not len(scores):
        return 0.0
    place = min(max(objects, 1), len(scores)) - 1
    return float(-np.partition(-scores, place)[place])
