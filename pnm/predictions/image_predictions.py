"""What a segmentation model predicted for an image: objects that may overlap, or a partition into segments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop


@dataclass(frozen=True)
class Objects:
    """N predicted objects of one image, which may overlap.

    Attributes:
        size: (height, width) of the image, in pixels.
        masks: crops of the image.
        scores: finite numbers.
        categories: category ids of the data set.

    Raises:
        UserError: the three aren't equally long, a mask reaches out of the image, or a score isn't finite.
    """

    size: tuple[int, int]
    masks: tuple[MaskCrop, ...]
    scores: tuple[float, ...]
    categories: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.masks) == len(self.scores) == len(self.categories):
            numbers = f"{len(self.masks)} masks, {len(self.scores)} scores and {len(self.categories)} categories"
            raise UserError(f"{numbers}, expected as many of each")
        for n, (mask, score) in enumerate(zip(self.masks, self.scores)):
            bottom, right = mask.top + mask.pixels.shape[0], mask.left + mask.pixels.shape[1]
            if not (0 <= mask.top <= bottom <= self.size[0] and 0 <= mask.left <= right <= self.size[1]):
                extent = f"rows {mask.top} to {bottom} and columns {mask.left} to {right}"
                raise UserError(f"mask {n} has {extent}, the image is {self.size[0]} x {self.size[1]}")
            if not math.isfinite(score):
                raise UserError(f"mask {n} has score {score}, expected a finite number")

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class Partition:
    """A prediction that gives each pixel of one image one label.

    What a refiner makes of it is (H, W) labels of the same segments or, of a panoptic prediction, a Partition into
    others, see :mod:`pnm.predictions.relisting`.

    Attributes:
        labels: (H, W) integers.
        segments: the labels that a refiner treats as objects, in the order of the file; one may have no pixel. All
            other labels (void, ignored, no class) are no objects: a segment may take pixels of theirs, but none is
            given to them.
        categories: category id of each segment.

    Raises:
        UserError: labels that are no (H, W) integers, a segment that occurs twice, or not one category for each.
    """

    labels: np.ndarray
    segments: tuple[int, ...]
    categories: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype.kind not in "iu":
            raise UserError(f"labels are {self.labels.shape} {self.labels.dtype}, expected (H, W) integers")
        if len(self.segments) != len(self.categories):
            raise UserError(f"{len(self.segments)} segments and {len(self.categories)} categories, expected as many")
        if len(set(self.segments)) < len(self.segments):
            raise UserError(f"segments {list(self.segments)[:10]} have a label twice")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image, in pixels."""
        height, width = self.labels.shape
        return height, width


def checked_labels(coarse: Partition, refined: Any, kept: Sequence[int], name: str) -> np.ndarray:
    """A refined partition in the coarse one's data type.

    Args:
        refined: (H, W) integers, of labels that the coarse partition has.
        kept: labels that may occur beside the segments.
        name: of the image, for messages.

    Raises:
        UserError: another size or kind, or a Partition; a label that isn't there; a hole: a pixel that was a segment's
            and is none's.
    """
    if isinstance(refined, Partition):
        raise UserError(
            f"{name}: the refiner made a new list of segments, expected a label for each pixel: only panoptic result "
            "files can take other segments"
        )
    labels = np.asarray(refined)
    if labels.shape != coarse.labels.shape or labels.dtype.kind not in "iu":
        raise UserError(
            f"{name}: the refined labels are {labels.shape} {labels.dtype}, expected {coarse.labels.shape} integers"
        )
    in_segment = np.isin(labels, coarse.segments)
    strange = labels[~in_segment & ~np.isin(labels, list(kept))]
    if strange.size:
        unknown = np.unique(strange)[:5].tolist()
        raise UserError(
            f"{name}: the refined labels {unknown} are none of the prediction's: {list(coarse.segments)[:20]}"
        )
    holes = np.count_nonzero(~in_segment & np.isin(coarse.labels, coarse.segments))
    if holes:
        raise UserError(f"{name}: {holes} pixels of a segment are none's after refinement, expected a label for each")
    return labels.astype(coarse.labels.dtype)
