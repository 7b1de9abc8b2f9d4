"""True masks that end where no edge is, as annotations do: of several things as one, of a part of a thing, with what
hides it, or without what belongs to it. A refiner that has seen only masks that end at edges believes in every edge.
"""

from collections.abc import Sequence

import numpy as np

from pnm.masks.crops import MaskCrop, crop_array, trimmed
from pnm.masks.model_errors import polygon, signed_distance, wavering
from pnm.masks.smooth_noise import smooth_noise

_JOINED, _CUT = 0.4, 0.3  # shares of the ways; the rest gets or loses a spot
_MOST_JOINED = 2
_NEAR_SHARE = 0.15  # of the extent: what is no farther away may be joined
_SPOT_RADII = (0.06, 0.3)  # of the extent
_SLOPPY_SHARES = (0.004, 0.025)  # of the extent, log-uniform
_LEAST_SHARE = 0.35  # of the mask's area that has to stay


def _joined(crop: MaskCrop, others: Sequence[MaskCrop], reach: int, rng: np.random.Generator) -> MaskCrop:
    """With one or two others whose rectangles are near."""
    h, w = crop.pixels.shape
    near = [
        other
        for other in others
        if other.top < crop.top + h + reach
        and crop.top < other.top + other.pixels.shape[0] + reach
        and other.left < crop.left + w + reach
        and crop.left < other.left + other.pixels.shape[1] + reach
    ]
    chosen = [near[n] for n in rng.permutation(len(near))[: rng.integers(1, _MOST_JOINED + 1)]]
    parts = [crop, *chosen]
    top, left = min(part.top for part in parts), min(part.left for part in parts)
    bottom = max(part.top + part.pixels.shape[0] for part in parts)
    right = max(part.left + part.pixels.shape[1] for part in parts)
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    for part in parts:
        y, x = part.top - top, part.left - left
        pixels[y : y + part.pixels.shape[0], x : x + part.pixels.shape[1]] |= part.pixels
    return MaskCrop(pixels, top, left)


def _cut(crop: MaskCrop, extent: float, rng: np.random.Generator) -> MaskCrop:
    """One side of a line that bends a little."""
    height, width = crop.pixels.shape
    angle, rows, columns = rng.uniform(0, 2 * np.pi), np.arange(height)[:, None], np.arange(width)[None]
    away = (rows - height * rng.uniform(0.25, 0.75)) * np.sin(angle) + (
        columns - width * rng.uniform(0.25, 0.75)
    ) * np.cos(angle)
    bend = 0.06 * extent * smooth_noise(rng, height, width, max(8.0, 0.4 * extent))
    return crop._replace(pixels=crop.pixels & (away > bend))


def _with_spot(crop: MaskCrop, extent: float, size: tuple[int, int], rng: np.random.Generator) -> MaskCrop:
    """With a round spot at the contour more, or less."""
    radius = max(2.0, extent * rng.uniform(*_SPOT_RADII))
    pad = int(radius) + 1
    top, left = max(0, crop.top - pad), max(0, crop.left - pad)
    h, w = crop.pixels.shape
    bottom, right = min(size[0], crop.top + h + pad), min(size[1], crop.left + w + pad)
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    pixels[crop.top - top : crop.top - top + h, crop.left - left : crop.left - left + w] = crop.pixels
    inner = pixels[:-2, 1:-1] & pixels[2:, 1:-1] & pixels[1:-1, :-2] & pixels[1:-1, 2:]
    rim = np.argwhere(pixels & ~np.pad(inner, 1))
    y, x = rim[rng.integers(len(rim))]
    squeeze = rng.uniform(0.5, 1)
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    spot = np.hypot(rows - y, (columns - x) * squeeze) < radius
    return MaskCrop(pixels | spot if rng.random() < 0.5 else pixels & ~spot, top, left)


def edgeless(crop: MaskCrop, others: Sequence[MaskCrop], size: tuple[int, int], rng: np.random.Generator) -> MaskCrop:
    """A mask that ends in part where no edge is; the mask itself where too little of it would be left.

    Args:
        crop: not empty.
        others: masks of other objects of the image.
        size: (height, width) of the image.
    """
    crop = trimmed(crop)
    area = np.count_nonzero(crop.pixels)
    extent, way = float(np.sqrt(area)), rng.random()
    if way < _JOINED:
        made = _joined(crop, others, int(_NEAR_SHARE * extent), rng)
    elif way < _JOINED + _CUT:
        made = _cut(crop, extent, rng)
    else:
        made = _with_spot(crop, extent, size, rng)
    pixels, top, left = crop_array(made.pixels)
    if np.count_nonzero(pixels) < _LEAST_SHARE * area:
        return crop
    return MaskCrop(pixels, top + made.top, left + made.left)


def sloppy(crop: MaskCrop, size: tuple[int, int], rng: np.random.Generator) -> MaskCrop:
    """A mask as people in a hurry draw it: beside the edge by up to 2.5 % of its extent, more often outside, or as a
    polygon of few corners.

    Args:
        crop: not empty.
        size: (height, width) of the image.
    """
    crop = trimmed(crop)
    extent = float(np.sqrt(np.count_nonzero(crop.pixels)))
    px = max(0.5, extent * float(np.exp(rng.uniform(*np.log(_SLOPPY_SHARES)))))
    pad = int(4 * px) + 2
    top, left = max(0, crop.top - pad), max(0, crop.left - pad)
    h, w = crop.pixels.shape
    bottom, right = min(size[0], crop.top + h + pad), min(size[1], crop.left + w + pad)
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    pixels[crop.top - top : crop.top - top + h, crop.left - left : crop.left - left + w] = crop.pixels
    way = rng.random()
    if way < 0.4:
        drawn = signed_distance(pixels) > (-px if rng.random() < 0.7 else px)
    else:
        drawn = (wavering if way < 0.7 else polygon)(pixels, px, rng, pixels)
    pixels, y, x = crop_array(drawn)
    return MaskCrop(pixels, y + top, x + left) if pixels.any() else crop
