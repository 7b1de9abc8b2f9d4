"""Objects painted into one map, for formats in which a pixel belongs to one object: later ones lie on top."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, object_masks

NOTHING = -1


@dataclass
class Covered:
    """What is lost by painting, counted over images.

    Attributes:
        pixels: that lie under a later object.
        objects: of which no pixel is left.
    """

    pixels: int = 0
    objects: int = 0

    def paint(self, image: AnnotatedImage, objects: Sequence[AnnotatedObject]) -> np.ndarray:
        """(H, W) int32: of each pixel the place in ``objects`` of the last that has it, ``NOTHING`` where none has."""
        places = np.full(image.size, NOTHING, np.int32)
        crops = object_masks(image, objects)
        for place, crop in enumerate(crops):
            height, width = crop.pixels.shape
            places[crop.top : crop.top + height, crop.left : crop.left + width][crop.pixels] = place
        seen = np.bincount(places[places != NOTHING], minlength=len(crops))
        self.pixels += sum(int(np.count_nonzero(crop.pixels)) for crop in crops) - int(seen.sum())
        self.objects += int(np.count_nonzero(seen == 0))
        return places

    def log(self, logger: logging.Logger, words: str) -> None:
        """Says what was lost, if anything; ``words`` name the format."""
        if self.pixels:
            logger.warning("%s have one object a pixel: %d pixels under later objects are not kept", words, self.pixels)
        if self.objects:
            logger.warning("%s have no place for %d objects of which no pixel can be seen", words, self.objects)


def numbers_within(ids: Sequence[object], most: int) -> list[int]:
    """The ids where they are numbers from 1 to ``most`` and all differ, else 1, 2, 3, ..."""
    fit = all(type(k) is int and 1 <= k <= most for k in ids) and len(set(ids)) == len(ids)
    return [k for k in ids if isinstance(k, int)] if fit else list(range(1, len(ids) + 1))
