"""The quick start's scenes with coarse masks of a result file, refined and scored, for benchmarks of refiners."""

import contextlib
import io
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pnm.boundary_patches.reassembly import reassembled
from pnm.masks.crops import crop_rle, crop_runs
from pnm.masks.runs import decode_masks
from pnm.projects.dataset_mappers.reading import read_image

CONFIG = "quickstart/bpr_instance.yaml"
# Of each image's masks, corners (N, 2) and probabilities (N, s, s) of its patches.
Probabilities = dict[int, list[tuple[np.ndarray, np.ndarray]]]


def average_precision(truth: COCO, results: list[dict]) -> float:
    """Mask AP in %."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * float(evaluation.stats[0])


class Scenes:
    """Images with their coarse masks, and the truth."""

    def __init__(self, data: Path, predictions: Path):
        with contextlib.redirect_stdout(io.StringIO()):
            self.truth = COCO(str(data / "annotations" / "instances_val.json"))
        self.rows: dict[int, list[dict]] = defaultdict(list)
        for row in json.loads(predictions.read_text("utf-8")):
            self.rows[row["image_id"]].append(row)
        self.images = {
            k: read_image(str(data / "images" / "val" / self.truth.imgs[k]["file_name"]), "RGB") for k in self.rows
        }
        self.crops = {}
        for k, rows in self.rows.items():
            height, width = self.images[k].shape[:2]
            runs = decode_masks([row["segmentation"] for row in rows], height, width)
            self.crops[k] = [crop_runs(runs, n) for n in range(len(rows))]

    def refined(self, refiner: Any) -> tuple[list[dict], float, int]:
        """Results of the refiner, seconds, patches."""
        results, seconds, patches = [], 0.0, 0
        for k, image in self.images.items():
            patches += sum(len(refiner.model._choose(crop, *image.shape[:2]).corners) for crop in self.crops[k])
            start = time.perf_counter()
            crops = refiner.model.refine_objects(as_tensor(image), self.crops[k])
            seconds += time.perf_counter() - start
            results += self._rows_of(k, crops)
        return results, seconds, patches

    def probabilities(self, refiner: Any) -> Probabilities:
        """What a BPR refiner says of each patch."""
        return {
            k: list(refiner.model._refine_patches(as_tensor(image), self.crops[k])) for k, image in self.images.items()
        }

    def reassembled(self, probabilities: Probabilities) -> list[dict]:
        """Results of such probabilities."""
        results = []
        for k, of_masks in probabilities.items():
            size = self.images[k].shape[:2]
            crops = [reassembled(crop, *one, *size).crop for crop, one in zip(self.crops[k], of_masks, strict=True)]
            results += self._rows_of(k, crops)
        return results

    def _rows_of(self, k: int, crops: list) -> list[dict]:
        size = self.images[k].shape[:2]
        return [{**row, "segmentation": crop_rle(c, *size)} for row, c in zip(self.rows[k], crops, strict=True)]


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """(3, H, W) of (H, W, 3)."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def changed_share(scenes: Scenes, one: list[dict], other: list[dict]) -> float:
    """Pixels of masks that differ, in % of the pixels of the first."""
    differing = total = 0
    for a, b in zip(one, other, strict=True):
        x, y = (coco_mask.decode(row["segmentation"]) for row in (a, b))
        differing, total = differing + int((x != y).sum()), total + int(x.sum())
    return 100 * differing / max(1, total)
