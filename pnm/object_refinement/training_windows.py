"""Windows to learn from: an image, its true mask and a coarse one, at the scales that refinement looks at.

Most show an object whole, others a part of its boundary, as the passes of :mod:`pnm.object_refinement.refining` do.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from pnm.masks.crops import MaskCrop, crop_array, trimmed
from pnm.masks.model_errors import coarse_mask
from pnm.object_refinement.network import foreground_logits
from pnm.object_refinement.windows import Seen, Window, cut, cut_mask, mask_pixels

_WHOLE_SHARE = 0.65  # of windows that show an object whole
_WHOLE_SIDES, _WHOLE_PX = (1.15, 1.6), (4, 12)  # a window's side in those of the object, and more pixels
_LARGEST_SCALE = 3.0
_PART_SCALES = (0.6, 2.0)  # log-uniform
_OFF_CENTER = 0.04, 0.125  # deviation of the centre, in sides: of windows that show all, and parts
_MARGIN_SHARE, _MARGIN_PX = 0.3, 24  # around an object that is made coarse, of its longer side


class TrainingWindow(NamedTuple):
    """What the network sees, and what it should say.

    Attributes:
        seen: see :class:`pnm.object_refinement.windows.Seen`.
        target: (h, w) bool, the true mask.
        counted: (h, w) bool: pixels that are learned from.
    """

    seen: Seen
    target: np.ndarray
    counted: np.ndarray


def made_coarse(image: np.ndarray, truth: MaskCrop, rng: np.random.Generator, **options: Any) -> MaskCrop:
    """A coarse version of a true mask that is not empty, see :func:`pnm.masks.model_errors.coarse_mask`.

    Args:
        image: (H, W, 3) uint8.
        options: of :func:`pnm.masks.model_errors.coarse_mask`.
    """
    truth, (height, width) = trimmed(truth), image.shape[:2]
    rows, columns = truth.pixels.shape
    margin = int(_MARGIN_SHARE * max(rows, columns)) + _MARGIN_PX
    top, left = max(0, truth.top - margin), max(0, truth.left - margin)
    bottom, right = min(height, truth.top + rows + margin), min(width, truth.left + columns + margin)
    mask = mask_pixels(truth, top, left, bottom - top, right - left)
    pixels, y, x = crop_array(coarse_mask(mask, image[top:bottom, left:right], rng, **options))
    return MaskCrop(pixels, y + top, x + left)


def drawn_window(coarse: MaskCrop, side: int, rng: np.random.Generator) -> Window:
    """A window on a coarse mask that is not empty, ``side`` pixels as the network sees it."""
    rows, columns = coarse.pixels.shape
    if rng.random() < _WHOLE_SHARE:
        length = max(rows, columns) * rng.uniform(*_WHOLE_SIDES) + rng.uniform(*_WHOLE_PX)
        center = np.array([rows, columns]) / 2 + rng.normal(0, _OFF_CENTER[0], 2) * length
        scale = min(side / length, _LARGEST_SCALE)
    else:
        inner = np.pad(coarse.pixels, 1)
        inner = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        rim = np.argwhere(coarse.pixels & ~inner)
        scale = float(np.exp(rng.uniform(*np.log(_PART_SCALES))))
        center = rim[rng.integers(len(rim))] + rng.normal(0, _OFF_CENTER[1] * side / scale, 2)
    center = np.clip(center, 0, (rows, columns))
    length = int(side / scale)
    top, left = np.round(center + (coarse.top, coarse.left) - length / 2).astype(int).tolist()
    return Window(top, left, length, length, side / length)


def training_window(
    image: np.ndarray, truth: MaskCrop, coarse: MaskCrop, ignored: MaskCrop, side: int, rng: np.random.Generator
) -> TrainingWindow:
    """A window of ``side`` pixels on an object, mirrored half of the time.

    Args:
        image: (H, W, 3) uint8 RGB.
        coarse: not empty.
        ignored: pixels of the image that nothing is to be learned from.
        side: a multiple of the network's stride.
    """
    height, width = image.shape[:2]
    window = drawn_window(trimmed(coarse), side, rng)
    seen = cut(image, coarse, window)
    target = cut_mask(truth, window, height, width)
    counted = seen.inside & ~cut_mask(ignored, window, height, width) if ignored.pixels.size else seen.inside
    parts: tuple[np.ndarray, ...] = (*seen, target, counted)
    if rng.random() < 0.5:
        parts = tuple(np.ascontiguousarray(part[:, ::-1]) for part in parts)
    return TrainingWindow(Seen(*parts[:3]), *parts[3:])


def refinement_loss(
    maps: torch.Tensor, coarse: torch.Tensor, target: torch.Tensor, counted: torch.Tensor
) -> torch.Tensor:
    """Binary cross-entropy of the foreground: the mean over pixels that are counted, 0 without any.

    Args:
        maps: (N, 2, h, w) of the network.
        coarse, target, counted: (N, H, W) bool.
    """
    logits = foreground_logits(maps.float(), coarse)
    loss = F.binary_cross_entropy_with_logits(logits, target.float(), counted.float(), reduction="sum")
    return loss / counted.sum().clamp(min=1)
