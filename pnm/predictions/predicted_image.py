"""What a model said of an image, as result files have it, before and after refinement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import crop_array
from pnm.predictions.coco_panoptic import checked_segments, segment_entry, segment_rows
from pnm.predictions.image_predictions import Objects, Partition, checked_labels
from pnm.predictions.refined_masks import changed_entry, json_changes, mask_changes

IGNORED = (255,)  # labels of a label PNG that are no class, by the rule of LabelPngPredictions
Row = Mapping[str, Any]


@dataclass(frozen=True)
class PredictedImage:
    """A prediction and its entries.

    Attributes:
        task: "instance", "semantic" or "panoptic".
        prediction: of instances Objects, whose categories are ids as the entries have them; else a Partition.
        rows: of instances COCO results without "image_id", one for each object, in order; of a panoptic prediction
            "segments_info"; of a semantic one nothing.
    """

    task: str
    prediction: Objects | Partition
    rows: tuple[Row, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.prediction.size


class Refines(Protocol):
    """A refiner, or several: see :class:`pnm.predictions.refinement.Chain`."""

    def refine(self, contents: Any, prediction: Objects | Partition) -> Any: ...


def predicted_objects(masks: np.ndarray, rows: list[dict[str, Any]]) -> PredictedImage:
    """Detections.

    Args:
        masks: (N, H, W) bool or uint8.
        rows: N COCO results, in order.
    """
    height, width = masks.shape[1:]
    scores, categories = (tuple(row[key] for row in rows) for key in ("score", "category_id"))
    objects = Objects((height, width), tuple(map(crop_array, masks)), scores, categories)
    return PredictedImage("instance", objects, tuple(rows))


def predicted_labels(labels: np.ndarray) -> PredictedImage:
    """A map of classes, (H, W) uint8 or uint16."""
    present = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    segments = tuple(label for label in present if label not in IGNORED)
    return PredictedImage("semantic", Partition(labels, segments, segments))


def predicted_segments(labels: np.ndarray, rows: list[dict[str, Any]]) -> PredictedImage:
    """A panoptic map, (H, W) integers, 0 being void, and its "segments_info"."""
    ids = tuple(row["id"] for row in rows)
    partition = Partition(labels, ids, tuple(row["category_id"] for row in rows))
    return PredictedImage("panoptic", partition, tuple(rows))


def refined(predicted: PredictedImage, refiner: Refines, contents: Any, name: str) -> PredictedImage:
    """A prediction after a refiner, as refined result files have it: what follows from masks follows them.

    Args:
        contents: what the refiner needs of the image.
        name: of the image, for messages.

    Raises:
        UserError: what the refiner says, or a result that doesn't fit.
    """
    coarse = predicted.prediction
    try:
        result = refiner.refine(contents, coarse)
    except UserError as error:
        raise UserError(f"image {name}: {error}") from None
    if isinstance(coarse, Objects):
        return _with_masks(predicted, coarse, result, name)
    if predicted.task == "panoptic":
        return _with_segments(predicted, coarse, result, name)
    return predicted_labels(checked_labels(coarse, result, IGNORED, f"image {name}"))


def _with_masks(predicted: PredictedImage, coarse: Objects, masks: Any, name: str) -> PredictedImage:
    changes = mask_changes(coarse.masks, masks, coarse.size, f"image {name}")
    pairs = zip(predicted.rows, json_changes(changes, coarse.size), strict=True)
    crops = tuple(before if change.crop is None else change.crop for before, change in zip(coarse.masks, changes))
    rows = tuple(changed_entry(*pair, coarse.size) for pair in pairs)
    return PredictedImage("instance", replace(coarse, masks=crops), rows)


def _with_segments(predicted: PredictedImage, coarse: Partition, result: Any, name: str) -> PredictedImage:
    anew = checked_segments(coarse, result, f"image {name}")
    rows = [segment_entry(row, predicted.rows, {}) for row in segment_rows(anew, coarse)]
    return predicted_segments(anew.labels, rows)
