"""Ground truth made as coarse as predictions are, to train a refiner without any model's predictions.

A mask is degraded in one of four ways, drawn at random: eroded or dilated, drawn anew from 28 x 28 samples of its box
as Mask R-CNN's head would (He et al., "Mask R-CNN", ICCV 2017), or with a contour of few vertices that have moved. How
much follows from the object's size, with a random factor.
"""

from collections.abc import Callable

import cv2
import numpy as np

from pnm.masks.crops import MaskCrop, crop_array

MASK_HEAD_SIDE = 28
_LEAST_PX = 1.0  # of any shift


def _strength_px(crop: MaskCrop, rng: np.random.Generator) -> float:
    """Pixels by which a contour may be off: 1 to 5 % of the object's extent, between 1 and 12."""
    extent = float(np.sqrt(crop.pixels.sum()))
    return float(np.clip(extent * rng.uniform(0.01, 0.05), _LEAST_PX, 12))


def erode_or_dilate(crop: MaskCrop, strength_px: float, rng: np.random.Generator) -> MaskCrop:
    """The mask less, or more, everything within ``strength_px`` of its contour (a disk)."""
    radius = max(1, round(strength_px))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    pixels = np.pad(crop.pixels.astype(np.uint8), radius)
    changed = (cv2.erode if rng.random() < 0.5 else cv2.dilate)(pixels, disk)
    return MaskCrop(changed.astype(np.bool_), crop.top - radius, crop.left - radius)


def draw_low_resolution(crop: MaskCrop, strength_px: float, rng: np.random.Generator) -> MaskCrop:
    """The mask sampled at 28 x 28 in a box that is off by up to ``strength_px``, and drawn from that."""
    h, w = crop.pixels.shape
    shift = np.round(rng.uniform(-strength_px, strength_px, 4)).astype(int)
    top, left = crop.top + shift[0], crop.left + shift[1]
    bottom, right = max(top + 1, crop.top + h + shift[2]), max(left + 1, crop.left + w + shift[3])
    margin = int(np.abs(shift).max())
    source = np.pad(crop.pixels.astype(np.float32), margin)
    y0, x0 = top - crop.top + margin, left - crop.left + margin
    box = source[y0 : y0 + bottom - top, x0 : x0 + right - left]
    samples = cv2.resize(box, (MASK_HEAD_SIDE, MASK_HEAD_SIDE), interpolation=cv2.INTER_AREA)
    drawn = cv2.resize(samples, (box.shape[1], box.shape[0]), interpolation=cv2.INTER_LINEAR)
    return MaskCrop(drawn >= 0.5, int(top), int(left))


def move_vertices(crop: MaskCrop, strength_px: float, rng: np.random.Generator) -> MaskCrop:
    """Each contour as a polygon, off by ``strength_px`` / 2 at most, whose vertices are moved, normally distributed."""
    margin = int(np.ceil(4 * strength_px))
    pixels = np.pad(crop.pixels.astype(np.uint8), margin)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.zeros_like(pixels)
    moved = []
    for contour in contours:
        polygon = cv2.approxPolyDP(contour, strength_px / 2, True)[:, 0].astype(np.float64)
        shift = np.clip(rng.normal(0, strength_px / 2, polygon.shape), -2 * strength_px, 2 * strength_px)
        moved.append(np.round(polygon + shift).astype(np.int32))
    cv2.fillPoly(drawn, moved, 1)  # even-odd: holes stay holes
    return MaskCrop(drawn.astype(np.bool_), crop.top - margin, crop.left - margin)


_WAYS: tuple[Callable[[MaskCrop, float, np.random.Generator], MaskCrop], ...] = (
    erode_or_dilate,
    draw_low_resolution,
    draw_low_resolution,
    move_vertices,
)


def _inside(crop: MaskCrop, height: int, width: int) -> MaskCrop:
    """The part that lies in the image, with its rectangle as small as can be."""
    y0, x0 = max(0, -crop.top), max(0, -crop.left)
    pixels = crop.pixels[y0 : max(y0, height - crop.top), x0 : max(x0, width - crop.left)]
    tight = crop_array(pixels)
    return (
        MaskCrop(tight.pixels, tight.top + crop.top + y0, tight.left + crop.left + x0) if tight.pixels.size else tight
    )


def degrade(crop: MaskCrop, height: int, width: int, rng: np.random.Generator) -> MaskCrop:
    """A coarse version of a true mask in an image of height x width; may be empty."""
    if not crop.pixels.any():
        return crop
    way = _WAYS[rng.integers(len(_WAYS))]
    return _inside(way(crop, _strength_px(crop, rng), rng), height, width)


def degrade_partition(labels: np.ndarray, crops: dict[int, MaskCrop], rng: np.random.Generator) -> np.ndarray:
    """A coarse version of a label map: its segments degraded one by one and laid over it in random order.

    Args:
        labels: (H, W) integers.
        crops: the mask of each label that is degraded.
    """
    out, (height, width) = labels.copy(), labels.shape
    for label in rng.permutation(list(crops)).tolist():
        pixels, top, left = degrade(crops[label], height, width, rng)
        out[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = label
    return out
