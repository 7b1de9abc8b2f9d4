"""From an image, its coarse predictions and its ground truth to what a refiner takes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop
from pnm.predictions import Objects, Partition

from ..dataset_mappers.reading import read_image
from .truths import (
    Truth,
    check_size,
    coarse_masks,
    degraded,
    instance_truth,
    match,
    panoptic_truth,
    segment_info,
    semantic_truth,
)

IGNORED = 255  # label of pixels that are no segment's, and of a target's pixels that are not counted
CoarseOf = Callable[[Mapping[str, Any]], Objects | Partition | None]


class RefiningMapper:
    """A Detectron2 dataset mapper. Each image is read once, whatever the number of its masks.

    Inference gives "image" and "instances", "sem_seg" or "panoptic_seg", see :class:`.model.RefiningModel`; training
    what a refiner's :meth:`training_sample` makes of an image and its :meth:`pairs` of coarse and true masks.
    """

    def __init__(
        self, task: str, *, is_train: bool, coarse: CoarseOf | None, image_format: str = "RGB", ignore_label: int = 255
    ):
        """
        Args:
            task: "instance", "semantic" or "panoptic".
            coarse: the prediction of a dataset dict, if any, categories as in the dict (panoptic stuff as ~id); None:
                training starts from degraded ground truth.
            ignore_label: of label PNGs.

        Raises:
            UserError: inference without predictions.
        """
        if coarse is None and not is_train:
            raise UserError("nothing to refine: name the result files of DATASETS.TEST in DATASETS.PREDICTIONS_TEST")
        self.task, self.is_train, self.coarse = task, is_train, coarse
        self.image_format, self.ignore_label = image_format, ignore_label

    def training_sample(self, entry: Mapping[str, Any], image: np.ndarray, prediction: Any) -> dict | None:
        """A sample; None where an image has nothing to learn from.

        Args:
            entry: the dataset dict.
            image: (H, W, 3) uint8.
            prediction: Objects or Partition of the image, None without any.
        """
        raise NotImplementedError

    def __call__(self, dataset_dict: Mapping[str, Any]) -> dict | None:
        name = dataset_dict["file_name"]
        image = read_image(name, self.image_format)
        height, width = image.shape[:2]
        prediction = self.coarse(dataset_dict) if self.coarse else None
        if prediction is not None:
            check_size(prediction, height, width, name)
        if self.is_train:
            sample = self.training_sample(dataset_dict, image, prediction)
            return None if sample is None else {"file_name": name, "height": height, "width": width, **sample}
        if prediction is None:
            prediction = _nothing(self.task, height, width)
        kept = {key: dataset_dict[key] for key in ("file_name", "image_id") if key in dataset_dict}
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        coarse = _model_input(prediction, self.task)
        return {**kept, "height": height, "width": width, "image": tensor, **coarse}

    def truth(self, entry: Mapping[str, Any], height: int, width: int) -> Truth:
        """The true masks of an image.

        Raises:
            UserError: the data set has none for this task, or they are of another size.
        """
        if self.task == "instance":
            return instance_truth(entry, height, width)
        if self.task == "semantic":
            truth = semantic_truth(self.label_file(entry), self.ignore_label)
        else:
            _require(entry, "segments_info", "COCO panoptic annotations")
            truth = panoptic_truth(entry["pan_seg_file_name"], entry["segments_info"])
        assert truth.labels is not None
        check_label_size(truth.labels, entry, height, width)
        return truth

    def label_file(self, entry: Mapping[str, Any]) -> str:
        """The label PNG of an image; a UserError if the data set has none."""
        _require(entry, "sem_seg_file_name", "label PNGs")
        return entry["sem_seg_file_name"]

    def pairs(
        self,
        truth: Truth,
        size: tuple[int, int],
        prediction: Any,
        least_iou: float,
        rng: np.random.Generator,
    ) -> list[tuple[MaskCrop, MaskCrop]]:
        """(coarse, true) masks of an image: predictions and what they are to become, or degraded truths and truths.

        Args:
            size: (height, width) of the image.
            least_iou: see :func:`.truths.match`.
            rng: that degrades truths where the mapper has no predictions.
        """
        if self.coarse is None:
            return degraded(truth, *size, rng)
        return [] if prediction is None else match(truth, prediction, least_iou)


def check_label_size(labels: np.ndarray, entry: Mapping[str, Any], height: int, width: int) -> None:
    """A UserError unless labels have the size of their image."""
    if labels.shape != (height, width):
        raise UserError(f"{entry['file_name']} is {height} x {width}, but its labels have another size")


def _require(entry: Mapping[str, Any], key: str, what: str) -> None:
    if key not in entry:
        raise UserError(f"{entry['file_name']}: its data set has no {what}; the refiner's task asks for one that has")


def _nothing(task: str, height: int, width: int) -> Objects | Partition:
    """What an image without predictions has."""
    if task == "instance":
        return Objects((height, width), (), (), ())
    void = IGNORED if task == "semantic" else 0
    return Partition(np.full((height, width), void, np.int32), (), ())


def _model_input(prediction: Objects | Partition, task: str) -> dict:
    """A prediction as the model takes it."""
    if isinstance(prediction, Partition):
        if task == "semantic":
            return {"sem_seg": class_map(prediction)}
        pairs = zip(prediction.segments, prediction.categories, strict=True)
        return {"panoptic_seg": (prediction.labels, [segment_info(id_, category) for id_, category in pairs])}
    instances = Instances(prediction.size, scores=torch.tensor(prediction.scores))
    instances.pred_classes = torch.tensor(prediction.categories, dtype=torch.int64)
    instances.pred_masks = coarse_masks(prediction)[0]
    return {"instances": instances}


def class_map(prediction: Partition) -> np.ndarray:
    """Label map (H, W) of categories; labels that are no segment keep their value, as 255 in label PNGs."""
    if prediction.segments == prediction.categories:
        return prediction.labels
    classes = np.full(prediction.labels.shape, IGNORED, np.uint16)
    for crop, category in zip(*coarse_masks(prediction), strict=True):
        h, w = crop.pixels.shape
        classes[crop.top : crop.top + h, crop.left : crop.left + w][crop.pixels] = category
    return classes
