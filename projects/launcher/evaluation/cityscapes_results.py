"""Cityscapes instance results on disk, where refiners and tools/evaluate.py read them, and their scores."""

import logging
from collections import OrderedDict
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.formats.cityscapes import prediction_lines, write_cityscapes_predictions
from pnm.scoring.cityscapes_instance_files import CityscapesInstanceFiles

from .metric_evaluators import CITYSCAPES_RATIO, reported

logger = logging.getLogger(__name__)

LABEL_IDS = {name: label_id for label_id, name in CITYSCAPES_CLASSES.items()}  # panoptic data list stuff, too


class CityscapesInstanceResults(DatasetEvaluator):
    """Writes ``<image>_pred.txt`` and ``masks/`` to ``folder``, as Cityscapes' benchmark wants them, and scores them.

    Results: ``{"segm_metrics": {...}}``, see :class:`pnm.scoring.cityscapes_instance_files.CityscapesInstanceFiles`,
    means in percent. Scores are those of all images in the folder that have ground truth.
    """

    task = "segm_metrics"

    def __init__(self, dataset_name: str, folder: str | Path):
        metadata = MetadataCatalog.get(dataset_name)
        self._ids = [LABEL_IDS[name] for name in metadata.thing_classes]
        self._dataset_name, self._folder, self._truth = dataset_name, Path(folder), metadata.gt_dir

    def reset(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            image, instances = Path(given["file_name"]).stem, output["instances"].to("cpu")
            labels = [self._ids[k] for k in instances.pred_classes.tolist()]
            text = prediction_lines(image, labels, instances.scores.tolist())
            write_cityscapes_predictions(self._folder / f"{image}_pred.txt", text, instances.pred_masks.numpy())

    def evaluate(self) -> dict | None:
        comm.synchronize()
        if not comm.is_main_process():
            return None
        files = CityscapesInstanceFiles(self._folder, self._truth, boundary_ratio=CITYSCAPES_RATIO)
        for problem in files.problems[:10]:
            logger.warning("%s", problem)
        result = reported(files.score(files.images).whole())
        table = tabulate(result.means.items(), headers=("metric", "%"), floatfmt=".2f")
        logger.info("%s:\n%s", self._dataset_name, table)
        return OrderedDict({self.task: dict(result)})
