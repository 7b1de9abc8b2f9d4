"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019) and Boundary PQ (Cheng et al., CVPR 2021).

A prediction and a ground-truth segment match if their categories agree, the ground truth is no crowd and
IoU > 0.5 with void left out of the union. Areas are counted from the maps, never read from the JSON, and
every crowd region of a category excuses a false positive, not only the last one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.metrics.boundary_width import check_distance
from pnm.metrics.exact_sums import QUOTIENT_SCALE, mean_over_classes, quotient
from pnm.metrics.metric_values import MetricValues, distinct_names
from pnm.metrics.segment_matching import COUNTS, VOID, Segments, match_counts, match_outcomes
from pnm.metrics.segment_pairs import MAX_ID, SegmentPairs, count_pairs

_QUALITIES = ("PQ", "SQ", "RQ")
_SUFFIXES = {"All": "", "Things": "_th", "Stuff": "_st"}


class ImageMatches(NamedTuple):
    """Which segments of an image count as what; ids, ascending.

    Attributes:
        matched: ground-truth segments that are found, PQ's true positives.
        missed: other ground-truth segments but crowds, PQ's false negatives.
        false_positives: predicted segments that match none and aren't excused by void or crowds.
    """

    matched: tuple[int, ...]
    missed: tuple[int, ...]
    false_positives: tuple[int, ...]


class PanopticQuality:
    """Accumulates matches over images; exact under :meth:`merge` in any split.

    With a boundary, Boundary PQ is counted beside PQ: a pair matches if mask IoU and Boundary IoU exceed 0.5, and adds
    the lesser of them. Void is left out of both unions; what lies on void is told from the mask in both.

    Args:
        isthing: ``{category_id: is it a thing}`` for every category that is evaluated.
        class_names: ``{category_id: name}`` for the report; ids by default, and behind names that occur twice.
        boundary_ratio: width of the boundary as a fraction of the image's diagonal: 0.02 for COCO, 0.005 for
            Cityscapes. None, with ``boundary_px`` None, measures no Boundary PQ.
        boundary_px: the width in pixels instead.

    Attributes:
        statistics: (4 or 8, C) int64, sums over images, all that is known: true positives, false positives, false
            negatives and the matches' IoU in 2**-40, of PQ and then of Boundary PQ; row names are in ``rows``, columns
            are the categories in the order of ``isthing``.

    Raises:
        UserError: no category, or a boundary that makes no sense.
    """

    def __init__(
        self,
        isthing: Mapping[int, bool],
        *,
        class_names: Mapping[int, str] | None = None,
        boundary_ratio: float | None = None,
        boundary_px: int | None = None,
    ):
        self.isthing = {int(category): bool(thing) for category, thing in isthing.items()}
        if not self.isthing:
            raise UserError("isthing is empty, expected {category id: is it a thing}")
        names = {} if class_names is None else class_names
        self.class_names = distinct_names([str(names.get(k, k)) for k in self.isthing], self.isthing)
        check_distance(boundary_ratio, boundary_px)
        self.boundary_ratio, self.boundary_px = boundary_ratio, boundary_px
        self.has_boundary = boundary_ratio is not None or boundary_px is not None
        self.rows = list(COUNTS) + [f"Boundary {name}" for name in COUNTS if self.has_boundary]
        self._column = {category: k for k, category in enumerate(self.isthing)}
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self.statistics = np.zeros((len(self.rows), len(self.isthing)), np.int64)

    def update(
        self,
        gt_ids: np.ndarray,
        gt_segments: Iterable[Mapping[str, Any]],
        pred_ids: np.ndarray,
        pred_segments: Iterable[Mapping[str, Any]],
    ) -> None:
        """Adds one image, see :meth:`image_statistics`. Nothing is added if that fails."""
        self.statistics = self.statistics + self.image_statistics(gt_ids, gt_segments, pred_ids, pred_segments)

    def image_statistics(
        self,
        gt_ids: np.ndarray,
        gt_segments: Iterable[Mapping[str, Any]],
        pred_ids: np.ndarray,
        pred_segments: Iterable[Mapping[str, Any]],
    ) -> np.ndarray:
        """What one image adds to :attr:`statistics`, without adding it.

        Args:
            gt_ids, pred_ids: (H, W) integer maps of segment ids, 0 = void.
            gt_segments, pred_segments: ``{"id", "category_id"[, "iscrowd"]}`` of each segment. A ground-truth id that
                only the list has is a segment that was not found; pixels whose id only the map has are no segment's
                and, unlike void, excuse nothing. Both are as in the COCO evaluation.

        Returns:
            (4 or 8, C) int64.

        Raises:
            UserError: sizes differ, a category is unknown, an id is void's or occurs twice, or a predicted id is in
                only one of map and list.
        """
        gt, pred, pairs = self.image_pairs(gt_ids, gt_segments, pred_ids, pred_segments)
        return match_counts(gt, pred, pairs, len(self.isthing), self.has_boundary)

    def image_pairs(
        self,
        gt_ids: np.ndarray,
        gt_segments: Iterable[Mapping[str, Any]],
        pred_ids: np.ndarray,
        pred_segments: Iterable[Mapping[str, Any]],
    ) -> tuple[Segments, Segments, SegmentPairs]:
        """True and predicted segments of one image, and what they share.

        Args and errors are those of :meth:`image_statistics`.
        """
        gt, pred = self._segments(gt_segments, "ground truth"), self._segments(pred_segments, "prediction")
        return gt, pred, count_pairs(gt_ids, pred_ids, self.boundary_px, self.boundary_ratio)

    def image_matches(
        self,
        gt_ids: np.ndarray,
        gt_segments: Iterable[Mapping[str, Any]],
        pred_ids: np.ndarray,
        pred_segments: Iterable[Mapping[str, Any]],
    ) -> ImageMatches:
        """Which segments of one image match by PQ's rule, whether or not a boundary is measured.

        Args and errors are those of :meth:`image_statistics`, whose counts of PQ are the numbers of these segments.
        """
        gt, pred = self._segments(gt_segments, "ground truth"), self._segments(pred_segments, "prediction")
        outcomes = match_outcomes(gt, pred, count_pairs(gt_ids, pred_ids))
        ids = (
            gt.ids[outcomes.gt_matched],
            gt.ids[~outcomes.gt_matched & ~gt.crowd],
            pred.ids[~outcomes.pred_matched & ~outcomes.pred_excused],
        )
        return ImageMatches(*(tuple(row.tolist()) for row in ids))

    def _segments(self, segments: Iterable[Mapping[str, Any]], side: str) -> Segments:
        of_id: dict[int, tuple[int, bool]] = {}
        for segment in segments:
            number, category = int(segment["id"]), int(segment["category_id"])
            if number in of_id:
                raise UserError(f"{side}: segment id {number} is listed twice")
            if not VOID < number <= MAX_ID:
                raise UserError(f"{side}: a segment has id {number}, expected 1 to {MAX_ID}; {VOID} is void")
            if category not in self._column:
                raise UserError(f"{side}: segment {number} has category {category}, which the data set doesn't have")
            of_id[number] = self._column[category], bool(segment.get("iscrowd", 0))
        ids = sorted(of_id)
        columns, crowd = [of_id[n][0] for n in ids], [of_id[n][1] for n in ids]
        return Segments(np.array(ids, np.int64), np.array(columns, np.int64), np.array(crowd, np.bool_))

    def merge(self, other: "PanopticQuality") -> None:
        """Adds the images another process has seen.

        Raises:
            UserError: the other one measures something else.
        """
        if self._settings() != other._settings():
            raise UserError("only results over the same categories and boundaries can be merged")
        self.statistics = self.statistics + other.statistics

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "statistics"}

    def compute(self) -> MetricValues:
        """Everything in 0..1; nan where nothing occurs.

        ``PQ``, ``SQ``, ``RQ`` over all categories, ``PQ_th``... over things, ``PQ_st``... over stuff, ``PQ-<class>``,
        ``SQ-<class>``, ``RQ-<class>``; with a boundary the same as ``Boundary-PQ``... PQ = IoU sum / (TP + FP/2 +
        FN/2), SQ = IoU sum / TP (0 without TP), RQ = TP / (TP + FP/2 + FN/2). Means run over the categories that occur
        in ground truth or prediction.
        """
        return self.compute_many(self.statistics[None]).map(lambda values: float(values[0]))

    def compute_many(self, statistics: np.ndarray) -> MetricValues:
        """:meth:`compute` of B other statistics, e.g. of each image, or of sums over images drawn for a bootstrap.

        Args:
            statistics: (B, 4 or 8, C) integers, what :meth:`image_statistics` returned, or sums of it.

        Returns:
            (B,) values of each metric.

        Raises:
            UserError: another shape.
        """
        if statistics.ndim != 3 or statistics.shape[1:] != self.statistics.shape:
            raise UserError(f"statistics are {statistics.shape}, expected (B, R, C) with {self.statistics.shape} last")
        means: dict[str, np.ndarray] = {}
        by_class: dict[str, np.ndarray] = {}
        for first, prefix in ((0, ""), (4, "Boundary-"))[: 1 + self.has_boundary]:
            rows = dict(zip(_QUALITIES, _qualities(*statistics[:, first : first + 4].swapaxes(0, 1))))
            for split, suffix in _SUFFIXES.items():
                chosen = ~np.isnan(rows["PQ"]) & self._in_split(split)
                means |= {f"{prefix}{q}{suffix}": mean_over_classes(row, chosen) for q, row in rows.items()}
            by_class |= {prefix + q: row for q, row in rows.items()}
        return MetricValues(means, {q: dict(zip(self.class_names, row.T, strict=True)) for q, row in by_class.items()})

    def _in_split(self, split: str) -> np.ndarray:
        thing = np.array(list(self.isthing.values()), np.bool_)
        return {"All": np.ones_like(thing), "Things": thing, "Stuff": ~thing}[split]

    def by_split(self) -> dict[str, dict[str, float]]:
        """``{"All" | "Things" | "Stuff": {"pq", "sq", "rq", "n"}}`` in 0..1, as panopticapi returns it.

        ``n`` is the number of categories that occur in ground truth or prediction; of none the means are nan.
        """
        values = self.compute()
        occurs = self.statistics[:3].any(axis=0)
        result: dict[str, dict[str, float]] = {}
        for split, suffix in _SUFFIXES.items():
            result[split] = {q.lower(): values[q + suffix] for q in _QUALITIES}
            result[split]["n"] = int((occurs & self._in_split(split)).sum())
        return result


def _qualities(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, ...]:
    """PQ, SQ and RQ of each class; nan where it doesn't occur."""
    occurs = tp + fp + fn > 0
    denominator = tp + 0.5 * fp + 0.5 * fn
    sq = np.where(tp > 0, quotient(iou / QUOTIENT_SCALE, tp), np.where(occurs, 0.0, np.nan))
    return quotient(iou / QUOTIENT_SCALE, denominator), sq, quotient(tp, denominator)
