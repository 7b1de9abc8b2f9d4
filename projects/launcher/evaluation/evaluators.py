"""Evaluators by the data set's type; each leaves standard result files in its own folder."""

import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
)

from pnm.errors import UserError

from ...refining import refined_task
from ..rooms import hooks
from .cityscapes_results import CityscapesInstanceResults
from .instance_results import InstanceEvaluator, InstanceResultsWriter
from .metric_evaluators import InstanceMetricsEvaluator, SemanticMetricsEvaluator, boundary_ratio_of
from .panoptic_evaluator import PanopticEvaluator

logger = logging.getLogger(__name__)


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's, without its "Boundary IoU": that one erodes the integer label map and is not Boundary IoU."""

    def __init__(self, dataset_name: str, output_dir: str):
        super().__init__(dataset_name, distributed=True, output_dir=output_dir)
        self._compute_boundary_iou = False


def _coco(name: str, folder: str, cfg: CfgNode) -> DatasetEvaluator:
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    return InstanceEvaluator(name, tasks=tasks, distributed=True, output_dir=folder)


def _semantic(name: str, cfg: CfgNode) -> SemanticMetricsEvaluator:
    options: dict = {}
    for room_options in hooks("semantic_metric_options", cfg.MODEL.IMPORTS):
        options |= room_options(cfg)
    return SemanticMetricsEvaluator(name, **options)


def _say_what_is_missing(name: str, lacks_instances: bool, lacks_labels: bool) -> None:
    lacking = [(lacks_instances, "mask AP needs instance annotations"), (lacks_labels, "mIoU needs stuff labels")]
    needs = " and ".join(what for is_lacking, what in lacking if is_lacking)
    if needs:
        logger.info("%s: %s, which datasets/prepare_panoptic_fpn.py makes", name, needs)


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluator:
    """The evaluators of a data set, writing to ``output_folder`` (default ``OUTPUT_DIR/inference/<dataset>``).

    ========================  ====================================================================
    ``evaluator_type``        result files
    ========================  ====================================================================
    ``coco``                  ``coco_instances_results.json``
    ``sem_seg``               ``sem_seg_predictions.json``
    ``coco_panoptic_seg``     ``predictions.json`` + ``panoptic/*.png``, and both of the above (without stuff labels,
                              no semantic files)
    ``cityscapes_instance``   ``*_pred.txt`` + ``masks/*.png``
    ``cityscapes_*``          semantic and panoptic files as above
    ========================  ====================================================================

    Beside Detectron2's own numbers come PNM IoU, Boundary IoU and boundary F-score for label maps, AP90, Boundary AP
    and AF for COCO masks (:mod:`.metric_evaluators`), and Boundary PQ for panoptic maps.

    Raises:
        UserError: the data set has no evaluator.
    """
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type", None)
    folder = output_folder or str(Path(cfg.OUTPUT_DIR) / "inference" / dataset_name)
    evaluators: list[DatasetEvaluator] = []
    task = refined_task(cfg)
    wanted = {task} if task else {"instance", "semantic", "panoptic"}  # a refiner gives what it was given, refined
    is_panoptic = kind == "coco_panoptic_seg"
    lacks_instances = is_panoptic and not metadata.get("json_file", None)
    lacks_labels = is_panoptic and not metadata.get("sem_seg_root", None)
    if "instance" in wanted and lacks_instances:
        evaluators.append(InstanceResultsWriter(dataset_name, folder))
    elif "instance" in wanted and kind in ("coco", "coco_panoptic_seg"):
        evaluators.append(_coco(dataset_name, folder, cfg))
        if cfg.MODEL.MASK_ON:
            evaluators.append(InstanceMetricsEvaluator(dataset_name))
    if "semantic" in wanted and kind in ("sem_seg", "coco_panoptic_seg", "cityscapes_sem_seg") and not lacks_labels:
        evaluators.append(SemanticEvaluator(dataset_name, folder))
        evaluators.append(_semantic(dataset_name, cfg))
    _say_what_is_missing(dataset_name, "instance" in wanted and lacks_instances, "semantic" in wanted and lacks_labels)
    if "panoptic" in wanted and kind in ("coco_panoptic_seg", "cityscapes_panoptic_seg"):
        evaluators.append(PanopticEvaluator(dataset_name, folder, boundary_ratio_of(dataset_name)))
    if "semantic" in wanted and kind in ("cityscapes_sem_seg", "cityscapes_panoptic_seg"):
        evaluators.append(CityscapesSemSegEvaluator(dataset_name))
    if "instance" in wanted and kind in ("cityscapes_instance", "cityscapes_panoptic_seg"):
        evaluators.append(CityscapesInstanceEvaluator(dataset_name))
        evaluators.append(CityscapesInstanceResults(dataset_name, folder))
    for room_evaluators in hooks("build_evaluators", cfg.MODEL.IMPORTS):
        evaluators += room_evaluators(cfg, dataset_name, folder)
    if not evaluators:
        what = f"evaluator of task {task}" if task else "evaluator"
        raise UserError(f"data set {dataset_name} has evaluator_type {kind!r}, for which there is no {what}")
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
