"""What a refinement did to each object: how sure it is, how many pixels changed and where."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from pnm.masks.crops import MaskCrop, crop_array
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refined_masks import mask_changes

CONFIDENCE, CHANGED = "refinement_confidence", "refinement_changed_px"  # fields of result files
Prediction = Objects | Partition


class Detail(NamedTuple):
    """What became of an object, or of a segment.

    Attributes:
        confidence: how sure the refiner is that the result is as good or better, 0 to 1; None if it doesn't say.
        changed: number of pixels that the object lost or took.
        box_xywh: of its refined mask, in pixels; zeros of an empty one.
        label: of a segment; None of an object.
    """

    confidence: float | None
    changed: int
    box_xywh: tuple[int, int, int, int]
    label: int | None = None

    def fields(self) -> dict[str, Any]:
        """Those of an entry of a result file."""
        confidence = {} if self.confidence is None else {CONFIDENCE: round(self.confidence, 4)}
        return {**confidence, CHANGED: self.changed}


class Detailed(NamedTuple):
    """A refined prediction, as :meth:`pnm.predictions.refinement.Step.refine` gives it, and confidences.

    Attributes:
        confidences: of each object in order, or of each segment by its label.
    """

    refined: Any
    confidences: Mapping[int, float]


@runtime_checkable
class DetailedStep(Protocol):
    """A step that says how sure it is."""

    def refine_detailed(self, content: Any, prediction: Prediction) -> Detailed: ...


def refine_detailed(step: Any, content: Any, prediction: Prediction) -> Detailed:
    """What a step makes of a prediction; of a step that says no confidence, without any."""
    if isinstance(step, DetailedStep):
        return step.refine_detailed(content, prediction)
    return Detailed(step.refine(content, prediction), {})


def lower_confidences(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """Of two refinements one after the other: the lower one, where both say one."""
    return {**one, **other, **{key: min(one[key], other[key]) for key in one.keys() & other.keys()}}


def details_of(coarse: Prediction, detailed: Detailed, name: str) -> list[Detail]:
    """Of each object in order; of a partition, of each refined segment that has pixels.

    Args:
        name: of the image, for messages.

    Raises:
        UserError: masks that are not those of this image.
    """
    if isinstance(coarse, Objects):
        return _of_objects(coarse, detailed, name)
    relisted = isinstance(detailed.refined, Partition)
    labels = np.asarray(detailed.refined.labels if relisted else detailed.refined)
    segments = detailed.refined.segments if relisted else coarse.segments
    details = []
    for label in segments:
        after = labels == label
        crop = crop_array(after)
        if crop.pixels.size:
            changed = int(np.count_nonzero(after != (coarse.labels == label)))
            details.append(Detail(detailed.confidences.get(label), changed, _box(crop), int(label)))
    return details


def _of_objects(coarse: Objects, detailed: Detailed, name: str) -> list[Detail]:
    changes = mask_changes(coarse.masks, detailed.refined, coarse.size, name)
    details = []
    for n, (before, change) in enumerate(zip(coarse.masks, changes, strict=True)):
        changed = 0 if change.crop is None else changed_pixels(before, change.crop)
        details.append(Detail(detailed.confidences.get(n), changed, change.box_xywh))
    return details


def changed_pixels(one: MaskCrop, other: MaskCrop) -> int:
    """How many pixels are in one of two masks alone."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom, right = (
        min(a + length for a, length in pairs)
        for pairs in (
            [(crop.top, crop.pixels.shape[0]) for crop in (one, other)],
            [(crop.left, crop.pixels.shape[1]) for crop in (one, other)],
        )
    )
    both = 0
    if top < bottom and left < right:
        parts = (c.pixels[top - c.top : bottom - c.top, left - c.left : right - c.left] for c in (one, other))
        both = int(np.count_nonzero(np.logical_and(*parts)))
    return int(np.count_nonzero(one.pixels) + np.count_nonzero(other.pixels)) - 2 * both


def _box(crop: MaskCrop) -> tuple[int, int, int, int]:
    return crop.left, crop.top, crop.pixels.shape[1], crop.pixels.shape[0]
