"""A mask of any size refined tile by tile, so that no seam is seen: what a pixel becomes depends on its surroundings,
not on the tiles.

The mask's connected parts are told apart. One of at most ``Tiling.whole`` pixels to a side is refined as an object, as
it would be in a whole image, by each tile that it may reach. What is larger is refined by windows that stand on a grid
of the image: passes at two scales, the second from what the first made.

How far a tile's result reaches into the mask, on each side::

    core | windows of the second pass | of the first pass, whose result these see | whole: is a part small or large?
"""

from typing import NamedTuple, Protocol

import cv2
import numpy as np

from pnm.masks.crops import MaskCrop
from pnm.object_refinement.decision import Decision
from pnm.object_refinement.refining import Box, Predict, RefinedMask, object_box, pass_logits
from pnm.object_refinement.windows import mask_pixels

_SIDE, _OVERLAP = 256, 64  # of windows on the grid, as the network sees them
_SCALES = (1 / 4, 1.0)
_REACH_PX = 16  # of blurring and interpolation beyond a window, at the coarser scale


class Tiling(NamedTuple):
    """Sides in pixels.

    Attributes:
        core: of what a tile writes.
        whole: of a part of the mask at most that is refined as one object.
    """

    core: int = 2048
    whole: int = 512


class ObjectRefiner(Protocol):
    """See :class:`pnm.object_refinement.refiner.Refiner`."""

    predict: Predict
    decision: Decision

    def refine_objects(self, image: np.ndarray, crops: list[MaskCrop]) -> list[RefinedMask]: ...


class MaskWindows(Protocol):
    """A mask of which rectangles are read."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """(h, w) bool."""


def refined_core(refiner: ObjectRefiner, image: np.ndarray, mask: MaskWindows, core: Box, tiling: Tiling) -> np.ndarray:
    """(h, w) bool: the refined mask in a rectangle of the image.

    Args:
        image: (H, W, 3) uint8 RGB, or anything of that shape that gives arrays when it is sliced.
    """
    rectangles = _rectangles(core, mask.shape)
    seen = _clipped(_grown(rectangles[0], _REACH_PX + tiling.whole), mask.shape)
    pixels = mask.read(*seen)
    result = np.zeros((core[2] - core[0], core[3] - core[1]), np.bool_)
    if not pixels.any():
        return result
    small, large = _parts(pixels, seen, mask.shape, core, tiling.whole)
    for one in refiner.refine_objects(image, small):
        _add(result, core, one.crop)
    if large.any():
        _add(result, core, _refined_on_grid(refiner, image, MaskCrop(large, seen[0], seen[1]), rectangles))
    return result


def _parts(
    pixels: np.ndarray, seen: Box, size: tuple[int, int], core: Box, whole: int
) -> tuple[list[MaskCrop], np.ndarray]:
    """Small parts that may reach the core, and (h, w) bool of all that is large, or whose size isn't seen."""
    number, labels, stats, _ = cv2.connectedComponentsWithStats(pixels.view(np.uint8), connectivity=8)
    left, top, width, height = (stats[:, k] for k in range(4))
    rows, columns = pixels.shape
    is_cut = (top == 0) & (seen[0] > 0) | (top + height == rows) & (seen[2] < size[0])
    is_cut |= (left == 0) & (seen[1] > 0) | (left + width == columns) & (seen[3] < size[1])
    is_large = is_cut | (height > whole) | (width > whole)
    is_large[0] = False
    crops = []
    for n in np.flatnonzero(~is_large)[1:].tolist():
        y, x = int(top[n]), int(left[n])
        crop = MaskCrop(labels[y : y + height[n], x : x + width[n]] == n, y + seen[0], x + seen[1])
        if _meets(object_box(crop, *size), core):
            crops.append(crop)
    return crops, is_large[labels]


def _refined_on_grid(refiner: ObjectRefiner, image: np.ndarray, crop: MaskCrop, rectangles: list[Box]) -> MaskCrop:
    margin = refiner.decision.margin
    for rectangle, scale in zip(rectangles, _SCALES):
        crop = _beyond_the_frame(crop, rectangle, image.shape[:2])
        logits = pass_logits(refiner.predict, image, crop, rectangle, scale)
        crop = crop._replace(pixels=np.where(crop.pixels, logits > -margin, logits > margin))
    return crop


def _beyond_the_frame(crop: MaskCrop, box: Box, size: tuple[int, ...]) -> MaskCrop:
    """A mask in a rectangle that may reach out of the image, where pixels are as the nearest in it: no boundary is seen
    at the image's frame."""
    inner = _clipped(box, (size[0], size[1]))
    around = (inner[0] - box[0], box[2] - inner[2]), (inner[1] - box[1], box[3] - inner[3])
    return MaskCrop(np.pad(_pixels(crop, inner), around, mode="edge"), box[0], box[1])


def _rectangles(core: Box, size: tuple[int, int]) -> list[Box]:
    """Of each pass, coarse to fine: all windows of its grid that the next pass, or the core, depends on."""
    rectangles: list[Box] = []
    needed = core
    for scale in reversed(_SCALES):
        rectangles.insert(0, _on_grid(needed, scale))
        needed = _clipped(_grown(rectangles[0], _REACH_PX), size)
    return rectangles


def _on_grid(needed: Box, scale: float) -> Box:
    """The rectangle of all windows that touch another one."""
    side, step = round(_SIDE / scale), round((_SIDE - _OVERLAP) / scale)
    top, left = ((first - side) // step * step + step for first in needed[:2])
    bottom, right = ((end - 1) // step * step + side for end in needed[2:])
    return top, left, bottom, right


def _grown(box: Box, by: int) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    return max(0, box[0]), max(0, box[1]), min(size[0], box[2]), min(size[1], box[3])


def _meets(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _pixels(crop: MaskCrop, box: Box) -> np.ndarray:
    return mask_pixels(crop, box[0], box[1], box[2] - box[0], box[3] - box[1])


def _add(result: np.ndarray, core: Box, crop: MaskCrop) -> None:
    """Joins a mask of the image to that of the core."""
    top, left = max(core[0], crop.top), max(core[1], crop.left)
    bottom = min(core[2], crop.top + crop.pixels.shape[0])
    right = min(core[3], crop.left + crop.pixels.shape[1])
    if top < bottom and left < right:
        part = crop.pixels[top - crop.top : bottom - crop.top, left - crop.left : right - crop.left]
        result[top - core[0] : bottom - core[0], left - core[1] : right - core[1]] |= part
