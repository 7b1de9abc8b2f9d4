"""How many masks, or segments of label maps, a run has changed."""

from typing import Any, NamedTuple

import numpy as np

from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refined_masks import mask_changes


class ChangeCount(NamedTuple):
    """Of some images.

    Attributes:
        images: how many they are.
        masks, segments: how many there were.
        changed: how many of both lost or took a pixel, or are gone.
    """

    images: int = 0
    masks: int = 0
    segments: int = 0
    changed: int = 0

    def plus(self, other: "ChangeCount") -> "ChangeCount":
        """Of the images of both."""
        return ChangeCount(*(a + b for a, b in zip(self, other, strict=True)))

    def told(self, images: int) -> str:
        """In words, for a run that has refined so many images, some of them perhaps earlier."""
        kind = "segments" if self.segments else "masks"
        earlier = f" in the {self.images} images of this run" if self.images < images else ""
        return f"{self.changed} of {self.masks + self.segments} {kind} changed{earlier}"


def changes_of(coarse: Objects | Partition, refined: Any, name: str) -> ChangeCount:
    """Of one image.

    Args:
        refined: what a step made of it, see :class:`pnm.predictions.refinement.Step`.
        name: of the image, for messages.

    Raises:
        UserError: masks that are not those of this image.
    """
    if isinstance(coarse, Objects):
        changes = mask_changes(coarse.masks, refined, coarse.size, name)
        return ChangeCount(1, masks=len(changes), changed=sum(one.crop is not None for one in changes))
    labels = np.asarray(refined.labels if isinstance(refined, Partition) else refined)
    present = set(np.unique(coarse.labels).tolist()) & set(coarse.segments)
    moved = coarse.labels != labels
    touched = set(np.unique(coarse.labels[moved]).tolist()) | set(np.unique(labels[moved]).tolist())
    return ChangeCount(1, segments=len(present), changed=len(present & touched))
