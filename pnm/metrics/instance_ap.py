"""AP, Boundary AP, box AP and AF of instance segmentation, from small records of each image."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.instance_table import InstanceTable
from pnm.masks.runs import check_size
from pnm.metrics.average_f import average_f
from pnm.metrics.average_precision import (
    IOU_THRESHOLDS,
    RECALLS,
    Detections,
    check_multiplicities,
    mean_of_known,
    precision_and_recall,
    sort_detections,
    tied_with_the_one_before,
)
from pnm.metrics.boundary_width import boundary_distance_px, check_distance
from pnm.metrics.instance_outcomes import Images
from pnm.metrics.instance_records import ImageRecords, RecordSettings, entries_table, make_records
from pnm.metrics.joined_records import joined_records, no_records, records_of_each_image
from pnm.metrics.metric_names import INSTANCE as METRICS
from pnm.metrics.metric_values import MetricValues, distinct_names

COCO_AREA_RANGES = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
COCO_BOUNDARY_RATIO, CITYSCAPES_BOUNDARY_RATIO = 0.02, 0.005
_PREFIXES = {"bbox": "Box-", "segm": "", "boundary": "Boundary-"}
_AP_AT = {"50": 0, "75": 5, "90": 8}  # by index: 0.5 + 8 * 0.05 isn't 0.9 in floating point


class _Table(NamedTuple):
    """The records of images, side by side."""

    detections: Detections
    found: dict[str, np.ndarray]
    excused: dict[str, np.ndarray]
    gt_image: np.ndarray
    gt_column: np.ndarray
    positives: np.ndarray
    f_sums: np.ndarray


class InstanceMetrics:
    """Mask AP, Boundary AP, box AP and AF over a data set; exact under :meth:`merge` in any split.

    The rules are those of pycocotools: of an image and category the ``max_dets`` best detections count; equal scores
    keep their order, between images that of the image ids; crowd regions and instances out of the area range are
    neither found nor missed; precision is read at 101 recalls. A detection's area is that of its mask (of its box for
    box AP), an instance's what its annotation says. Boundary AP takes the lesser of mask and boundary IoU as overlap
    (Cheng et al., "Boundary IoU", CVPR 2021). AF is described in :mod:`pnm.metrics.average_f`.

    Args:
        category_ids: those that are evaluated.
        class_names: one for each category; the ids by default.
        boundary_ratio: width of the boundary as a fraction of the image's diagonal: 0.02 for COCO and LVIS, 0.005
            for Cityscapes.
        boundary_px: the width in pixels instead.
        max_dets: most detections of an image and category.
        area_ranges: ``{suffix: (least, largest)}`` in pixels; the first one is that of AP50 and its like, of AF, and
            of the recall at fewer detections.
        metrics: some of "bbox", "segm", "boundary" and "af".

    Raises:
        UserError: an argument that makes no sense.
    """

    def __init__(
        self,
        category_ids: Sequence[int],
        *,
        class_names: Sequence[str] | None = None,
        boundary_ratio: float = COCO_BOUNDARY_RATIO,
        boundary_px: int | None = None,
        max_dets: int = 100,
        area_ranges: Mapping[str, tuple[float, float]] = COCO_AREA_RANGES,
        metrics: Sequence[str] = ("segm", "boundary", "af"),
    ):
        self.category_ids = list(category_ids)
        names = [str(k) for k in self.category_ids] if class_names is None else list(class_names)
        self.class_names = distinct_names(names, self.category_ids) if len(names) == len(self.category_ids) else names
        self.boundary_ratio, self.boundary_px = boundary_ratio, boundary_px
        self.area_suffixes = list(area_ranges)
        self._check(metrics, max_dets)
        ranges = np.array([area_ranges[suffix] for suffix in area_ranges], np.float64).reshape(-1, 2)
        columns = {category: k for k, category in enumerate(self.category_ids)}
        self.settings = RecordSettings(columns, tuple(m for m in METRICS if m in metrics), ranges, max_dets)
        self.limits = np.array(sorted({n for n in (1, 10, max_dets) if n <= max_dets}), np.int64)
        self.reset()

    def _check(self, metrics: Sequence[str], max_dets: int) -> None:
        for name, values in (("category_ids", self.category_ids), ("class_names", self.class_names)):
            if len(set(values)) != len(values) or len(values) != len(self.category_ids) or not values:
                raise UserError(f"{name} are {values[:10]}: give each of {len(self.category_ids)} categories its own")
        unknown = [metric for metric in metrics if metric not in METRICS]
        if unknown or not metrics:
            raise UserError(f"metrics are {list(metrics)}: choose from {', '.join(METRICS)}")
        if max_dets < 1:
            raise UserError(f"max_dets is {max_dets}, expected at least 1")
        most = 64 // len(IOU_THRESHOLDS)
        if not 1 <= len(self.area_suffixes) <= most:
            raise UserError(f"{len(self.area_suffixes)} area ranges came, expected 1 to {most}")
        check_distance(self.boundary_ratio, self.boundary_px)

    def reset(self) -> None:
        """Forgets all images."""
        self._image_ids: dict[Any, None] = {}
        self._records: list[tuple[list, ImageRecords]] = []

    @property
    def image_ids(self) -> list:
        """Ids of the images seen, sorted."""
        return sorted(self._image_ids)

    def update(
        self,
        image_id: Any,
        height: int,
        width: int,
        gt: Sequence[Mapping[str, Any]],
        dt: Sequence[Mapping[str, Any]],
    ) -> None:
        """Adds one image. Either list may be empty.

        Args:
            image_id: a number or text; ids must be of one kind, so that they can be sorted.
            height, width: of the image, in pixels.
            gt: annotations ``{"category_id", "segmentation"[, "iscrowd", "area", "bbox"]}``; an area or box that isn't
                there is the mask's. For segmentations see :func:`pnm.masks.runs.decode_masks`.
            dt: detections ``{"category_id", "segmentation", "score"[, "bbox"]}``.

        Raises:
            UserError: the image came before, a category is unknown, a score isn't finite, a mask is damaged or of
                another size. Nothing is added then.
        """
        height, width, image = int(height), int(width), f"image {image_id}"
        self._check_new([image_id])
        if self.settings.needs_masks:
            check_size(height, width)
        truth = entries_table(gt, f"{image}, ground truth", (height, width), self.settings, is_predicted=False)
        pred = entries_table(dt, f"{image}, detection", (height, width), self.settings, is_predicted=True)
        self.update_many([image_id], np.array([[height, width]]), truth, pred)

    def update_many(self, image_ids: Sequence[Any], sizes: np.ndarray, gt: InstanceTable, dt: InstanceTable) -> None:
        """Adds I images, from tables whose rows are sorted by image.

        Args:
            image_ids: as those of :meth:`update`.
            sizes: (I, 2) int64, height and width of each image, in pixels.
            gt, dt: annotations and detections; finite numbers and sound corners, columns being places in
                ``category_ids``. Masks may be missing only if boxes alone count.

        Raises:
            UserError: an image came before, or an RLE text is damaged. Nothing is added then.
        """
        self._check_new(image_ids)
        widths = [self.boundary_px or boundary_distance_px(h, w, self.boundary_ratio) for h, w in sizes.tolist()]
        images = Images(sizes[:, 0].copy(), sizes[:, 1].copy(), np.array(widths, np.int64))
        records = make_records([f"image {image_id}" for image_id in image_ids], images, gt, dt, self.settings)
        self._records.append((list(image_ids), records))
        self._image_ids |= dict.fromkeys(image_ids)

    def _check_new(self, image_ids: Sequence[Any]) -> None:
        for image_id in image_ids:
            if image_id in self._image_ids:
                raise UserError(f"image {image_id} came twice: give all its detections at once")

    def merge(self, other: "InstanceMetrics") -> None:
        """Adds the images another process has seen.

        Raises:
            UserError: the other one measures something else, or both have seen the same image.
        """
        if self._what() != other._what():
            raise UserError(f"{other._what()} came, expected {self._what()}: only like results can be merged")
        twice = sorted(self._image_ids.keys() & other._image_ids.keys())
        if twice:
            raise UserError(f"images {twice[:5]} are in both results: give each process its own images")
        self._records += other._records
        self._image_ids |= other._image_ids

    def records(self) -> tuple[list, ImageRecords]:
        """:attr:`image_ids`, and all that is kept of the images, by their places there; for :meth:`add_records`."""
        return self.image_ids, self._all_records()

    def add_records(self, image_ids: Sequence[Any], records: ImageRecords) -> None:
        """Adds the images that another process has seen, by what its :meth:`records` gave; its settings are these.

        Raises:
            UserError: an image came before.
        """
        self._check_new(image_ids)
        self._records.append((list(image_ids), records))
        self._image_ids |= dict.fromkeys(image_ids)

    def _what(self) -> dict[str, Any]:
        names = ("category_ids", "class_names", "boundary_ratio", "boundary_px", "area_suffixes")
        what = {name: getattr(self, name) for name in names}
        return what | self.settings._asdict() | {"area_ranges": self.settings.area_ranges.tolist()}

    def compute(self) -> MetricValues:
        """All metrics in 0..1, nan where there is no ground truth.

        ``AP`` (mean over ten IoU thresholds and all classes with ground truth), ``AP50``, ``AP75``, ``AP90``, ``APs``,
        ``APm``, ``APl`` (by area), ``AR1``, ``AR10``, ``AR100`` (recall, by detections of an image and class), ``ARs``,
        ``ARm``, ``ARl``, ``AP-<class>``; the same as ``Boundary-AP``... and ``Box-AP``...; ``AF``, ``AF-<class>``.
        Without any detection, metrics with ground truth are 0.
        """
        return self._summary(self._table(self._all_records()), np.ones(len(self._image_ids), np.int64))

    def compute_many(self, multiplicities: np.ndarray) -> MetricValues:
        """:meth:`compute` on B data sets that have each image any number of times, e.g. for a bootstrap over images.

        Args:
            multiplicities: (B, I) integers from 0, columns in the order of :attr:`image_ids`.

        Returns:
            (B,) values of each metric. An image that counts m times is taken for m images whose ids follow each other.

        Raises:
            UserError: another shape, or a negative or fractional number.
        """
        weights = check_multiplicities(multiplicities, len(self._image_ids))
        table = self._table(self._all_records())
        return _stacked([self._summary(table, row) for row in weights])

    def per_image(self) -> MetricValues:
        """:meth:`compute` on each image alone, (I,) values in the order of :attr:`image_ids`."""
        records, one = self._all_records(), np.ones(1, np.int64)
        alone = records_of_each_image(records, len(self._image_ids))
        return _stacked([self._summary(self._table(record), one) for record in alone])

    def _all_records(self) -> ImageRecords:
        """Records of all images, numbered and sorted as :attr:`image_ids`."""
        places = {image_id: n for n, image_id in enumerate(self.image_ids)}
        numbers = [np.array([places[image_id] for image_id in ids], np.int64) for ids, _ in self._records]
        empty = no_records(self.settings)
        return joined_records([empty, *(records for _, records in self._records)], [np.empty(0, np.int64), *numbers])

    def _table(self, records: ImageRecords) -> _Table:
        order, offsets = sort_detections(records.column, records.score, len(self.category_ids))
        image = records.image[order]
        tied = tied_with_the_one_before(image, records.score[order], offsets)
        return _Table(
            Detections(offsets, image, records.rank[order], tied),
            {metric: found[order] for metric, found in records.found.items()},
            {metric: excused[order] for metric, excused in records.excused.items()},
            *records[6:],
        )

    def _summary(self, table: _Table, weights: np.ndarray) -> MetricValues:
        gt_weights = weights[table.gt_image]
        positives = np.zeros((len(self.category_ids), len(self.area_suffixes)), np.int64)
        np.add.at(positives, table.gt_column, table.positives * gt_weights[:, None])
        means: dict[str, float] = {}
        by_class: dict[str, dict[str, float]] = {}
        for metric in table.found:
            ap, recall = precision_and_recall(
                table.detections,
                table.found[metric],
                table.excused[metric],
                weights,
                positives,
                self.limits,
                len(IOU_THRESHOLDS),
                RECALLS,
            )
            prefix = _PREFIXES[metric]
            means |= self._ap_means(prefix, ap, recall)
            of_class = ap[:, 0].mean(axis=1).tolist()
            by_class[f"{prefix}AP"] = dict(zip(self.class_names, of_class, strict=True))
        if "af" in self.settings.metrics:
            sums = np.zeros((len(self.category_ids), 2, len(IOU_THRESHOLDS)), np.int64)
            np.add.at(sums, table.gt_column, table.f_sums * gt_weights[:, None, None])
            means["AF"] = float(average_f(sums.sum(axis=0), np.asarray(positives[:, 0].any())))
            of_class = average_f(sums, positives[:, 0] > 0).tolist()
            by_class["AF"] = dict(zip(self.class_names, of_class, strict=True))
        return MetricValues(means, by_class)

    def _ap_means(self, prefix: str, ap: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        suffixes = list(enumerate(self.area_suffixes))
        result = {"AP" + self.area_suffixes[0]: mean_of_known(ap[:, 0])}
        result |= {f"AP{percent}": mean_of_known(ap[:, 0, t]) for percent, t in _AP_AT.items()}
        result |= {f"AP{suffix}": mean_of_known(ap[:, a]) for a, suffix in suffixes[1:]}
        result |= {f"AR{limit}": mean_of_known(recall[:, 0, :, m]) for m, limit in enumerate(self.limits)}
        result |= {f"AR{suffix}": mean_of_known(recall[:, a, :, -1]) for a, suffix in suffixes[1:]}
        return {prefix + name: value for name, value in result.items()}


def _stacked(rows: Sequence[MetricValues]) -> MetricValues:
    return rows[0].like(lambda name: np.array([row[name] for row in rows])) if rows else MetricValues({}, {})
