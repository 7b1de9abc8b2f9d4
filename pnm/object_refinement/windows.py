"""Windows of an image at any scale: what the network sees, and its maps brought back to the image's pixels.

The centre of an image's pixel p lies at (p + 0.5 - first) * scale - 0.5 in a window that begins at pixel ``first``.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from pnm.masks.crops import MaskCrop
from pnm.object_refinement.network import STRIDE

# Below this scale images are blurred first, by this deviation in the window's pixels, so that nothing aliases.
_BLUR_BELOW, _BLUR = 0.7, 0.45
_EXACT = 1e-6  # pixels that products of a side and a scale may be off


class Window(NamedTuple):
    """A rectangle of an image in its pixels, and how many of the network's pixels one of them becomes, to a side."""

    top: int
    left: int
    height: int
    width: int
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the network sees: multiples of its stride, the rectangle at their start."""
        return tuple(
            -(-int(np.ceil(side * self.scale - _EXACT)) // STRIDE) * STRIDE for side in (self.height, self.width)
        )  # type: ignore[return-value]


class Seen(NamedTuple):
    """What the network sees of a window, sizes being ``Window.size``.

    Attributes:
        colors: (h, w, 3) uint8; outside of the image the nearest pixel's.
        coarse: (h, w) bool.
        inside: (h, w) bool, what lies in the image.
    """

    colors: np.ndarray
    coarse: np.ndarray
    inside: np.ndarray


def mask_pixels(crop: MaskCrop, top: int, left: int, height: int, width: int) -> np.ndarray:
    """(height, width) bool: a rectangle of a mask, which may reach beyond it."""
    out = np.zeros((height, width), np.bool_)
    h, w = crop.pixels.shape
    y0, x0 = max(top, crop.top), max(left, crop.left)
    y1, x1 = min(top + height, crop.top + h), min(left + width, crop.left + w)
    if y0 < y1 and x0 < x1:
        part = crop.pixels[y0 - crop.top : y1 - crop.top, x0 - crop.left : x1 - crop.left]
        out[y0 - top : y1 - top, x0 - left : x1 - left] = part
    return out


def cut(image: np.ndarray, crop: MaskCrop, window: Window) -> Seen:
    """Image and coarse mask in a window, resized.

    Args:
        image: (H, W, 3) uint8, or anything of that shape that gives arrays when it is sliced.
        crop: the coarse mask.
    """
    top, left, bottom, right = _needed(window, *image.shape[:2])
    colors: np.ndarray = np.ascontiguousarray(image[top:bottom, left:right])
    inside = _resized(np.ones(colors.shape[:2], np.uint8), top, left, window, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    return Seen(
        _resized(_blurred(colors, window.scale), top, left, window, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE),
        cut_mask(crop, window, *image.shape[:2]),
        inside > 0,
    )


def cut_mask(crop: MaskCrop, window: Window, height: int, width: int) -> np.ndarray:
    """(h, w) bool: a mask of an image of height x width in a window, resized; outside of the image the nearest
    pixel's."""
    top, left, bottom, right = _needed(window, height, width)
    pixels = mask_pixels(crop, top, left, bottom - top, right - left).astype(np.float32)
    return _resized(_blurred(pixels, window.scale), top, left, window, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE) > 0.5


def _needed(window: Window, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right: what of an image of height x width a window depends on."""
    rows, columns = window.size
    reach = int(np.ceil(2 / window.scale)) + 2  # beyond the window, for blurring and interpolation
    bottom, right = (
        first + int(np.ceil(side / window.scale)) + reach
        for first, side in ((window.top, rows), (window.left, columns))
    )
    return max(0, window.top - reach), max(0, window.left - reach), min(height, bottom), min(width, right)


def _blurred(part: np.ndarray, scale: float) -> np.ndarray:
    return cv2.GaussianBlur(part, (0, 0), _BLUR / scale) if scale < _BLUR_BELOW else part


def _resized(part: np.ndarray, top: int, left: int, window: Window, how: int, border: int) -> np.ndarray:
    """A part of the image that begins at (top, left), as the network sees it."""
    scale, (rows, columns) = window.scale, window.size
    shifts = [(first - origin) * scale + (scale - 1) / 2 for origin, first in ((window.left, left), (window.top, top))]
    matrix = np.array([[scale, 0, shifts[0]], [0, scale, shifts[1]]], np.float64)
    return cv2.warpAffine(part, matrix, (columns, rows), flags=how, borderMode=border)


def brought_back(maps: np.ndarray, window: Window) -> np.ndarray:
    """(2, height, width) float32: maps (2, h / 2, w / 2) of a window in the image's pixels, bilinear."""
    scale = window.scale / 2
    matrix = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (window.width, window.height)
    return np.stack([cv2.warpAffine(one, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for one in maps])


def _places(first: int, end: int, side: int, overlap: int) -> Iterator[int]:
    """Where windows of a side begin that cover first to end, evenly, overlapping by ``overlap`` at least."""
    length = end - first
    if length <= side:
        yield first
        return
    number = -(-(length - overlap) // (side - overlap))
    for k in range(number):
        yield first + round(k * (length - side) / (number - 1))


def windows_of(box: tuple[int, int, int, int], scale: float, side: int, overlap: int) -> list[Window]:
    """Windows that cover a rectangle (top, left, bottom, right) at a scale.

    Args:
        side: of a window at most, as the network sees it.
        overlap: of neighbours, as the network sees it.
    """
    top, left, bottom, right = box
    most, shared = max(1, int(side / scale)), int(np.ceil(overlap / scale))
    height, width = min(bottom - top, most), min(right - left, most)
    return [
        Window(y, x, height, width, scale)
        for y in _places(top, bottom, height, shared)
        for x in _places(left, right, width, shared)
    ]
