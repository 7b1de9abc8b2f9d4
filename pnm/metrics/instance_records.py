"""What the instance metrics keep of an image: which detections found which instances, a few bytes each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.runs import MaskRuns, decode_entries
from pnm.metrics.average_f import f_sums
from pnm.metrics.average_precision import IOU_THRESHOLDS
from pnm.metrics.boundary_mask_iou import boundary_ious
from pnm.metrics.instance_matching import Matches, Pairs, box_ious, mask_ious, match, pair_up

METRICS = ("bbox", "segm", "boundary", "af")


class RecordSettings(NamedTuple):
    """What a record is made for.

    Attributes:
        columns: class index of each category id.
        metrics: some of ``METRICS``.
        area_ranges: (A, 2), least and largest area in pixels.
        max_dets: most detections of an image and category.
    """

    columns: Mapping[int, int]
    metrics: tuple[str, ...]
    area_ranges: np.ndarray
    max_dets: int

    @property
    def needs_masks(self) -> bool:
        return set(self.metrics) != {"bbox"}


class ImageRecord(NamedTuple):
    """D detections, by class, then falling score; C classes that have instances.

    Attributes:
        column, score, rank: (D,) class index, score, number of better detections of the class.
        found, excused: (D,) uint64 of each metric, see :class:`pnm.metrics.instance_matching.Matches`.
        gt_column: (C,) class index.
        positives: (C, A) int64, instances to be found in each area range.
        f_sums: (C, 2, T) int64, see :func:`pnm.metrics.average_f.f_sums`.
    """

    column: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    found: dict[str, np.ndarray]
    excused: dict[str, np.ndarray]
    gt_column: np.ndarray
    positives: np.ndarray
    f_sums: np.ndarray


class _Side(NamedTuple):
    """Instances or detections sorted for matching, with what the metrics need of masks and (N, 4) x, y, w, h boxes."""

    column: np.ndarray
    entries: list[Mapping[str, Any]]
    masks: MaskRuns | None
    boxes_xywh: np.ndarray | None


def make_record(
    image: str,
    size: tuple[int, int],
    gt: Sequence[Mapping[str, Any]],
    dt: Sequence[Mapping[str, Any]],
    settings: RecordSettings,
    boundary_px: int,
) -> ImageRecord:
    """Record of one image, of ``size`` height and width, that errors call ``image``; see ``InstanceMetrics.update``."""
    gt_name, dt_name = f"{image}, ground truth", f"{image}, detection"
    column = class_indices(gt, gt_name, settings.columns)
    gt_side = _side(gt, gt_name, np.argsort(column, kind="stable"), column, size, settings)
    column, score = class_indices(dt, dt_name, settings.columns), finite_scores(dt, dt_name)
    order, rank = _best(column, score, settings.max_dets)
    dt_side = _side(dt, dt_name, order, column, size, settings)

    crowd = np.fromiter((bool(g.get("iscrowd", 0)) for g in gt_side.entries), np.bool_, len(gt))
    left_out = crowd | _out_of_range(_gt_areas(gt_side, gt_name), settings)
    matches = _match_each(gt_side, dt_side, crowd, left_out, settings, boundary_px)
    classes, first = np.unique(gt_side.column, return_index=True)
    positives = np.add.reduceat(~left_out, first, axis=1, dtype=np.int64).T if len(gt) else np.zeros_like(left_out.T)
    if "af" in settings.metrics:
        assert dt_side.masks is not None and gt_side.masks is not None
        places = np.searchsorted(classes, dt_side.column)
        f = f_sums(dt_side.masks, gt_side.masks, matches["segm"].partner, places, len(classes))
    else:
        f = np.zeros((len(classes), 2, len(IOU_THRESHOLDS)), np.int64)
    found, excused = [{k: m[part] for k, m in matches.items() if k in settings.metrics} for part in (0, 1)]
    return ImageRecord(dt_side.column, score[order], rank, found, excused, classes, positives.astype(np.int64), f)


def _match_each(
    gt: _Side, dt: _Side, crowd: np.ndarray, left_out: np.ndarray, settings: RecordSettings, boundary_px: int
) -> dict[str, Matches]:
    """Matches by each kind of overlap; AF is computed from those of "segm"."""
    pairs: Pairs = pair_up(dt.column, gt.column)
    overlaps, dt_areas = {}, {}
    if settings.needs_masks:
        assert dt.masks is not None and gt.masks is not None
        overlaps["segm"] = mask_ious(dt.masks, gt.masks, pairs, crowd, IOU_THRESHOLDS[0])
        dt_areas = dict.fromkeys(("segm", "boundary"), dt.masks.areas)
    if "boundary" in settings.metrics:
        assert dt.masks is not None and gt.masks is not None
        overlaps["boundary"] = boundary_ious(
            dt.masks, gt.masks, pairs, crowd, overlaps["segm"], IOU_THRESHOLDS[0], boundary_px
        )
    if "bbox" in settings.metrics:
        assert dt.boxes_xywh is not None and gt.boxes_xywh is not None
        overlaps["bbox"] = box_ious(dt.boxes_xywh, gt.boxes_xywh, pairs, crowd)
        dt_areas["bbox"] = dt.boxes_xywh[:, 2] * dt.boxes_xywh[:, 3]
    return {
        metric: match(ious, pairs, crowd, left_out, _out_of_range(dt_areas[metric], settings), IOU_THRESHOLDS)
        for metric, ious in overlaps.items()
        if metric in settings.metrics or (metric == "segm" and "af" in settings.metrics)
    }


def _best(column: np.ndarray, score: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """``(order, rank)`` of the ``most`` best of each class: by class, then falling score, equals as they came."""
    order = np.lexsort((-score, column))
    column = column[order]
    rank = np.arange(len(column)) - np.searchsorted(column, column)
    return order[rank < most], rank[rank < most]


def _side(
    entries: Sequence[Mapping[str, Any]],
    name: str,
    order: np.ndarray,
    column: np.ndarray,
    size: tuple[int, int],
    settings: RecordSettings,
) -> _Side:
    chosen = [entries[n] for n in order]
    masks = boxes = None
    if settings.needs_masks:
        masks = decode_entries(chosen, size, lambda n: f"{name} {order[n]}")
    if "bbox" in settings.metrics:
        boxes = _boxes(chosen, masks, lambda n: f"{name} {order[n]}")
    return _Side(column[order], chosen, masks, boxes)


def class_indices(entries: Sequence[Mapping[str, Any]], name: str, columns: Mapping[int, int]) -> np.ndarray:
    """(N,) index of each entry's category in ``columns``; a UserError if one isn't there."""
    try:
        return np.fromiter((columns[e["category_id"]] for e in entries), np.int64, len(entries))
    except (KeyError, TypeError):
        known = list(columns)
        wrong = next(n for n, e in enumerate(entries) if e.get("category_id") not in known)
        raise UserError(
            f"{name} {wrong}: category_id is {entries[wrong].get('category_id')}, expected one of the {len(known)} "
            f"that are evaluated, like {known[0]}: leave out others"
        ) from None


def finite_scores(dt: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """(N,) scores; a UserError if one isn't a finite number."""
    try:
        scores = np.fromiter((d["score"] for d in dt), np.float64, len(dt))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{name}s need a score each, a number") from None
    if not np.isfinite(scores).all():
        wrong = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise UserError(f"{name} {wrong}: score is {scores[wrong]}, expected a finite number")
    return scores


def _boxes(entries: Sequence[Mapping[str, Any]], masks: MaskRuns | None, label: Callable[[int], str]) -> np.ndarray:
    """(N, 4) boxes x, y, w, h: those given, or else those of the masks."""
    boxes = np.zeros((len(entries), 4))
    for n, entry in enumerate(entries):
        box = entry.get("bbox")
        if box is None and masks is not None:
            top, left, bottom, right = masks.boxes_yxyx[n]
            box = (left, top, right - left, bottom - top)
        try:
            boxes[n] = box
        except (TypeError, ValueError):
            boxes[n] = np.nan
        if not np.isfinite(boxes[n]).all() or boxes[n, 2:].min() < 0:
            raise UserError(f"{label(n)}: bbox is {box}, expected [x, y, width, height] in pixels")
    return boxes


def _gt_areas(gt: _Side, name: str) -> np.ndarray:
    """(G,) the annotations' areas, or else those of their masks or boxes."""
    if gt.masks is not None:
        default = gt.masks.areas.astype(np.float64)
    else:
        assert gt.boxes_xywh is not None
        default = gt.boxes_xywh[:, 2] * gt.boxes_xywh[:, 3]
    areas = np.array([g.get("area", area) for g, area in zip(gt.entries, default)], np.float64)
    if not np.isfinite(areas).all():
        raise UserError(f"{name}: an area is {areas[~np.isfinite(areas)][0]}, expected pixels, or none to count them")
    return areas


def _out_of_range(areas: np.ndarray, settings: RecordSettings) -> np.ndarray:
    """(A, N) bool."""
    least, largest = settings.area_ranges.T[..., None]
    return (areas < least) | (areas > largest)
