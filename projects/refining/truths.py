"""Which true mask each coarse mask of an image is to become."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.masks.crops import MaskCrop, crop_array, crop_iou, crop_runs, crop_segments, paste
from pnm.masks.degraded_masks import degrade, degrade_partition
from pnm.masks.runs import decode_masks
from pnm.predictions import Objects, Partition

from ..dataset_mappers.panoptic_classes import category_of


class Truth(NamedTuple):
    """True masks of an image.

    Attributes:
        crops, categories: of each object or segment.
        ignored: mask of the pixels that nothing is to be learned from: crowds, void.
        labels: (H, W) of a partition, segments being numbered from 1 in the order of ``crops``, else None.
    """

    crops: list[MaskCrop]
    categories: list[int]
    ignored: MaskCrop
    labels: np.ndarray | None = None


def instance_truth(entry: Mapping[str, Any], height: int, width: int) -> Truth:
    """Of a dataset dict with "annotations"; crowds are ignored regions."""
    rows = [row for row in entry.get("annotations", []) if row.get("segmentation")]
    name = entry["file_name"]
    masks = decode_masks([r["segmentation"] for r in rows], height, width, lambda n: f"{name}, annotation {n}")
    crowd = np.zeros((height, width), np.bool_)
    crops, categories = [], []
    for n, row in enumerate(rows):
        crop = crop_runs(masks, n)
        if row.get("iscrowd", 0):
            crowd |= paste(crop, height, width)
        elif crop.pixels.size:
            crops.append(crop)
            categories.append(row["category_id"])
    return Truth(crops, categories, crop_array(crowd))


def semantic_truth(label_file: str, ignore_label: int) -> Truth:
    """Of a label PNG: every class that occurs is a segment."""
    labels = read_label_png(label_file)
    classes = [k for k in np.unique(labels).tolist() if k != ignore_label]
    return _partition(labels, classes, classes, crop_array(labels == ignore_label))


def panoptic_truth(png_file: str, segments: Sequence[Mapping[str, Any]]) -> Truth:
    """Of a panoptic PNG and its segments_info; void and crowds are ignored."""
    ids = read_panoptic_png(png_file)
    kept = [s for s in segments if not s.get("iscrowd", 0)]
    labels = [s["id"] for s in kept]
    return _partition(ids, labels, [category_of(s) for s in kept], crop_array(~np.isin(ids, labels)))


def segment_info(segment_id: int, category: int) -> dict[str, Any]:
    """The reverse of :func:`category_of`, as Detectron2's panoptic evaluators want it."""
    return {"id": segment_id, "isthing": category >= 0, "category_id": category if category >= 0 else ~category}


def _partition(labels: np.ndarray, segments: list[int], categories: list[int], ignored: MaskCrop) -> Truth:
    numbered = np.zeros(labels.shape, np.int32)
    crops = crop_segments(labels, segments)
    for number, (pixels, top, left) in enumerate(crops, 1):
        numbered[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = number
    return Truth(crops, categories, ignored, numbered)


def coarse_masks(prediction: Objects | Partition) -> tuple[list[MaskCrop], list[int]]:
    """Masks and categories of a prediction."""
    if isinstance(prediction, Partition):
        return crop_segments(prediction.labels, prediction.segments), list(prediction.categories)
    return list(prediction.masks), list(prediction.categories)


def match(truth: Truth, prediction: Objects | Partition, least_iou: float) -> list[tuple[MaskCrop, MaskCrop]]:
    """(coarse, true) masks: each coarse one with the true one of its category that it overlaps most, by an IoU of more
    than ``least_iou``; the others are left out (section 3.4)."""
    pairs = []
    for crop, category in zip(*coarse_masks(prediction), strict=True):
        rivals = [true for true, other in zip(truth.crops, truth.categories, strict=True) if other == category]
        best = max(rivals, key=lambda true: crop_iou(crop, true), default=None)
        if best is not None and crop_iou(crop, best) > least_iou:
            pairs.append((crop, best))
    return pairs


def degraded(truth: Truth, height: int, width: int, rng: np.random.Generator) -> list[tuple[MaskCrop, MaskCrop]]:
    """(coarse, true) masks, the coarse ones made of the true ones, see :mod:`pnm.masks.degraded_masks`."""
    if truth.labels is None:
        return [(degrade(crop, height, width, rng), crop) for crop in truth.crops]
    numbers = list(range(1, len(truth.crops) + 1))
    coarse = degrade_partition(truth.labels, dict(zip(numbers, truth.crops, strict=True)), rng)
    return list(zip(crop_segments(coarse, numbers), truth.crops, strict=True))


def check_size(prediction: Objects | Partition, height: int, width: int, name: str) -> None:
    """A UserError unless a prediction has the size of its image."""
    if prediction.size != (height, width) and not (isinstance(prediction, Objects) and not len(prediction)):
        raise UserError(
            f"{name} is {height} x {width}, its prediction {prediction.size[0]} x {prediction.size[1]}: predictions "
            "must be of the image's own size"
        )
