"""Evaluators of this project's own metrics (``pnm.metrics``), beside Detectron2's; exact under several processes.

Means have names with underscores and classes names with a hyphen, as Detectron2's report wants it: "Boundary_IoU" and
"Boundary_IoU-car". All values are in percent.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm
from tabulate import tabulate

from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_ground_truth
from pnm.formats.label_png import read_label_png
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.semantic_metrics import SemanticMetrics

logger = logging.getLogger(__name__)

COCO_RATIO, CITYSCAPES_RATIO = 0.02, 0.005  # of Boundary IoU's width, to the image's diagonal


def boundary_ratio_of(dataset_name: str) -> float:
    """The width of Boundary IoU that the data set's literature takes."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", None) or ""
    return CITYSCAPES_RATIO if kind.startswith("cityscapes") else COCO_RATIO


def gathered(metric):
    """All processes' metric as one, in the main process; None in the others."""
    comm.synchronize()
    parts = comm.gather(metric)
    if not comm.is_main_process():
        return None
    first, *rest = parts
    for other in rest:
        first.merge(other)
    return first


def reported(values: Mapping[str, float], class_names: list[str]) -> dict[str, float]:
    """The metrics in percent under the report's names."""
    found = {}
    for name, value in values.items():
        # The longest: "b-c" before "c".
        of_class = max((c for c in class_names if name.endswith(f"-{c}")), key=len, default=None)
        stem = name if of_class is None else name[: -len(of_class) - 1]
        found[stem.replace("-", "_") + ("" if of_class is None else f"-{of_class}")] = 100 * value
    return found


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
        metric = gathered(self._metric)
        if metric is None:
            return None
        result = reported(metric.compute(), self._names)
        means = [name for name in result if not any(name.endswith(f"-{c}") for c in self._names)]
        columns = [name.removeprefix("m") for name in means if f"{name.removeprefix('m')}-{self._names[0]}" in result]
        rows = [[c, *(result.get(f"{column}-{c}") for column in columns)] for c in self._names]
        rows.append(["mean", *(result.get(column, result.get(f"m{column}")) for column in columns)])
        table = tabulate(rows, headers=("class", *columns), floatfmt=".2f")
        logger.info("%s:\n%s", self._dataset_name, table)
        return OrderedDict({self.task: result})


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
            found = instances_to_coco_json(output["instances"].to("cpu"), given["image_id"])
            found = [{**row, "category_id": self._category[row["category_id"]]} for row in found]
            annotations = self._truth.annotations[given["image_id"]]
            self._metric.update(given["image_id"], image.height, image.width, annotations, found)

    def evaluate(self) -> dict | None:
        metric = gathered(self._metric)
        if metric is None:
            return None
        result = reported(metric.compute(), self._names)
        means = [(name, value) for name, value in result.items() if "-" not in name and "AR" not in name]
        logger.info("%s:\n%s", self._dataset_name, tabulate(means, headers=("metric", "%"), floatfmt=".2f"))
        return OrderedDict({self.task: result})
