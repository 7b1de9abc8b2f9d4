"""Masks as the rectangle that holds their foreground: what is done to a small object costs little in a large image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel
from pnm.masks.runs import MaskRuns, crop_rle_text


class MaskCrop(NamedTuple):
    """A mask that is background outside of ``pixels`` (h, w) bool, whose first pixel is (top, left) of the image.

    An empty mask has ``pixels`` of 0 x 0.
    """

    pixels: np.ndarray
    top: int
    left: int


EMPTY = MaskCrop(np.zeros((0, 0), np.bool_), 0, 0)


def crop_array(mask: Any) -> MaskCrop:
    """Crop of an (H, W) mask, whose pixels other than 0 are foreground."""
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "iub":
        kind = f"{mask.shape} {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise UserError(f"a mask is {kind}, expected an (H, W) array of bool or integers")
    foreground = mask if mask.dtype == np.bool_ else mask != 0
    rows, columns = np.flatnonzero(foreground.any(axis=1)), np.flatnonzero(foreground.any(axis=0))
    if not len(rows):
        return EMPTY
    pixels = foreground[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return MaskCrop(np.ascontiguousarray(pixels), int(rows[0]), int(columns[0]))


def trimmed(crop: MaskCrop) -> MaskCrop:
    """The same mask with no empty row or column along its frame."""
    pixels, top, left = crop_array(crop.pixels)
    return MaskCrop(pixels, crop.top + top, crop.left + left) if pixels.size else EMPTY


@entry_kernel
def _paint(starts: np.ndarray, ends: np.ndarray, height: int, top: int, left: int, pixels: np.ndarray) -> None:
    """Sets the runs, numbered down the columns of an image of ``height``, in ``pixels``."""
    for k in range(starts.size):
        position = starts[k]
        while position < ends[k]:
            x, y = position // height, position % height
            foot = min(ends[k] - position, height - y)
            for step in range(y, y + foot):
                pixels[step - top, x - left] = True
            position += foot


def crop_runs(masks: MaskRuns, n: int) -> MaskCrop:
    """Crop of mask n."""
    top, left, bottom, right = (int(edge) for edge in masks.boxes_yxyx[n])
    pixels = np.zeros((bottom - top, right - left), np.bool_)
    runs = slice(masks.offsets[n], masks.offsets[n + 1])
    _paint(masks.starts[runs], masks.ends[runs], masks.height, top, left, pixels)
    return MaskCrop(pixels, top, left)


@entry_kernel
def _find_extents(
    labels: np.ndarray, order: np.ndarray, sorted_segments: np.ndarray, areas: np.ndarray, boxes: np.ndarray
) -> None:
    """Pixels, and rows of ``boxes`` (top, left, bottom, right), of each segment; other labels are passed over."""
    height, width = labels.shape
    for y in range(height):
        x = 0
        while x < width:
            label, first = labels[y, x], x
            while x < width and labels[y, x] == label:
                x += 1
            at = np.searchsorted(sorted_segments, label)
            if at < sorted_segments.size and sorted_segments[at] == label:
                areas[order[at]] += x - first
                box = boxes[order[at]]
                box[0], box[1] = min(box[0], y), min(box[1], first)
                box[2], box[3] = max(box[2], y + 1), max(box[3], x)


def segment_extents(labels: np.ndarray, segments: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Area in pixels, (N,) int64, and box, (N, 4) int64 (top, left, bottom, right), of labels of an (H, W) map.

    Of a label that does not occur the area is 0, and the box (H, W, 0, 0).
    """
    order = np.argsort(np.asarray(segments, np.int64), kind="stable")
    areas, boxes = np.zeros(len(order), np.int64), np.tile(np.array([*labels.shape, 0, 0], np.int64), (len(order), 1))
    _find_extents(np.ascontiguousarray(labels), order, np.asarray(segments, np.int64)[order], areas, boxes)
    return areas, boxes


def crop_segments(labels: np.ndarray, segments: Sequence[int]) -> list[MaskCrop]:
    """Crops of the given labels of an (H, W) map, in their order; of a label that does not occur an empty one."""
    areas, boxes = segment_extents(labels, segments)
    return [
        MaskCrop(labels[top:bottom, left:right] == segment, top, left) if area else EMPTY
        for segment, area, (top, left, bottom, right) in zip(segments, areas.tolist(), boxes.tolist(), strict=True)
    ]


def crop_rle(crop: MaskCrop, height: int, width: int) -> dict[str, Any]:
    """Compressed COCO RLE, ``counts`` as str, of a crop in an image of height x width."""
    text = crop_rle_text(crop.pixels, crop.top, crop.left, height, width)
    return {"size": [height, width], "counts": text.decode("ascii")}


def paste(crop: MaskCrop, height: int, width: int) -> np.ndarray:
    """(H, W) bool."""
    mask = np.zeros((height, width), np.bool_)
    h, w = crop.pixels.shape
    mask[crop.top : crop.top + h, crop.left : crop.left + w] = crop.pixels
    return mask


def crop_iou(a: MaskCrop, b: MaskCrop) -> float:
    """Intersection over union of two masks of one image; 0 of two empty ones."""
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.pixels.shape[0], b.top + b.pixels.shape[0])
    right = min(a.left + a.pixels.shape[1], b.left + b.pixels.shape[1])
    both = 0
    if top < bottom and left < right:
        of_a, of_b = (c.pixels[top - c.top : bottom - c.top, left - c.left : right - c.left] for c in (a, b))
        both = int(np.count_nonzero(of_a & of_b))
    either = np.count_nonzero(a.pixels) + np.count_nonzero(b.pixels) - both
    return both / either if either else 0.0
