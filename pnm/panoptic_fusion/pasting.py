"""Masks that a network gives for boxes, at the pixels of the image, each within its own window.

A mask is interpolated bilinearly at pixel centres, outside of it lies 0. Along each axis the places and weights are
worked out once for a mask: a row of the mask is widened to the window's columns once, and a row of the window is
weighed of two widened ones. An example, a mask of 2 x 2 in a box of 4 x 1 pixels::

    >>> probs = np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32)
    >>> boxes = np.array([[1, 0, 5, 1]], np.float32)
    >>> _windows(boxes, 2, 1, 9).tolist()                 # top, left, bottom, right: half a cell more than the box
    [[0, 0, 1, 6]]
    >>> cells, weights = _places(0, 6, np.float32(1), np.float32(5), 2)
    >>> cells.tolist(), weights.tolist()                  # mask column to the left, counted from 0 = padding, and share
    ([0, 0, 1, 1, 2, 2], [0.25, 0.75, 0.25, 0.75, 0.25, 0.75])
    >>> paste_in_boxes(probs, boxes, (1, 9))[0].pixels.astype(int).tolist()  # of 0, 0, 0.25, 0.75, 0.75, 0.25
    [[0, 0, 0, 1, 1, 0]]
"""

import math

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, fusing_kernel, kernel
from pnm.masks.crops import EMPTY, MaskCrop


@kernel
def _window(low: float, high: float, side: int, size: int) -> tuple[int, int]:
    """First pixel and the one behind the last along an axis of ``size`` that a mask of ``side`` cells can reach.

    That is half a cell beyond the box, and no more than the pixel after the one that the box ends in.
    """
    if not (-np.inf < low < high < np.inf):
        return 0, 0
    beyond = (high - low) / (2 * side)
    first = max(math.floor(low - beyond + 0.5), math.floor(low) - 1, 0.0)
    last = min(math.ceil(high + beyond - 0.5), math.ceil(high) + 1, float(size))
    return (int(first), int(last)) if first < last else (0, 0)


@entry_kernel
def _find_windows(boxes_xyxy: np.ndarray, side: int, height: int, width: int, windows: np.ndarray) -> None:
    """Fills ``windows``, which is all 0, see :func:`_windows`."""
    for n in range(boxes_xyxy.shape[0]):
        x0, y0, x1, y1 = boxes_xyxy[n]
        top, bottom = _window(float(y0), float(y1), side, height)
        left, right = _window(float(x0), float(x1), side, width)
        if top < bottom and left < right:
            windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3] = top, left, bottom, right


def _windows(boxes_xyxy: np.ndarray, side: int, height: int, width: int) -> np.ndarray:
    """(N, 4) int64 (top, left, bottom, right); all 0 if nothing of a box lies in the image."""
    windows = np.zeros((len(boxes_xyxy), 4), np.int64)
    _find_windows(boxes_xyxy, side, height, width, windows)
    return windows


@kernel
def _places(first: int, last: int, low: float, high: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Of pixels ``first`` to ``last`` - 1: the padded mask's cell before the centre, and the weight of the one after.

    Cells 0 and ``side`` + 1 are padding, so every pixel has two; beyond them the padding's weight is 1.
    """
    cells, weights = np.empty(last - first, np.int64), np.empty(last - first, np.float32)
    two, one, half = np.float32(2), np.float32(1), np.float32(0.5)
    for n in range(last - first):
        # In float32 and in the order of grid_sample, so that both see the same place.
        along = (np.float32(first + n) + half - low) / (high - low) * two - one
        place = ((along + one) * np.float32(side) - one) * half
        place = min(max(place, np.float32(-1)), np.float32(side))
        cell = min(int(math.floor(place)), side - 1)
        cells[n], weights[n] = cell + 1, place - np.float32(cell)
    return cells, weights


@fusing_kernel
def _widen(padded: np.ndarray, columns: np.ndarray, weights: np.ndarray, wide: np.ndarray) -> None:
    """Writes a row of the padded mask at the window's columns to ``wide``."""
    for x in range(columns.size):
        left = padded[columns[x]]
        wide[x] = left + (padded[columns[x] + 1] - left) * weights[x]


@fusing_kernel
def _threshold_row(above: np.ndarray, below: np.ndarray, weight: float, threshold: float, out: np.ndarray) -> None:
    for x in range(out.size):
        out[x] = above[x] + (below[x] - above[x]) * weight >= threshold


@entry_kernel
def _paste_all(
    mask_probs: np.ndarray,
    boxes_xyxy: np.ndarray,
    windows: np.ndarray,
    offsets: np.ndarray,
    threshold: float,
    out: np.ndarray,
) -> None:
    """Writes the window of each mask, row by row, to ``out`` from its offset on."""
    side, least = mask_probs.shape[1], np.float32(threshold)
    padded = np.zeros(side + 2, np.float32)
    widest = 0
    for n in range(windows.shape[0]):
        widest = max(widest, windows[n, 3] - windows[n, 1])
    wide = np.empty((2, widest), np.float32)
    for n in range(windows.shape[0]):
        top, left, bottom, right = windows[n]
        columns, column_weights = _places(left, right, boxes_xyxy[n, 0], boxes_xyxy[n, 2], side)
        rows, row_weights = _places(top, bottom, boxes_xyxy[n, 1], boxes_xyxy[n, 3], side)
        width, at = right - left, offsets[n]
        widened = -2  # the padded mask's row that wide[widened % 2] holds; the one after it is there, too
        for y in range(bottom - top):
            if rows[y] != widened:
                for row in range(rows[y] if widened + 1 < rows[y] else rows[y] + 1, rows[y] + 2):
                    if 1 <= row <= side:
                        padded[1 : side + 1] = mask_probs[n, row - 1]
                    else:
                        padded[1 : side + 1] = 0
                    _widen(padded, columns, column_weights, wide[row % 2, :width])
                widened = rows[y]
            above, below = wide[widened % 2, :width], wide[(widened + 1) % 2, :width]
            _threshold_row(above, below, row_weights[y], least, out[at : at + width])
            at += width


def paste_in_boxes(
    mask_probs: np.ndarray, boxes_xyxy: np.ndarray, size: tuple[int, int], threshold: float = 0.5
) -> list[MaskCrop]:
    """Foreground of each mask in the image, as Detectron2's ``paste_masks_in_image`` finds it.

    Args:
        mask_probs: (N, M, M) float32.
        boxes_xyxy: (N, 4) float32, pixels of the image; a box may lie over its frame.
        size: (H, W) of the image.
        threshold: above 0; a pixel whose probability is at least this is foreground.

    Returns:
        N crops, each the part of its window that lies in the image; they aren't trimmed and share one buffer. A box
        that is no box (no area, NaN) or lies outside has an empty one.

    Raises:
        UserError: shapes don't fit, or the threshold isn't above 0 (all the image would be foreground).
    """
    shape, count = mask_probs.shape, len(mask_probs)
    if len(shape) != 3 or shape[1] != shape[2] or not shape[1] or boxes_xyxy.shape != (count, 4):
        raise UserError(f"masks are {shape} and boxes {boxes_xyxy.shape}, expected (N, M, M) and (N, 4)")
    if not threshold > 0:
        raise UserError(f"threshold is {threshold}, expected more than 0")
    probs, boxes = (np.ascontiguousarray(part, np.float32) for part in (mask_probs, boxes_xyxy))
    windows = _windows(boxes, shape[1], *size)
    extents = windows[:, 2:] - windows[:, :2]
    ends = np.cumsum(extents[:, 0] * extents[:, 1])
    pixels = np.empty(int(ends[-1]) if count else 0, np.bool_)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if count else ends
    _paste_all(probs, boxes, windows, starts, float(threshold), pixels)
    return [
        MaskCrop(pixels[start:end].reshape(bottom - top, right - left), top, left) if start < end else EMPTY
        for start, end, (top, left, bottom, right) in zip(starts.tolist(), ends.tolist(), windows.tolist())
    ]
