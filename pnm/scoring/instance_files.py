"""Instance predictions of any model in COCO's files, beside their ground truth.

What doesn't fit is listed, the rest is scored.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pnm.formats.coco_instances import CocoGroundTruth, CocoResults, read_coco_ground_truth, read_coco_results
from pnm.formats.coco_tables import read_result_table, read_truth_table
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.scoring.image_results import InstanceImage
from pnm.scoring.instance_states import instance_state
from pnm.scoring.scores import ImageFault, ImagesState, Scores, for_each_image
from pnm.shards import WHOLE, Shard

_AT_ONCE = 64  # images


class InstanceFiles:
    """COCO results and ground truth. An image without detections is remarked on; all else that doesn't fit is listed.

    Args:
        shard: whose images alone are scored; the files are read whole.
        options: of :class:`pnm.metrics.instance_ap.InstanceMetrics`.

    Raises:
        FileNotFoundError, UserError: as the readers of :mod:`pnm.formats.coco_instances` do.
    """

    task = "instance"

    def __init__(self, pred: str | Path, gt: str | Path, *, shard: Shard = WHOLE, **options: Any):
        self._options, self._paths = options, (gt, pred)
        metrics = set(options.get("metrics", ()))
        self._masks = metrics != {"bbox"}
        what = {"masks": self._masks, "boxes": "bbox" in metrics}
        truth = read_truth_table(gt, **what)
        results = read_result_table(pred, truth, **what) if truth else None
        self._tables = (truth, results.table) if truth and results else None
        self._truth, self._results = (truth.truth, results.results) if truth and results else self._entries
        self.problems, self.remarks = self._results.problems, [*self._truth.remarks, *self._results.remarks]
        self.listed, self.faults = list(self._truth.images), list[ImageFault]()
        self.images = list(shard.part(self.listed))

    @cached_property
    def _entries(self) -> tuple[CocoGroundTruth, CocoResults]:
        """The files with an object for each annotation and detection."""
        truth = read_coco_ground_truth(self._paths[0], masks=self._masks)
        return truth, read_coco_results(self._paths[1], truth, masks=self._masks)

    def score(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> Scores:
        metric = self._scored(images, workers, progress)
        named = self._names(metric.image_ids)
        return Scores(named, metric.class_names, metric.compute_many, metric.per_image)

    def state(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> ImagesState:
        metric = self._scored(images, workers, progress)
        return instance_state(metric, self._names(metric.image_ids))

    def _names(self, images: Sequence[Any]) -> list[str]:
        return [self._truth.images[image].file_name or str(image) for image in images]

    def _scored(self, images: Sequence[Any], workers: int, progress: bool) -> InstanceMetrics:
        metric = self.metric()
        if self._tables:
            parts = self._parts(images)
            for_each_image(lambda part: self._add_tables(metric, *part), parts, workers, progress, unit="part")
        else:
            for_each_image(lambda image: self._add(metric, image), images, workers, progress)
        return metric

    def _parts(self, images: Sequence[Any]) -> list[tuple[int, int]]:
        """First index and the one after the last of images that follow each other in the ground truth."""
        places = {image: n for n, image in enumerate(self.listed)}
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
        metric.update_many(self.listed[first:last], truth.sizes[first:last], *tables)

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
