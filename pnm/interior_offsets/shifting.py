"""Labels moved outwards: each boundary pixel takes the label of a pixel further inside.

Where a pixel looks is worked out once for an image (:func:`shift_of`), and serves every prediction of it. A label is
gathered, never interpolated; steps that lead out of the image end at its frame.

An example, an edge that is off by one: two boundary pixels (the others have 255) look to the right, bin 4 of 8, until
they are in the interior::

    >>> shift = shift_of(np.array([[255, 4, 4, 255]], np.uint8), 8, steps=8)
    >>> shift.sources.tolist()
    [3, 3]
    >>> shifted_labels(np.array([[1, 1, 2, 2]]), shift, [1, 2]).tolist()
    [[1, 2, 2, 2]]
"""

from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION, bin_steps
from pnm.kernels import entry_kernel, kernel
from pnm.masks.crops import EMPTY, MaskCrop, crop_array

MOST_STEPS, MOST_SCALE = 255, 64  # directions may lead in a circle


class Shift(NamedTuple):
    """Which pixels take whose label.

    Attributes:
        size: (height, width) of the image.
        pixels: (N,) int32, places in the flattened image, ascending.
        sources: (N,) int32, the place whose label each of them takes.
        reach_px: how far a source is from its pixel at most, in rows and in columns.
    """

    size: tuple[int, int]
    pixels: np.ndarray
    sources: np.ndarray
    reach_px: int

    def check_size(self, size: tuple[int, ...]) -> None:
        """A UserError unless a prediction of this (height, width) is of the same image."""
        if size != self.size:
            raise UserError(
                f"the prediction is {' x '.join(map(str, size))}, the offsets are {self.size[0]} x {self.size[1]}: "
                "both must be of the same image, in its own size"
            )


@entry_kernel
def _walk(directions: np.ndarray, steps: np.ndarray, most: int, pixels: np.ndarray, sources: np.ndarray) -> int:
    """Fills the places of boundary pixels and where they end; returns how many there are."""
    height, width = directions.shape
    count = 0
    for y in range(height):
        for x in range(width):
            if directions[y, x] == NO_DIRECTION:
                continue
            row, column, left = y, x, most
            while left > 0 and directions[row, column] != NO_DIRECTION:
                step = steps[directions[row, column]]
                row = min(max(row + step[0], 0), height - 1)
                column = min(max(column + step[1], 0), width - 1)
                left -= 1
            pixels[count], sources[count] = y * width + x, row * width + column
            count += 1
    return count


def check_steps(steps: int, scale: float) -> None:
    """A UserError unless a pixel can go so many steps of so many px."""
    if not (type(steps) is int and 1 <= steps <= MOST_STEPS and 1 <= scale <= MOST_SCALE):
        raise UserError(
            f"steps is {steps} and scale {scale}, expected whole steps from 1 to {MOST_STEPS} of 1 to {MOST_SCALE} px"
        )


def shift_of(directions: np.ndarray, bins: int, *, scale: float = 1.0, steps: int = 1) -> Shift:
    """Where each boundary pixel looks: ``steps`` times the way that its bin, and those of the pixels on that way, say.

    ``scale`` 2 or 1 and one step are the paper's for semantic maps and instances; with more steps a pixel goes on until
    it is no boundary pixel any more.

    Args:
        directions: (H, W) uint8, bins on boundary pixels, 255 elsewhere.
        bins: m.
        scale: length of a step, in px along the longer of rows and columns.
        steps: at most.

    Raises:
        UserError: a bin from m on; see :func:`check_steps`, too.
    """
    if directions.ndim != 2 or directions.dtype != np.uint8:
        raise UserError(f"directions are {directions.shape} {directions.dtype}, expected (H, W) uint8")
    check_steps(steps, scale)
    of_bin = bin_steps(bins, scale)
    on_boundary = directions != NO_DIRECTION
    count = np.count_nonzero(on_boundary)
    if count and directions[on_boundary].max() >= bins:
        raise UserError(f"a direction is bin {directions[on_boundary].max()}, expected 0 to {bins - 1}, or 255")
    pixels, sources = np.empty(count, np.int32), np.empty(count, np.int32)
    _walk(np.ascontiguousarray(directions), of_bin, steps, pixels, sources)
    height, width = directions.shape
    return Shift((height, width), pixels, sources, int(np.abs(of_bin).max()) * steps)


@kernel
def _is_one(label: int, ascending: np.ndarray) -> bool:
    at = np.searchsorted(ascending, label)
    return bool(at < ascending.size and ascending[at] == label)


@entry_kernel
def _move_labels(labels: np.ndarray, pixels: np.ndarray, sources: np.ndarray, segments: Any, out: np.ndarray) -> None:
    for k in range(pixels.size):
        own, other = labels[pixels[k]], labels[sources[k]]
        if own != other and (_is_one(other, segments) or not _is_one(own, segments)):
            out[pixels[k]] = other


def shifted_labels(labels: np.ndarray, shift: Shift, segments: Any) -> np.ndarray:
    """A label map, (H, W) of the same type, after the shift. It is a partition still, without a new hole.

    Args:
        labels: (H, W) integers.
        segments: labels of segments. A segment's pixel takes no other label: that would be a hole.

    Raises:
        UserError: labels of another size than the image that the shift is of.
    """
    shift.check_size(labels.shape)
    flat = np.ascontiguousarray(labels).reshape(-1)
    out = flat.copy()
    _move_labels(flat, shift.pixels, shift.sources, np.unique(np.asarray(segments, np.int64)), out)
    return out.reshape(labels.shape)


@entry_kernel
def _move_mask(
    before: np.ndarray, top: int, left: int, width: int, pixels: np.ndarray, sources: np.ndarray, after: np.ndarray
) -> bool:
    """Moves a mask in a box of the image whose first pixel is (top, left), out of which there is none of it.

    ``after`` is a copy of ``before``; whether they differ then.
    """
    changed = False
    for y in range(before.shape[0]):
        first = (top + y) * width + left
        k = np.searchsorted(pixels, first)
        while k < pixels.size and pixels[k] < first + before.shape[1]:
            row, column = sources[k] // width - top, sources[k] % width - left
            inside = 0 <= row < before.shape[0] and 0 <= column < before.shape[1]
            value = inside and before[row, column]
            x = pixels[k] - first
            changed |= before[y, x] != value
            after[y, x] = value
            k += 1
    return changed


def shifted_mask(crop: MaskCrop, shift: Shift) -> MaskCrop:
    """The mask of one object after the shift; the same crop where nothing changes.

    Raises:
        UserError: a mask that reaches out of the image that the shift is of.
    """
    (height, width), (rows, columns) = shift.size, crop.pixels.shape
    if crop.top < 0 or crop.left < 0 or crop.top + rows > height or crop.left + columns > width:
        raise UserError(f"a mask reaches out of an image of {height} x {width}: offsets must be of the same image")
    if not crop.pixels.size:
        return crop
    y0, x0 = max(crop.top - shift.reach_px, 0), max(crop.left - shift.reach_px, 0)
    y1, x1 = min(crop.top + rows + shift.reach_px, height), min(crop.left + columns + shift.reach_px, width)
    before = np.zeros((y1 - y0, x1 - x0), np.bool_)
    before[crop.top - y0 : crop.top - y0 + rows, crop.left - x0 : crop.left - x0 + columns] = crop.pixels
    after = before.copy()
    if not _move_mask(before, y0, x0, width, shift.pixels, shift.sources, after):
        return crop
    pixels, top, left = crop_array(after)
    return MaskCrop(pixels, top + y0, left + x0) if pixels.size else EMPTY
