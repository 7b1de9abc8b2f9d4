"""A panoptic map as the fields that PRN takes and predicts (section 3.2): centres, offsets, boxes.

Coordinates are (y, x) pixels of the map. An instance's centre is the mean of its pixels; its peak in the heat map sits
at the pixel floor(centre + 1/2).

An example, a row of five pixels, the middle three an instance::

    >>> fields = instance_fields(np.array([[0, 1, 1, 1, 0]], np.int32), 1, sigma_px=1.0)
    >>> (100 * fields.heat).astype(int).tolist()          # exp(-d^2 / 2) of the distance d to the peak, 1 at the centre
    [[13, 60, 100, 60, 13]]
    >>> fields.offsets[1].tolist()                        # dx, to the centre
    [[0.0, 1.0, 0.0, -1.0, 0.0]]
    >>> fields.boxes[2:].astype(int).tolist()             # to the left and right side of its box
    [[[0, 0, 1, 2, 0]], [[0, 2, 1, 0, 0]]]
"""

from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel

_CUT = 3  # sigmas at which a Gaussian ends


class InstanceFields(NamedTuple):
    """What is said of instances at each pixel.

    Attributes:
        heat: (H, W) float32, Gaussians of peak 1 at the centres, the highest where they overlap.
        offsets: (2, H, W) float32, (dy, dx) from the pixel to the centre of its instance, px; 0 outside of instances.
        boxes: (4, H, W) float32, distances >= 0 to the first and last row and the first and last column of its
            instance (top, bottom, left, right), px; 0 outside.
    """

    heat: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray

    def stacked(self) -> np.ndarray:
        """(7, H, W) float32: heat, offsets, boxes."""
        return np.concatenate([self.heat[None], self.offsets, self.boxes])


@entry_kernel
def _extents(numbers: np.ndarray, sums: np.ndarray, boxes: np.ndarray) -> None:
    """Adds (pixels, y, x) to ``sums`` (N + 1, 3) and widens ``boxes`` (N + 1, 4), (top, bottom, left, right)."""
    height, width = numbers.shape
    for y in range(height):
        for x in range(width):
            n = numbers[y, x]
            if n > 0:
                sums[n, 0] += 1
                sums[n, 1] += y
                sums[n, 2] += x
                boxes[n, 0] = min(boxes[n, 0], y)
                boxes[n, 1] = max(boxes[n, 1], y)
                boxes[n, 2] = min(boxes[n, 2], x)
                boxes[n, 3] = max(boxes[n, 3], x)


@entry_kernel
def _point(
    numbers: np.ndarray, centers: np.ndarray, extents: np.ndarray, offsets: np.ndarray, boxes: np.ndarray
) -> None:
    """Writes offsets and box sides of the pixels of instances."""
    height, width = numbers.shape
    for y in range(height):
        for x in range(width):
            n = numbers[y, x]
            if n > 0:
                offsets[0, y, x] = centers[n, 0] - y
                offsets[1, y, x] = centers[n, 1] - x
                boxes[0, y, x] = y - extents[n, 0]
                boxes[1, y, x] = extents[n, 1] - y
                boxes[2, y, x] = x - extents[n, 2]
                boxes[3, y, x] = extents[n, 3] - x


@entry_kernel
def _draw_peaks(peaks: np.ndarray, sigma: float, heat: np.ndarray) -> None:
    height, width = heat.shape
    reach = int(min(np.ceil(_CUT * sigma), height + width))
    profile = np.exp(-(np.arange(reach + 1) ** 2) / (2 * sigma * sigma))
    for k in range(peaks.shape[0]):
        py, px = peaks[k, 0], peaks[k, 1]
        for y in range(max(0, py - reach), min(height, py + reach + 1)):
            for x in range(max(0, px - reach), min(width, px + reach + 1)):
                value = np.float32(profile[abs(y - py)] * profile[abs(x - px)])
                if value > heat[y, x]:
                    heat[y, x] = value


def instance_fields(numbers: np.ndarray, count: int, sigma_px: float = 8.0) -> InstanceFields:
    """Fields of instances, in a pass over the pixels whatever the number of instances.

    Args:
        numbers: (H, W) integers, instances 1 to ``count``; 0 is none's. A number may have no pixel.
        sigma_px: of the Gaussians (Panoptic-DeepLab's 8 is for images of 640 px).

    Raises:
        UserError: numbers that are no (H, W) integers from 0 to ``count``, or a sigma that isn't positive.
    """
    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise UserError(f"numbers of instances are {numbers.shape} {numbers.dtype}, expected (H, W) integers")
    if count < 0 or numbers.min(initial=0) < 0 or numbers.max(initial=0) > count:
        raise UserError(
            f"numbers of instances go from {numbers.min()} to {numbers.max()}, expected 0 to count, {count}"
        )
    if not 0 < sigma_px < np.inf:
        raise UserError(f"sigma is {sigma_px} px, expected a positive number")
    numbers = np.ascontiguousarray(numbers, np.int32)
    height, width = numbers.shape
    sums = np.zeros((count + 1, 3), np.int64)
    extents = np.tile(np.array([height, -1, width, -1], np.int64), (count + 1, 1))
    _extents(numbers, sums, extents)
    centers = sums[:, 1:] / np.maximum(sums[:, :1], 1)
    present = sums[:, 0] > 0
    fields = InstanceFields(
        np.zeros((height, width), np.float32),
        np.zeros((2, height, width), np.float32),
        np.zeros((4, height, width), np.float32),
    )
    _point(numbers, centers, extents, fields.offsets, fields.boxes)
    _draw_peaks(np.floor(centers[present] + 0.5).astype(np.int64), float(sigma_px), fields.heat)
    return fields
