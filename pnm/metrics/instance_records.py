"""What the instance metrics keep of images: which detections found which instances, a few bytes each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.instance_table import InstanceTable
from pnm.masks.mask_codes import NO_CODES
from pnm.masks.runs import check_segmentations, damaged, mask_codes
from pnm.metrics.average_precision import IOU_THRESHOLDS
from pnm.metrics.instance_outcomes import AF, BBOX, BOUNDARY, SEGM, Images, Outcomes, Rules, Side, match_images

_ROWS = {"bbox": BBOX, "segm": SEGM, "boundary": BOUNDARY, "af": AF}


class RecordSettings(NamedTuple):
    """What records are made for.

    Attributes:
        columns: class index of each category id.
        metrics: some of :data:`pnm.metrics.metric_names.INSTANCE`.
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


class ImageRecords(NamedTuple):
    """D detections, by image, class, then falling score; C pairs of an image and a class that has instances in it.

    Attributes:
        image, column, score, rank: (D,) index of the image and class, score, number of better detections of both.
        found, excused: (D,) uint64 of each metric, see :class:`pnm.metrics.instance_matching.Matches`.
        gt_image, gt_column: (C,) index of the image and class.
        positives: (C, A) int64, instances to be found in each area range.
        f_sums: (C, 2, T) int64, see :func:`pnm.metrics.average_f.f_sums`.
    """

    image: np.ndarray
    column: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    found: dict[str, np.ndarray]
    excused: dict[str, np.ndarray]
    gt_image: np.ndarray
    gt_column: np.ndarray
    positives: np.ndarray
    f_sums: np.ndarray


def make_records(
    names: Sequence[str], images: Images, gt: InstanceTable, dt: InstanceTable, settings: RecordSettings
) -> ImageRecords:
    """Records of images, which errors call by their ``names``.

    Raises:
        UserError: a mask is damaged.
    """
    gt_order = np.lexsort((gt.column, gt.image))
    dt_order, rank = _best(dt, settings.max_dets)
    sides = [_side(gt, gt_order, len(names)), _side(dt, dt_order, len(names))]
    keys = np.stack([gt.image[gt_order], gt.column[gt_order]])
    is_new = np.ones(len(gt_order), np.bool_)
    is_new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    pairs, areas, thresholds = np.flatnonzero(is_new), len(settings.area_ranges), len(IOU_THRESHOLDS)
    found, excused = np.zeros((2, 3, len(dt_order)), np.uint64)
    outcomes = Outcomes(
        found,
        excused,
        np.cumsum(is_new) - 1,
        np.zeros((len(pairs), areas), np.int64),
        np.zeros((len(pairs), 2, thresholds), np.int64),
    )
    wanted = np.array([name in settings.metrics for name in sorted(_ROWS, key=_ROWS.__getitem__)])
    rules = Rules(wanted, IOU_THRESHOLDS, settings.area_ranges)
    side, row, fault = match_images(*sides, images, rules, outcomes)
    if side >= 0:
        table, kind = ((gt, "ground truth"), (dt, "detection"))[side]
        image = int(table.image[row])
        number = row - int(np.searchsorted(table.image, image))
        size = int(images.height[image]), int(images.width[image])
        raise damaged(f"{names[image]}, {kind} {number}", fault, *size)
    rows = {metric: _ROWS[metric] for metric in settings.metrics if metric != "af"}
    return ImageRecords(
        dt.image[dt_order],
        dt.column[dt_order],
        dt.score[dt_order],
        rank,
        {metric: found[row] for metric, row in rows.items()},
        {metric: excused[row] for metric, row in rows.items()},
        keys[0, pairs],
        keys[1, pairs],
        outcomes.positives,
        outcomes.f_sums,
    )


def _side(table: InstanceTable, order: np.ndarray, images: int) -> Side:
    first = np.searchsorted(table.image[order], np.arange(images + 1))
    return Side(table, order, first)


def _best(dt: InstanceTable, most: int) -> tuple[np.ndarray, np.ndarray]:
    """``(order, rank)`` of the ``most`` best of each image and class: by falling score, equals as they came."""
    order = np.lexsort((-dt.score, dt.column, dt.image))
    image, column = dt.image[order], dt.column[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (image[1:] != image[:-1]) | (column[1:] != column[:-1])
    rank = np.arange(len(order)) - np.flatnonzero(is_new)[np.cumsum(is_new) - 1]
    return order[rank < most], rank[rank < most]


def entries_table(
    entries: Sequence[Mapping[str, Any]],
    name: str,
    size: tuple[int, int],
    settings: RecordSettings,
    *,
    is_predicted: bool,
) -> InstanceTable:
    """Annotations or detections of one image of ``size`` height and width; an error calls entry n ``<name> <n>``.

    Raises:
        UserError: as :meth:`pnm.metrics.instance_ap.InstanceMetrics.update`, but for damaged RLE texts.
    """

    def label(n: int) -> str:
        return f"{name} {n}"

    column, number = class_indices(entries, name, settings.columns), len(entries)
    score = finite_scores(entries, name) if is_predicted else np.zeros(number)
    codes = NO_CODES
    if settings.needs_masks:
        check_segmentations(entries, label)
        codes = mask_codes([entry["segmentation"] for entry in entries], *size, label)
    boxes = np.full((number, 4), np.nan)
    if "bbox" in settings.metrics:
        boxes = _boxes(entries, settings.needs_masks, label)
    areas, crowd = np.full(number, np.nan), np.zeros(number, np.bool_)
    if not is_predicted:
        areas = _given_areas(entries, name)
        crowd = np.fromiter((bool(entry.get("iscrowd", 0)) for entry in entries), np.bool_, number)
    return InstanceTable(np.zeros(number, np.int64), column, score, areas, crowd, boxes, codes)


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


def _boxes(entries: Sequence[Mapping[str, Any]], has_masks: bool, label: Callable[[int], str]) -> np.ndarray:
    """(N, 4) boxes x, y, w, h; nan where none is given but a mask is."""
    boxes = np.full((len(entries), 4), np.nan)
    for n, entry in enumerate(entries):
        box = entry.get("bbox")
        if box is None and has_masks:
            continue
        try:
            boxes[n] = box
        except (TypeError, ValueError):
            boxes[n] = np.nan
        if not np.isfinite(boxes[n]).all() or boxes[n, 2:].min() < 0:
            raise UserError(f"{label(n)}: bbox is {box}, expected [x, y, width, height] in pixels")
    return boxes


def _given_areas(entries: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """(G,) the annotations' areas, nan where there is none."""
    areas = np.array([entry.get("area", 0.0) for entry in entries], np.float64)
    if not np.isfinite(areas).all():
        raise UserError(f"{name}: an area is {areas[~np.isfinite(areas)][0]}, expected pixels, or none to count them")
    areas[[n for n, entry in enumerate(entries) if "area" not in entry]] = np.nan
    return areas
