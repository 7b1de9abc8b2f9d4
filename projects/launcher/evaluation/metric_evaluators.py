"""Evaluators of this project's own metrics (``pnm.metrics``), beside Detectron2's; exact under several processes.

Means have names with underscores and classes names with a hyphen, as Detectron2's report wants it: "Boundary_IoU" and
"Boundary_IoU-car". All values are in percent.
"""

import logging
from collections import OrderedDict

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm
from tabulate import tabulate

from pnm.errors import UserError, listed
from pnm.formats.coco_instances import read_coco_ground_truth
from pnm.formats.label_png import read_label_png
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.metric_values import MetricValues
from pnm.metrics.semantic_metrics import SemanticMetrics

logger = logging.getLogger(__name__)

COCO_RATIO, CITYSCAPES_RATIO = 0.02, 0.005  # of Boundary IoU's width, to the image's diagonal


def boundary_ratio_of(dataset_name: str) -> float:
    """The width of Boundary IoU that the data set's literature takes."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", None) or ""
    return CITYSCAPES_RATIO if kind.startswith("cityscapes") else COCO_RATIO


def merged_over_processes(metric):
    """All processes' metric as one, in the main process; None in the others."""
    comm.synchronize()
    parts = comm.gather(metric)
    if not comm.is_main_process():
        return None
    first, *rest = parts
    for other in rest:
        first.merge(other)
    return first


def reported(values: MetricValues) -> MetricValues:
    """The metrics in percent under the report's names."""
    means, by_class = ({k.replace("-", "_"): v for k, v in part.items()} for part in (values.means, values.by_class))
    return MetricValues(means, by_class).map(lambda value: 100 * value)


class SemanticMetricsEvaluator(DatasetEvaluator):
    """Results: ``{"semantic_metrics": {...}}``, the metrics of :class:`pnm.metrics.semantic_metrics.SemanticMetrics`.

    Args:
        dataset_name: registered, with "stuff_classes" and "ignore_label" as metadata and label files as
            "sem_seg_file_name".
        options: arguments of ``SemanticMetrics``.
    """

    task = "semantic_metrics"

    def __init__(self, dataset_name: str, **options):
        metadata = MetadataCatalog.get(dataset_name)
        self._names, self._dataset_name = list(metadata.stuff_classes), dataset_name
        settings = {"boundary_ratio": boundary_ratio_of(dataset_name), "ignore_label": metadata.ignore_label}
        self._metric = SemanticMetrics(len(self._names), class_names=self._names, **{**settings, **options})
        self._label_files = {x["file_name"]: x["sem_seg_file_name"] for x in DatasetCatalog.get(dataset_name)}

    def reset(self) -> None:
        self._metric.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            label_file = self._label_files[given["file_name"]]
            try:
                self._metric.update(output["sem_seg"].argmax(dim=0), read_label_png(label_file))
            except UserError as error:
                raise UserError(f"{label_file}: {error}") from None

    def evaluate(self) -> dict | None:
        metric = merged_over_processes(self._metric)
        if metric is None:
            return None
        result = reported(metric.compute())
        columns = result.by_class
        absent = [name for name, value in next(iter(columns.values())).items() if np.isnan(value)]
        if absent:
            text = "%s: %d of %d classes never occur in the ground truth: %s"
            logger.warning(text, self._dataset_name, len(absent), len(self._names), listed(absent))
        rows = [[name, *(column[name] for column in columns.values())] for name in next(iter(columns.values()))]
        rows.append(["mean", *(result.means.get(name, result.means.get(f"m{name}")) for name in columns)])
        table = tabulate(rows, headers=("class", *columns), floatfmt=".2f")
        logger.info("%s:\n%s", self._dataset_name, table)
        return OrderedDict({self.task: dict(result)})


class InstanceMetricsEvaluator(DatasetEvaluator):
    """Results: ``{"segm_metrics": {...}}``, mask AP with AP90, Boundary AP and AF, see
    :class:`pnm.metrics.instance_ap.InstanceMetrics`.

    Args:
        dataset_name: registered COCO instances ("json_file" and "thing_dataset_id_to_contiguous_id" as metadata).
        options: arguments of ``InstanceMetrics``.
    """

    task = "segm_metrics"

    def __init__(self, dataset_name: str, **options):
        metadata = MetadataCatalog.get(dataset_name)
        self._truth = read_coco_ground_truth(metadata.json_file)
        self._category = {new: old for old, new in metadata.thing_dataset_id_to_contiguous_id.items()}
        self._names = [self._truth.categories[category] for category in self._category.values()]
        ratio = {"boundary_ratio": boundary_ratio_of(dataset_name)}
        self._metric = InstanceMetrics(list(self._category.values()), class_names=self._names, **{**ratio, **options})
        self._dataset_name = dataset_name

    def reset(self) -> None:
        self._metric.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            image = self._truth.images[given["image_id"]]
            rows = instances_to_coco_json(output["instances"].to("cpu"), given["image_id"])
            detections = [{**row, "category_id": self._category[row["category_id"]]} for row in rows]
            annotations = self._truth.annotations[given["image_id"]]
            self._metric.update(given["image_id"], image.height, image.width, annotations, detections)

    def evaluate(self) -> dict | None:
        metric = merged_over_processes(self._metric)
        if metric is None:
            return None
        result = reported(metric.compute())
        logger.info(
            "%s:\n%s", self._dataset_name, tabulate(result.means.items(), headers=("metric", "%"), floatfmt=".2f")
        )
        return OrderedDict({self.task: dict(result)})
