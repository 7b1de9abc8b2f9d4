"""One mask refined: passes from coarse to fine over an object, and which of its pixels change.

The first pass sees the whole object in one window, in which the network can weigh the evidence all along its contour:
an offset that is the same everywhere is believed, scattered disagreement is not. Passes at finer scales see parts, and
start from what the pass before made.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pnm.masks.crops import MaskCrop, trimmed
from pnm.object_refinement.belief import Belief, best_candidate
from pnm.object_refinement.decision import Decision
from pnm.object_refinement.windows import Seen, Window, brought_back, cut, mask_pixels, windows_of

# Gives maps (2, h / 2, w / 2) float32 of what a window shows, see pnm.object_refinement.network.
Predict = Callable[[Seen], np.ndarray]

Box = tuple[int, int, int, int]  # top, left, bottom, right

_SIDE = 256  # of a window, as the network sees it
_OVERLAP = 64
_MARGIN_SHARE, _MARGIN_PX = 0.2, 6  # around the coarse mask's box, of its longer side
_LARGEST_SCALE, _SMALLEST_SCALE = 2.0, 1 / 8
_NEXT_SCALE = 4.0  # at most, from one pass to the next
_WHOLE_SCALE = 0.6  # a pass from which on no finer one is needed


class RefinedMask(NamedTuple):
    """What became of a mask.

    Attributes:
        crop: the refined mask; its rectangle may be larger than its foreground.
        confidence: how sure it is that the refined mask is better than, or as good as, the coarse one, 0 to 1; 0 of an
            object that kept its mask because nothing would have been left of it.
        changed: number of pixels that differ.
    """

    crop: MaskCrop
    confidence: float
    changed: int


def object_box(crop: MaskCrop, height: int, width: int) -> Box:
    """The rectangle that is looked at: a mask's own with a margin, in an image of height x width."""
    rows, columns = crop.pixels.shape
    margin = int(_MARGIN_SHARE * max(rows, columns)) + _MARGIN_PX
    return (
        max(0, crop.top - margin),
        max(0, crop.left - margin),
        min(height, crop.top + rows + margin),
        min(width, crop.left + columns + margin),
    )


def scales_of(box: Box) -> list[float]:
    """Scales of the passes over a rectangle, coarse to fine."""
    scale = _SIDE / max(box[2] - box[0], box[3] - box[1])
    scales = [min(_LARGEST_SCALE, max(scale, _SMALLEST_SCALE))]
    while scales[-1] < _WHOLE_SCALE:
        scales.append(min(1.0, scales[-1] * _NEXT_SCALE))
    return scales


def _has_boundary(crop: MaskCrop, window: Window) -> bool:
    pixels = mask_pixels(crop, window.top, window.left, window.height, window.width)
    return bool(pixels.any() and not pixels.all())


def _weights(window: Window) -> np.ndarray:
    """(height, width) float32: how much a window's pixels count where windows overlap, less towards its frame."""
    rows, columns = (
        np.minimum(np.arange(side) + 1, side - np.arange(side)).astype(np.float32)
        for side in (window.height, window.width)
    )
    return np.minimum(rows[:, None], columns[None])


def pass_logits(predict: Predict, image: np.ndarray, crop: MaskCrop, box: Box, scale: float) -> np.ndarray:
    """(h, w) float32 logits of foreground in a rectangle; where no window had a boundary, +-inf as in ``crop``."""
    top, left, bottom, right = box
    coarse = mask_pixels(crop, top, left, bottom - top, right - left)
    sums, total = np.zeros(coarse.shape, np.float32), np.zeros(coarse.shape, np.float32)
    for window in windows_of(box, scale, _SIDE, _OVERLAP):
        if not _has_boundary(crop, window):
            continue
        y, x = window.top - top, window.left - left
        part = slice(y, y + window.height), slice(x, x + window.width)
        inside, outside = brought_back(predict(cut(image, crop, window)), window)
        weights = _weights(window)
        sums[part] += weights * np.where(coarse[part], inside, outside)
        total[part] += weights
    seen = total > 0
    return np.where(seen, sums / np.where(seen, total, 1), np.where(coarse, np.inf, -np.inf)).astype(np.float32)


class Passes(NamedTuple):
    """What all passes made of a rectangle.

    Attributes:
        before, refined: (h, w) bool, what the last pass started from and made.
        logits: (h, w) float32, of foreground, of that pass.
        margin: logit of the other label that a pixel's had to exceed; infinite where the object kept its mask.
        confidence: see :class:`RefinedMask`.
    """

    before: np.ndarray
    refined: np.ndarray
    logits: np.ndarray
    margin: float
    confidence: float

    @property
    def decided(self) -> np.ndarray:
        """(h, w) float32: logits moved so that they are above 0 exactly where the refined mask is."""
        return (self.logits + np.where(self.before, self.margin, -self.margin)).astype(np.float32)


def refined_pixels(
    predict: Predict, image: np.ndarray, coarse: np.ndarray, box: Box, decision: Decision, belief: Belief | None = None
) -> Passes:
    """All passes over a rectangle, whose part of the coarse mask is (h, w) bool.

    Args:
        belief: that chooses from which probability on pixels change, and whether any do; without it, or where any risk
            is borne, ``decision.pixel`` is that probability, and the confidence is 1.
    """
    before, refined, confidence = coarse, coarse, 1.0
    logits, margin = np.where(coarse, np.float32(np.inf), np.float32(-np.inf)), decision.margin
    for scale in scales_of(box):
        if not refined.any() or refined.all():
            break
        before = refined
        logits = pass_logits(predict, image, MaskCrop(before, box[0], box[1]), box, scale)
        if belief is not None and decision.risk < 1:
            chosen = best_candidate(belief.candidates(logits, before, scale), decision)
            if chosen is None:
                margin = float("inf")
                continue
            margin = float(np.log(chosen.threshold / (1 - chosen.threshold)))
            confidence *= 1 - chosen.risk
        refined = np.where(before, logits > -margin, logits > margin)
    return Passes(before, refined, logits, margin, confidence)


def refined_mask(
    predict: Predict, image: np.ndarray, crop: MaskCrop, decision: Decision, belief: Belief | None = None
) -> RefinedMask:
    """A mask refined.

    Args:
        image: (H, W, 3) uint8 RGB, or anything of that shape that gives arrays when it is sliced.
        crop: the coarse mask.
        belief: see :func:`refined_pixels`.
    """
    crop = trimmed(crop)
    height, width = image.shape[:2]
    if not crop.pixels.size or crop.pixels.size == height * width and crop.pixels.all():
        return RefinedMask(crop, 1.0, 0)
    box = object_box(crop, height, width)
    coarse = mask_pixels(crop, box[0], box[1], box[2] - box[0], box[3] - box[1])
    passes = refined_pixels(predict, image, coarse, box, decision, belief)
    if not passes.refined.any():  # no object vanishes by refinement
        return RefinedMask(crop, 0.0, 0)
    changed = int(np.count_nonzero(passes.refined != coarse))
    refined = MaskCrop(passes.refined, box[0], box[1])
    return RefinedMask(refined, passes.confidence if changed else 1.0, changed)
