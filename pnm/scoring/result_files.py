"""Semantic and instance predictions of any model in files, beside their ground truth.

What doesn't fit is listed, the rest is scored.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.formats import semantic_maps
from pnm.formats.coco_instances import CocoGroundTruth, CocoResults, read_coco_ground_truth, read_coco_results
from pnm.formats.coco_tables import read_result_table, read_truth_table
from pnm.metrics.exact_sums import LabelPair, pair_labels
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.semantic_metrics import SemanticMetrics
from pnm.scoring.image_results import InstanceImage
from pnm.scoring.scores import Scores, for_each_image, missing_lines, stacked_scores

_AT_ONCE = 64  # images


class SemanticFiles:
    """Semantic predictions (a folder of label PNGs, or ``sem_seg_predictions.json``) and a folder of label PNGs.

    Args:
        cityscapes: ground truth and predicted PNGs hold Cityscapes' label ids, unless named ``*labelTrainIds``.
        pred_train_ids: with ``cityscapes``, predicted PNGs hold train ids whatever their name.
        category_ids: that masks of a JSON have, in the order of the classes; 0..K - 1 by default.

    Raises:
        FileNotFoundError, UserError: a path that holds no such files.
    """

    task = "semantic"

    def __init__(
        self,
        pred: str | Path,
        gt: str | Path,
        metric: SemanticMetrics,
        *,
        cityscapes: bool = False,
        pred_train_ids: bool = False,
        category_ids: Sequence[int] | None = None,
    ):
        self.metric, self._cityscapes, self._pred_train_ids = metric, cityscapes, pred_train_ids
        self._category_ids = range(metric.num_classes) if category_ids is None else list(category_ids)
        if len(self._category_ids) != metric.num_classes:
            raise UserError(
                f"{len(self._category_ids)} category ids came for {metric.num_classes} classes: give one for each"
            )
        self._pred, self._truth = semantic_maps.paired_files(pred, gt, label_ids=cityscapes)
        self.problems = missing_lines(self._truth, self._pred, str(pred))
        self.remarks: list[str] = []
        self.images = [name for name in self._truth if name in self._pred and self._fits(name)]

    def _fits(self, name: str) -> bool:
        sizes = [semantic_maps.source_size(source) for source in (self._pred[name], self._truth[name])]
        strange = semantic_maps.unknown_categories(self._pred[name], self._category_ids)
        if sizes[0] != sizes[1]:
            wrong = " and ".join("{} x {}".format(*size) for size in sizes)
            self.problems.append(f"image {name}: prediction and ground truth are {wrong}, expected one size")
        if strange:
            self.problems.append(f"image {name}: predicted categories {strange[:5]}, which the data set doesn't have")
        return sizes[0] == sizes[1] and not strange

    def score(self, images: Sequence[str], workers: int = 1, progress: bool = False) -> Scores:
        rows = for_each_image(self._statistics, images, workers, progress)
        scores = stacked_scores(self.metric, images, rows)
        counted = sum(int(row[self.metric.rows.index("truth")].sum()) for row in rows)
        pixels = sum(math.prod(semantic_maps.source_size(self._truth[name])) for name in images)
        return scores._replace(share_ignored=1 - counted / pixels if pixels else 0.0)

    def _maps(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) predicted and true labels."""
        source, file = self._pred[name], self._truth[name]
        pred, truth = semantic_maps.read_labels(source, self._category_ids), semantic_maps.read_labels(file, [])
        if self._cityscapes:
            truth = semantic_maps.train_ids(file, truth, truth=True)
            if isinstance(source, Path) and not self._pred_train_ids:
                pred = semantic_maps.train_ids(source, pred, truth=False)
        return pred, truth

    def _statistics(self, name: str) -> np.ndarray:
        pred, truth = self._maps(name)
        try:
            return self.metric.image_statistics(pred, truth)
        except UserError as error:
            raise UserError(f"{self._truth[name]}: {error}") from None

    def read(self, name: str) -> LabelPair:
        """Truth and prediction of an image, classes alone.

        Raises:
            UserError: a damaged file, or a true label that is neither a class nor ignored.
        """
        try:
            return pair_labels(*self._maps(name), self.metric.num_classes, self.metric.ignore_label)
        except UserError as error:
            raise UserError(f"{self._truth[name]}: {error}") from None

    def image_key(self, name: str) -> str:
        """What the image is called, for :class:`pnm.formats.image_files.ImageFiles`."""
        return name


class InstanceFiles:
    """COCO results and ground truth. An image without detections is remarked on; all else that doesn't fit is listed.

    Raises:
        FileNotFoundError, UserError: as the readers of :mod:`pnm.formats.coco_instances` do.
    """

    task = "instance"

    def __init__(self, pred: str | Path, gt: str | Path, **options: Any):
        self._options, self._paths = options, (gt, pred)
        metrics = set(options.get("metrics", ()))
        self._masks = metrics != {"bbox"}
        what = {"masks": self._masks, "boxes": "bbox" in metrics}
        truth = read_truth_table(gt, **what)
        results = read_result_table(pred, truth, **what) if truth else None
        self._tables = (truth, results.table) if truth and results else None
        self._truth, self._results = (truth.truth, results.results) if truth and results else self._entries
        self.problems, self.remarks = self._results.problems, [*self._truth.remarks, *self._results.remarks]
        self.images = list(self._truth.images)

    @cached_property
    def _entries(self) -> tuple[CocoGroundTruth, CocoResults]:
        """The files with an object for each annotation and detection."""
        truth = read_coco_ground_truth(self._paths[0], masks=self._masks)
        return truth, read_coco_results(self._paths[1], truth, masks=self._masks)

    def score(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> Scores:
        metric = self.metric()
        if self._tables:
            parts = self._parts(images)
            for_each_image(lambda part: self._add_tables(metric, *part), parts, workers, progress, unit="part")
        else:
            for_each_image(lambda image: self._add(metric, image), images, workers, progress)
        named = [self._truth.images[image].file_name or str(image) for image in metric.image_ids]
        return Scores(named, metric.class_names, metric.compute_many, metric.per_image)

    def _parts(self, images: Sequence[Any]) -> list[tuple[int, int]]:
        """First index and the one after the last of images that follow each other in the ground truth."""
        places = {image: n for n, image in enumerate(self.images)}
        numbers = np.array([places[image] for image in images], np.int64)
        is_break = (np.diff(numbers) != 1) | (np.arange(1, len(numbers)) % _AT_ONCE == 0)
        return [(int(p[0]), int(p[-1]) + 1) for p in np.split(numbers, np.flatnonzero(is_break) + 1) if len(p)]

    def _add(self, metric: InstanceMetrics, image: Any) -> None:
        (height, width), annotations, detections = self.read(image)
        metric.update(image, height, width, annotations, detections)

    def _add_tables(self, metric: InstanceMetrics, first: int, last: int) -> None:
        """Adds images first..last - 1 of the ground truth."""
        assert self._tables is not None
        truth, detections = self._tables
        tables = truth.table.of_images(first, last), detections.of_images(first, last)
        metric.update_many(self.images[first:last], truth.sizes[first:last], *tables)

    def scores_and_objects(self, images: Sequence[Any]) -> tuple[np.ndarray, int]:
        """Scores of all detections of images, and the number of true objects, crowds left out."""
        scores = [float(entry["score"]) for image in images for entry in self._entries[1].by_image[image]]
        objects = sum(not entry.get("iscrowd", 0) for image in images for entry in self._entries[0].annotations[image])
        return np.array(scores), objects

    def metric(self) -> InstanceMetrics:
        """An empty metric of the ground truth's categories."""
        categories = self._truth.categories
        return InstanceMetrics(list(categories), class_names=list(categories.values()), **self._options)

    def read(self, image: Any) -> InstanceImage:
        """Annotations and detections of an image."""
        truth, results = self._entries
        height, width, _ = truth.images[image]
        return InstanceImage((height, width), truth.annotations[image], results.by_image[image])

    def image_key(self, image: Any) -> int | str:
        """What the image is called, for :class:`pnm.formats.image_files.ImageFiles`."""
        return self._truth.images[image].file_name or image
