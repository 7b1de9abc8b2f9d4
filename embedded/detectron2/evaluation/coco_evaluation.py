"""COCO's average precision of boxes and masks."""

import contextlib
import io
import itertools
import json
import logging
import os
from collections import OrderedDict

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.annotation_files import read_json
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from pycocotools import mask as mask_util
from tabulate import tabulate

from .evaluator import DatasetEvaluator

# Metric name: index of the IoU threshold (all ten for a slice), index of the area range.
_METRICS = {
    "AP": (slice(None), 0),
    "AP50": (0, 0),
    "AP75": (5, 0),
    "APs": (slice(None), 1),
    "APm": (slice(None), 2),
    "APl": (slice(None), 3),
}


class COCOEvaluator(DatasetEvaluator):
    """AP of boxes and masks, and per category, in percent; NaN where there is nothing to measure.

    Writes ``coco_instances_results.json`` (COCO's result format, category ids of the data set) and
    ``instances_predictions.pth`` to ``output_dir``. Predictions of all processes are gathered; a data set without
    annotations gets the files only.

    Args:
        dataset_name: its metadata names the COCO file as "json_file"; otherwise the data set is converted.
        tasks: of "bbox" and "segm"; None takes what the predictions have.
        distributed: gather from all processes.
        max_dets_per_image: detections per image and category that count, 100 by default.
        use_fast_impl: has no effect; pycocotools' own evaluation runs.
        allow_cached_coco: keep a converted file that is in ``output_dir`` already.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks=None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas=(),
        allow_cached_coco: bool = True,
    ):
        self._logger = logging.getLogger(__name__)
        # Detectron2 has taken a config here once; its content never decided the tasks.
        self._tasks = None if isinstance(tasks, dict) else tasks
        if set(self._tasks or ()) - {"bbox", "segm"}:
            raise ValueError(f"tasks may be bbox and segm, got {tasks}; key points are outside the embedded engine")
        self._distributed, self._output_dir = distributed, output_dir
        limit = max_dets_per_image or 100
        # The COCO API sorts the limits and scores at the last: a limit below 10 must not be followed by 10.
        self._max_dets = [1, min(10, limit), limit]
        self._metadata = MetadataCatalog.get(dataset_name)
        if self._metadata.get("json_file") is None:
            self._convert(dataset_name, allow_cached_coco)
        self._ground_truth = read_json(PathManager.get_local_path(self._metadata.json_file))
        self._do_evaluation = "annotations" in self._ground_truth
        self.reset()

    def _convert(self, dataset_name: str, allow_cached: bool) -> None:
        if self._output_dir is None:
            raise ValueError(f"data set {dataset_name} names no COCO file: give output_dir, to convert it there")
        self._metadata.json_file = os.path.join(self._output_dir, f"{dataset_name}_coco_format.json")
        convert_to_coco_json(dataset_name, self._metadata.json_file, allow_cached=allow_cached)

    def reset(self) -> None:
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Takes entries with "image_id" and outputs with "instances" (pred_boxes, scores, pred_classes, pred_masks)."""
        for entry, output in zip(inputs, outputs, strict=True):
            image_id = entry["image_id"]
            found = instances_to_coco_json(output["instances"].to("cpu"), image_id)
            self._predictions.append({"image_id": image_id, "instances": found})

    def evaluate(self, img_ids: list | None = None) -> dict:
        """``{"bbox": {...}, "segm": {...}}`` in the main process, {} in others.

        Args:
            img_ids: evaluate these images only.
        """
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(predictions)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            self._logger.warning("COCOEvaluator was given no images")
            return {}
        results = self._to_dataset_ids([found for image in predictions for found in image["instances"]])
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "instances_predictions.pth"), "wb") as stream:
                torch.save(predictions, stream)
            with PathManager.open(os.path.join(self._output_dir, "coco_instances_results.json"), "w") as stream:
                json.dump(results, stream)
        if not self._do_evaluation:
            self._logger.info("%s has no annotations: nothing to measure", self._metadata.name)
            return {}
        has_masks = any("segmentation" in found for found in results)
        tasks = self._tasks or (["bbox", "segm"] if has_masks else ["bbox"])
        return OrderedDict((task, self._score(results, task, img_ids)) for task in sorted(tasks))

    def _to_dataset_ids(self, found: list[dict]) -> list[dict]:
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if mapping is None:
            return found
        dataset_id = {contiguous: original for original, contiguous in mapping.items()}
        alien = {result["category_id"] for result in found} - dataset_id.keys()
        if alien:
            raise ValueError(
                f"the model predicts class {min(alien)}, but {self._metadata.name} has {len(dataset_id)} classes "
                "(from 0): set MODEL.ROI_HEADS.NUM_CLASSES to it"
            )
        return [{**result, "category_id": dataset_id[result["category_id"]]} for result in found]

    def _score(self, results: list[dict], task: str, img_ids: list | None) -> dict[str, float]:
        if not results:
            self._logger.warning("The model predicts nothing: no %s AP", task)
            return dict.fromkeys(_METRICS, float("nan"))
        precision, summary = self._precision(results, task, img_ids)
        scores = {name: _mean(precision[iou, :, :, area, -1]) for name, (iou, area) in _METRICS.items()}
        self._logger.info("Results for %s:\n%s\n%s", task, summary, create_small_table(scores))
        names = self._metadata.get("thing_classes") or []
        if len(names) > 1:
            if len(names) != precision.shape[2]:
                raise ValueError(
                    f"{self._metadata.name} has {len(names)} thing_classes, {self._metadata.json_file} "
                    f"{precision.shape[2]} categories: register the data set with the file's categories"
                )
            per_category = {name: _mean(precision[:, :, i, 0, -1]) for i, name in enumerate(names)}
            self._logger.info("%s AP per category:\n%s", task, _category_table(per_category))
            scores.update({f"AP-{name}": score for name, score in per_category.items()})
        return scores

    def _precision(self, results: list[dict], task: str, img_ids: list | None) -> tuple[np.ndarray, str]:
        """(IoU thresholds, recall levels, categories, areas, detections per image) and the summary as text.

        −1 marks what has no ground truth.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        # With a box present, the area (small, medium, large) of a mask would be that of its box.
        left_out = "bbox" if task == "segm" else "segmentation"
        kept = [{key: value for key, value in result.items() if key != left_out} for result in results]
        known = {image["id"] for image in self._ground_truth["images"]}
        stray = {result["image_id"] for result in results} - known
        if stray:
            raise ValueError(
                f"image {min(stray)} is not in {self._metadata.json_file}: predict the images of this file"
            )
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            truth = COCO()
            truth.dataset = _complete(self._ground_truth, self._metadata.json_file)
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(kept), task)
            evaluation.params.maxDets = list(self._max_dets)
            if img_ids is not None:
                evaluation.params.imgIds = list(img_ids)
            evaluation.evaluate()
            evaluation.accumulate()
            # The summary knows only COCO's own limits.
            if self._max_dets[-1] == 100:
                evaluation.summarize()
        lines = [line for line in printed.getvalue().splitlines() if "@[" in line]
        return np.asarray(evaluation.eval["precision"]), "\n".join(lines)


def _complete(content: dict, json_file: str) -> dict:
    """The file's content with what the COCO API needs and some files leave out; a copy, as the API writes into it."""
    lacking = next((a for a in content["annotations"] if "area" not in a), None)
    if lacking is not None:
        raise ValueError(f"{json_file}: annotation {lacking.get('id')} has no 'area', which COCO's AP needs: add it")
    annotations = [{"iscrowd": 0, **annotation} for annotation in content["annotations"]]
    return {"info": {}, **content, "annotations": annotations}


def _mean(precision: np.ndarray) -> float:
    """Percent, over what has ground truth; NaN if nothing has."""
    valid = precision[precision > -1]
    return float(valid.mean() * 100) if valid.size else float("nan")


def _category_table(scores: dict[str, float]) -> str:
    cells = list(scores.items())
    columns = min(3, len(cells))
    rows = [itertools.chain(*cells[i : i + columns]) for i in range(0, len(cells), columns)]
    headers = ["category", "AP"] * columns
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".3f", numalign="left")


def instances_to_coco_json(instances: Instances, img_id) -> list[dict]:
    """COCO results (XYWH boxes, RLE masks if there are ``pred_masks``) of one image's CPU Instances.

    Category ids are the model's.
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    columns = {"category_id": instances.pred_classes.tolist(), "bbox": boxes, "score": instances.scores.tolist()}
    if instances.has("pred_masks"):
        columns["segmentation"] = [_encode(mask) for mask in np.asarray(instances.pred_masks, dtype=np.uint8)]
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]


def _encode(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask))
    return {**rle, "counts": rle["counts"].decode("ascii")}
