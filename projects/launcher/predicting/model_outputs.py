"""A trained model as a function from a picture to what result files hold of it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

from pnm.errors import UserError
from pnm.predictions.predicted_image import PredictedImage, predicted_labels, predicted_objects, predicted_segments

from ...dataset_mappers.detection_mapper import CheckedDatasetMapper
from ..data.mappers import build_mapper
from ..data.named_classes import ModelClasses
from ..evaluation.instance_results import with_scores
from ..evaluation.panoptic_evaluator import segment_row
from ..trained_models import MOST_CLASSES, label_map

_KEYS = {"panoptic": "panoptic_seg", "semantic": "sem_seg", "instance": "instances"}  # the richest first
_TRIAL = 64  # px, side of a black picture that is given to a model to see what it predicts


def task_of(output: Mapping[str, Any]) -> str:
    """The richest that a model's output has: "panoptic", "semantic" or "instance"; "" of none."""
    return next((name for name, key in _KEYS.items() if key in output), "")


class OutputReader:
    """What a Detectron2 model gives for an image, as result files hold it.

    Args:
        cfg: of the model.
        task: what to keep of its outputs.

    Attributes:
        task: as given.
        classes: whose ids the predictions have.
    """

    def __init__(self, cfg: CfgNode, task: str):
        self.task, self.classes = task, ModelClasses(cfg, task)
        convert: dict[str, Callable[[Mapping[str, Any]], PredictedImage]] = {
            "instance": self._objects,
            "semantic": lambda output: predicted_labels(label_map(output["sem_seg"])),
            "panoptic": self._segments,
        }
        self._convert = convert[task]

    def __call__(self, output: Mapping[str, Any]) -> PredictedImage:
        return self._convert(output)

    def _objects(self, output: Mapping[str, Any]) -> PredictedImage:
        instances = output["instances"].to("cpu")
        rows = with_scores(instances_to_coco_json(instances, 0), instances)
        for row in rows:
            del row["image_id"]
            row["category_id"] = self.classes.id_of(row["category_id"])
        return predicted_objects(np.asarray(instances.pred_masks), rows)

    def _segments(self, output: Mapping[str, Any]) -> PredictedImage:
        ids, segments = output["panoptic_seg"]
        rows = [segment_row(segment, self.classes.id_of) for segment in segments]
        return predicted_segments(np.asarray(ids.cpu()), rows)


class PicturePredictor:
    """Predicts pictures one by one.

    Args:
        cfg: of the model as it is tested.
        model: in eval mode.
        task: what to keep of its outputs; None for the richest, a panoptic map before classes before instances.

    Attributes:
        task: "instance", "semantic" or "panoptic".
        classes: whose ids the predictions have.

    Raises:
        UserError: the model doesn't predict that, or boxes alone; its mapper reads files itself.
    """

    def __init__(self, cfg: CfgNode, model: torch.nn.Module, task: str | None = None):
        mapper = build_mapper(cfg, is_train=False)
        if not isinstance(mapper, CheckedDatasetMapper):
            raise UserError(
                f"the mapper {type(mapper).__name__} of {cfg.MODEL.META_ARCHITECTURE} can't take a picture: derive it "
                "from CheckedDatasetMapper, whose sample_of does"
            )
        self._mapper, self._model = mapper, model
        output = self._output(np.zeros((_TRIAL, _TRIAL, 3), np.uint8))
        self.task = task or task_of(output)
        _check_output(cfg, output, self.task)
        self._reader = OutputReader(cfg, self.task)
        self.classes = self._reader.classes

    def __call__(self, picture: np.ndarray) -> PredictedImage:
        """The prediction of a picture, (H, W, 3) uint8, RGB, at its own size."""
        return self._reader(self._output(picture))

    @torch.no_grad()
    def _output(self, picture: np.ndarray) -> dict[str, Any]:
        (output,) = self._model([self._mapper.sample_of(picture)])
        return output


def _check_output(cfg: CfgNode, output: dict[str, Any], task: str) -> None:
    arch = cfg.MODEL.META_ARCHITECTURE
    if not task or _KEYS[task] not in output:
        given = [name for name, key in _KEYS.items() if key in output]
        raise UserError(f"{arch} gives {' and '.join(given) or 'nothing'} predictions, expected {task or 'some'}")
    if task == "instance" and not output["instances"].has("pred_masks"):
        raise UserError(f"{arch} predicts boxes alone, as MODEL.MASK_ON is False: give a model of masks")
    if task == "semantic" and len(output["sem_seg"]) > MOST_CLASSES:
        raise UserError(f"the model has {len(output['sem_seg'])} classes, a label PNG can tell {MOST_CLASSES} apart")
