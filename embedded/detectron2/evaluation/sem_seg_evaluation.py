"""Intersection over union of semantic segmentation."""

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from PIL import Image
from pycocotools import mask as mask_util
from tabulate import tabulate

from .evaluator import DatasetEvaluator


def load_image_into_numpy_array(filename: str, dtype=None) -> np.ndarray:
    """(H, W) labels of an image file."""
    with PathManager.open(filename, "rb") as stream, Image.open(stream) as image:
        return np.array(image, dtype=dtype)


class SemSegEvaluator(DatasetEvaluator):
    """mIoU, frequency-weighted IoU, mean and overall pixel accuracy, and per class IoU and accuracy, in percent.

    Pixels are pooled over the data set and over processes; ignored pixels count nowhere; classes without ground
    truth are left out of the means (NaN on their own). Writes ``sem_seg_predictions.json`` (COCO's stuff result
    format: one RLE per image and class, category ids of the data set) and ``sem_seg_evaluation.pth``.
    Boundary quality is not measured here: Detectron2's "BoundaryIoU" erodes class numbers instead of masks.

    Args:
        dataset_name: registered, with "stuff_classes" and "ignore_label" as metadata.
        sem_seg_loading_fn: reads a label file: ``f(name, dtype=int)`` → (H, W) array.
        num_classes, ignore_label: checked against, and instead of, the metadata's.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ):
        self._logger = logging.getLogger(__name__)
        meta = MetadataCatalog.get(dataset_name)
        self._class_names = meta.stuff_classes
        self._num_classes = len(self._class_names)
        if num_classes not in (None, self._num_classes):
            raise ValueError(f"{dataset_name} has {self._num_classes} stuff_classes, but num_classes is {num_classes}")
        self._ignore_label = meta.ignore_label if ignore_label is None else ignore_label
        mapping = meta.get("stuff_dataset_id_to_contiguous_id")
        self._dataset_ids = None if mapping is None else {new: old for old, new in mapping.items()}
        self._dataset_name, self._distributed, self._output_dir = dataset_name, distributed, output_dir
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.input_file_to_gt_file = {
            entry["file_name"]: entry["sem_seg_file_name"] for entry in DatasetCatalog.get(dataset_name)
        }
        self.reset()

    def reset(self) -> None:
        side = self._num_classes + 1
        # Rows are predictions, columns ground truth; the last column holds ignored pixels.
        self._conf_matrix = np.zeros((side, side), dtype=np.int64)
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Takes entries with "file_name" and outputs with "sem_seg", (classes, H, W) scores."""
        for entry, output in zip(inputs, outputs, strict=True):
            predicted = output["sem_seg"].argmax(dim=0).to("cpu", torch.int64).numpy()
            truth = self._read_truth(entry["file_name"], predicted.shape)
            pairs = (self._num_classes + 1) * predicted + truth
            counts = np.bincount(pairs.ravel(), minlength=self._conf_matrix.size)
            self._conf_matrix += counts.reshape(self._conf_matrix.shape)
            self._predictions.extend(self.encode_json_sem_seg(predicted, entry["file_name"]))

    def _read_truth(self, file_name: str, shape: tuple[int, int]) -> np.ndarray:
        label_file = self.input_file_to_gt_file[file_name]
        truth = np.asarray(self.sem_seg_loading_fn(label_file, dtype=int))
        if truth.shape != shape:
            raise ValueError(
                f"{label_file} is {truth.shape} (h, w) but the prediction for {file_name} is {shape}: image and label "
                "must be equally large"
            )
        truth = np.where(truth == self._ignore_label, self._num_classes, truth)
        if truth.min() < 0 or truth.max() > self._num_classes:
            raise ValueError(
                f"{label_file} holds labels {truth.min()} to {truth.max()}, but {self._dataset_name} has "
                f"{self._num_classes} classes (from 0) and ignores {self._ignore_label}: make the labels anew"
            )
        return truth

    def evaluate(self) -> OrderedDict | None:
        """``{"sem_seg": {metric: percent}}`` in the main process."""
        if self._distributed:
            comm.synchronize()
            matrices, predictions = comm.gather(self._conf_matrix), comm.gather(self._predictions)
            if not comm.is_main_process():
                return None
            self._conf_matrix, self._predictions = sum(matrices), list(itertools.chain(*predictions))
        scores = self._scores(self._conf_matrix[:-1, :-1].astype(float))
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "sem_seg_predictions.json"), "w") as stream:
                json.dump(self._predictions, stream)
            with PathManager.open(os.path.join(self._output_dir, "sem_seg_evaluation.pth"), "wb") as stream:
                torch.save(scores, stream)
        means = {name: score for name, score in scores.items() if "-" not in name}
        table = tabulate([means.values()], headers=list(means), tablefmt="pipe", floatfmt=".3f")
        self._logger.info("Results for sem_seg:\n%s", table)
        return OrderedDict(sem_seg=scores)

    def _scores(self, matrix: np.ndarray) -> dict[str, float]:
        correct, truth, predicted = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = np.where(truth > 0, correct / truth, np.nan)
            iou = np.where(truth > 0, correct / (truth + predicted - correct), np.nan)
            overall = {
                "mIoU": _mean_of_present(iou),
                "fwIoU": np.nansum(iou * truth / truth.sum()),
                **{f"IoU-{name}": value for name, value in zip(self._class_names, iou, strict=True)},
                "mACC": _mean_of_present(accuracy),
                "pACC": correct.sum() / truth.sum(),
                **{f"ACC-{name}": value for name, value in zip(self._class_names, accuracy, strict=True)},
            }
        return {name: float(100 * value) for name, value in overall.items()}

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict]:
        """COCO stuff results of an (H, W) label map."""
        encoded = []
        for label in np.unique(sem_seg).tolist():
            if self._dataset_ids is not None and label not in self._dataset_ids:
                raise ValueError(
                    f"class {label} is predicted, but {self._dataset_name} knows no category for it: check NUM_CLASSES"
                )
            rle = mask_util.encode(np.asfortranarray(sem_seg == label, dtype=np.uint8))
            encoded.append(
                {
                    "file_name": input_file_name,
                    "category_id": label if self._dataset_ids is None else self._dataset_ids[label],
                    "segmentation": {**rle, "counts": rle["counts"].decode("ascii")},
                }
            )
        return encoded


def _mean_of_present(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return present.mean() if present.size else float("nan")
