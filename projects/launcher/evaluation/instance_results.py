"""COCO result files of instances, with all the scores that a model gives."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from detectron2.utils import comm

from pnm.errors import UserError
from pnm.formats.atomic_files import write_text

logger = logging.getLogger(__name__)

SCORE_FIELDS = {"fcos_scores": "fcos_score", "mask_iou_scores": "mask_iou_score"}  # key in the file of each field


def with_scores(rows: list[dict[str, Any]], instances: Instances) -> list[dict[str, Any]]:
    """COCO results of an image's instances, in their order, with a key for each of ``SCORE_FIELDS`` that these have."""
    for field, key in SCORE_FIELDS.items():
        if instances.has(field):
            rows = [{**row, key: float(value)} for row, value in zip(rows, instances.get(field).tolist(), strict=True)]
    return rows


def _of_things_alone(metadata: Any) -> Any:
    """Metadata whose "thing_classes" are those that have a category of things: COCO's and Cityscapes' whole panoptic
    data sets list stuff among them."""
    table, names = metadata.get("thing_dataset_id_to_contiguous_id", None), metadata.get("thing_classes", None)
    if not table or not names or len(names) == len(table):
        return metadata
    return Metadata(**{**metadata.as_dict(), "thing_classes": [names[k] for k in sorted(table.values())]})


class InstanceEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator, whose result file has the scores of :func:`with_scores`; it knows things alone."""

    _predictions: list[dict[str, Any]]
    _metadata: Any

    def __init__(self, dataset_name: str, **options: Any):
        super().__init__(dataset_name, **options)
        self._metadata = _of_things_alone(self._metadata)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            super().process([given], [output])
            if "instances" in output:
                self._predictions[-1]["instances"] = with_scores(
                    self._predictions[-1]["instances"], output["instances"]
                )


class InstanceResultsWriter(DatasetEvaluator):
    """Writes the ``coco_instances_results.json`` of :class:`InstanceEvaluator` to ``folder``; there is no score.

    Args:
        dataset_name: registered, with "thing_dataset_id_to_contiguous_id" as metadata.
    """

    def __init__(self, dataset_name: str, folder: str | Path):
        mapping = MetadataCatalog.get(dataset_name).thing_dataset_id_to_contiguous_id
        self._category = {contiguous: category for category, contiguous in mapping.items()}
        self._dataset_name, self._path = dataset_name, Path(folder) / "coco_instances_results.json"
        self._rows: list[dict[str, Any]] = []

    def reset(self) -> None:
        self._rows = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for given, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            for row in with_scores(instances_to_coco_json(instances, given["image_id"]), instances):
                if row["category_id"] not in self._category:
                    raise UserError(
                        f"the model predicts class {row['category_id']}, but data set {self._dataset_name} has "
                        f"{len(self._category)} classes of things: the model was made for other data"
                    )
                self._rows.append({**row, "category_id": self._category[row["category_id"]]})

    def evaluate(self) -> None:
        comm.synchronize()
        of_processes = comm.gather(self._rows)
        if comm.is_main_process():
            write_text(self._path, json.dumps(list(itertools.chain(*of_processes))))
            logger.info("%s: instances are in %s", self._dataset_name, self._path)
