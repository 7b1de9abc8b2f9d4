"""Masks of a video's frames, steadied where nothing moves; no optical flow.

Where a frame's pixels are those of the frame before, but for noise, logits are averaged with those before, and the mask
before is what they have to speak against. Elsewhere a frame stands for itself.
"""

from typing import Protocol

import cv2
import numpy as np

from pnm.masks.crops import crop_array
from pnm.object_refinement.decision import Decision
from pnm.object_refinement.refining import Predict, object_box, refined_pixels

_SURE = 6.0  # the largest logit that counts
_MEMORY = 0.8  # share of the frames before in an average
_STILL = 6.0  # grey levels of 255 by which means of small windows may differ where nothing moves
_WINDOW, _AROUND = 5, 9  # px: of these means; that are taken for moving around what moves


class HasNetwork(Protocol):
    """See :class:`pnm.object_refinement.refiner.Refiner`."""

    predict: Predict
    decision: Decision


def still_pixels(frame: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(H, W) bool: where two frames, (H, W, 3) uint8, show the same."""
    one, other = (cv2.blur(image.astype(np.float32), (_WINDOW, _WINDOW)) for image in (frame, before))
    moves = (np.abs(one - other).max(axis=2) > _STILL).astype(np.uint8)
    return cv2.dilate(moves, np.ones((_AROUND, _AROUND), np.uint8)) == 0


class SteadyRefiner:
    """Refines the masks of an object in frames that follow each other.

    Args:
        refiner: of single masks.
        memory: share of the frames before where nothing moves, 0 to below 1.
    """

    def __init__(self, refiner: HasNetwork, memory: float = _MEMORY):
        self._refiner, self._memory = refiner, memory
        self._frame: np.ndarray | None = None
        self._logits, self._refined = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.bool_)

    def refine(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(H, W) bool, the mask of the next frame refined.

        Args:
            frame: (H, W, 3) uint8 RGB.
            mask: (H, W) bool.
        """
        logits, reference = self._own_logits(frame, mask), mask
        if self._frame is not None:
            still = still_pixels(frame, self._frame)
            averaged = self._memory * self._logits + (1 - self._memory) * logits
            logits = np.where(still, averaged, logits).astype(np.float32)
            reference = np.where(still, self._refined, mask)
        margin = self._refiner.decision.margin
        refined = np.where(reference, logits > -margin, logits > margin)
        self._frame, self._logits, self._refined = frame, logits, refined
        return refined

    def _own_logits(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(H, W) float32 logits of one frame, sure of the mask where no boundary is near."""
        logits = np.where(mask, np.float32(_SURE), np.float32(-_SURE))
        crop = crop_array(mask)
        if crop.pixels.size and not mask.all():
            box = object_box(crop, *mask.shape)  # type: ignore[call-arg]
            part = slice(box[0], box[2]), slice(box[1], box[3])
            _, own = refined_pixels(self._refiner.predict, frame, mask[part], box, self._refiner.decision)
            logits[part] = np.clip(own, -_SURE, _SURE)
        return logits
