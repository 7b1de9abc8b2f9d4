"""Draws one training scene of the universal refiner: a photograph with objects pasted into it, and masks of these and
of the photograph's own regions, as an annotator would draw them.

What makes it like photographs: soft and hard edges, objects of nearly the background's colours, light that changes over
an object, shadows, objects that hide others, blur, noise, JPEG, resizing. What makes the masks like annotations: their
contour lies up to two pixels beside the edge, or is a polygon.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from cutout_shapes import SHAPES
from photograph_regions import region_masks

from pnm.errors import UserError
from pnm.masks.model_errors import contours_of
from pnm.masks.smooth_noise import smooth_noise

_PHOTOGRAPH_SIDE, _CUTOUT_SIDE = 1000, 500  # px; larger ones are scaled down
_LEAST_VISIBLE = 250  # px of a mask
_EXTENTS = (45, 380)  # px of an object's longer side, log-uniform


class Scene(NamedTuple):
    """(H, W, 3) uint8 RGB, and masks (H, W) bool, which may overlap by some pixels."""

    image: np.ndarray
    masks: list[np.ndarray]


class Sources:
    """Photographs and cut-outs in two folders.

    Args:
        photographs: *.jpg, *.jpeg, *.png or *.webp.
        cutouts: *.png with an alpha channel; none are needed.

    Raises:
        UserError: no photograph is there.
    """

    def __init__(self, photographs: Path, cutouts: Path | None):
        kinds = (".jpg", ".jpeg", ".png", ".webp")
        self._photographs = sorted(path for path in photographs.rglob("*") if path.suffix.lower() in kinds)
        self._cutouts = sorted(cutouts.rglob("*.png")) if cutouts else []
        if not self._photographs:
            raise UserError(f"{photographs} has no photograph (*.jpg, *.png, *.webp): check the path")

    @property
    def has_cutouts(self) -> bool:
        return bool(self._cutouts)

    def photograph(self, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return _photograph(self._photographs[rng.integers(len(self._photographs))])

    def cutout(self, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 4) uint8 RGBA, as small as its object."""
        return _cutout(self._cutouts[rng.integers(len(self._cutouts))])


def _read(path: Path, flags: int, side: int) -> np.ndarray:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise UserError(f"{path} is no picture that can be read: remove it")
    scale = side / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels


@lru_cache(maxsize=400)
def _photograph(path: Path) -> np.ndarray:
    return np.ascontiguousarray(_read(path, cv2.IMREAD_COLOR, _PHOTOGRAPH_SIDE)[..., ::-1])


@lru_cache(maxsize=800)
def _cutout(path: Path) -> np.ndarray:
    pixels = _read(path, cv2.IMREAD_UNCHANGED, _CUTOUT_SIDE)
    if pixels.ndim != 3 or pixels.shape[2] != 4 or not pixels[..., 3].any():
        raise UserError(f"{path} has no transparency around an object: remove it from the cut-outs")
    rows, columns = (np.flatnonzero((pixels[..., 3] > 10).any(axis=axis)) for axis in (1, 0))
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, [2, 1, 0, 3]])


def _part(sources: Sources, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: a part of a photograph at some scale, mirrored or not."""
    pixels = sources.photograph(rng)
    fit = max(height / pixels.shape[0], width / pixels.shape[1])
    scale = fit * float(np.exp(rng.uniform(0, np.log(2.2))))
    scale = fit if scale > 1.5 else scale
    size = max(width, int(pixels.shape[1] * scale)), max(height, int(pixels.shape[0] * scale))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    y, x = rng.integers(0, size[1] - height + 1), rng.integers(0, size[0] - width + 1)
    pixels = pixels[y : y + height, x : x + width]
    return np.ascontiguousarray(pixels[:, ::-1] if rng.random() < 0.5 else pixels)


def _recoloured(pixels: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Contrast, brightness, tint and saturation changed; float32 from 0 to 255."""
    colors = (pixels.astype(np.float32) - 128) * rng.uniform(1 - 0.35 * amount, 1 + 0.35 * amount) + 128
    colors += rng.uniform(-30, 30) * amount
    colors *= 1 + amount * rng.uniform(-0.12, 0.12, 3).astype(np.float32)
    if rng.random() < 0.3:
        grey = colors.mean(axis=2, keepdims=True)
        colors = grey + (colors - grey) * rng.uniform(0.2, 1.3)
    return np.clip(colors, 0, 255)


def _object(sources: Sources, rng: np.random.Generator, extent: float) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) float32 from 0 to 255, and opacity (h, w) float32 from 0 to 1."""
    if sources.has_cutouts and rng.random() < 0.6:
        rgba, stretch = sources.cutout(rng), np.exp(rng.uniform(-0.2, 0.2))
        scale = min(extent / max(rgba.shape[:2]), 1.6)
        size = max(8, int(rgba.shape[1] * scale / stretch)), max(8, int(rgba.shape[0] * scale * stretch))
        rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        colors, alpha = rgba[..., :3], rgba[..., 3]
    else:
        alpha = SHAPES[rng.integers(len(SHAPES))](rng, int(extent))
        colors = _part(sources, rng, *alpha.shape)
    if rng.random() < 0.7:
        (height, width), side = alpha.shape, int(np.hypot(*alpha.shape)) + 2
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 25), 1)
        matrix[:, 2] += (side - width) / 2, (side - height) / 2
        colors = cv2.warpAffine(colors, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
        alpha = cv2.warpAffine(alpha, matrix, (side, side))
    if rng.random() < 0.5:
        colors, alpha = colors[:, ::-1], alpha[:, ::-1]
    return _recoloured(colors, rng, 0.8), np.ascontiguousarray(alpha).astype(np.float32) / 255


def _lit(colors: np.ndarray, alpha: np.ndarray, behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An object's colours, some nearly those of what is behind it, some under a light that changes."""
    solid = alpha > 0.5
    if rng.random() < 0.45 and solid.any():
        colors = colors + rng.uniform(0.2, 0.75) * (behind.mean(axis=(0, 1)) - colors[solid].mean(axis=0))
    if rng.random() < 0.3:
        down, across = (np.linspace(-1, 1, side, dtype=np.float32) * rng.normal(0, 25) for side in alpha.shape)
        colors = colors + (down[:, None] + across[None])[..., None]
    return np.clip(colors, 0, 255)


def _shadow(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    moved = np.roll(alpha, (int(rng.integers(0, 15)), int(rng.integers(-12, 12))), (0, 1))
    return cv2.GaussianBlur(moved, (0, 0), float(rng.uniform(2, 12))) * np.float32(rng.uniform(0.2, 0.6))


def _paste(image: np.ndarray, sources: Sources, rng: np.random.Generator) -> np.ndarray | None:
    """Draws an object into ``image``, which changes, and returns its mask; None if hardly any of it fits."""
    height, width = image.shape[:2]
    colors, alpha = _object(sources, rng, float(np.exp(rng.uniform(*np.log(_EXTENTS)))))
    rows, columns = alpha.shape
    y, x = (
        int(rng.integers(min(-side // 4, room - side), max(room - 3 * side // 4, -side // 4) + 1))
        for side, room in ((rows, height), (columns, width))
    )
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + rows), min(width, x + columns)
    if bottom - top < 10 or right - left < 10:
        return None
    part = slice(top, bottom), slice(left, right)
    own = slice(top - y, bottom - y), slice(left - x, right - x)
    alpha = np.ascontiguousarray(alpha[own])
    if rng.random() < 0.5:
        alpha = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.4, 1.8)))
    colors, behind = _lit(colors[own], alpha, image[part], rng), image[part]
    if rng.random() < 0.35:
        behind = behind * (1 - _shadow(alpha, rng)[..., None])
    image[part] = colors * alpha[..., None] + behind * (1 - alpha[..., None])
    mask = np.zeros((height, width), np.bool_)
    mask[part] = alpha > 0.5
    return mask


def _photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, light, noise, resizing and compression of a whole picture; uint8."""
    height, width = image.shape[:2]
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3)))
    image = _recoloured(image, rng, 0.6)
    if rng.random() < 0.5:
        channels = 1 if rng.random() < 0.5 else 3
        image = image + rng.normal(0, rng.uniform(1, 9), (height, width, channels)).astype(np.float32)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        scale = rng.uniform(0.45, 0.8)
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.8:
        _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))])
        pixels = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return pixels


def annotated(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask as a person draws it: one in three exactly, others a little off, inside or outside, or as a polygon."""
    if rng.random() < 0.35:
        return mask
    height, width = mask.shape
    soft, off = mask.astype(np.float32), min(abs(rng.normal(0, 0.9)), 2.2)
    if off > 0.15:
        cell = float(np.exp(rng.uniform(np.log(6), np.log(60))))
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        columns += np.float32(off) * smooth_noise(rng, height, width, cell)
        rows += np.float32(off) * smooth_noise(rng, height, width, cell)
        soft = cv2.remap(soft, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outward = float(np.clip(rng.normal(0, 0.6), -1.3, 1.3))  # px; the blurred edge falls by 0.27 a pixel
    drawn = cv2.GaussianBlur(soft, (0, 0), 1.2) > 0.5 - 0.27 * outward
    if rng.random() < 0.5:
        tolerance, filled = float(rng.uniform(0.4, 1.6)), np.zeros(mask.shape, np.uint8)
        cv2.fillPoly(filled, [cv2.approxPolyDP(contour, tolerance, True) for contour in contours_of(drawn)], 1)
        drawn = filled > 0
    return drawn


def _visible(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [mask for mask in masks if np.count_nonzero(mask) >= _LEAST_VISIBLE]


def draw_scene(sources: Sources, rng: np.random.Generator, height: int, width: int) -> Scene:
    """One scene; it may have no mask."""
    background = _part(sources, rng, height, width)
    masks = region_masks(background, rng, int(rng.integers(2, 6))) if rng.random() < 0.75 else []
    image = background.astype(np.float32)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 3)))
    for _ in range(rng.integers(1, 6)):
        mask = _paste(image, sources, rng)
        if mask is not None:
            masks = [other & ~mask for other in masks] + [mask]
    return Scene(_photographed(image, rng), _visible([annotated(mask, rng) for mask in _visible(masks)]))
