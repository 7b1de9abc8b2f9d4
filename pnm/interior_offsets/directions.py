"""Directions in m bins: vectors to bins, and bins to steps of pixels.

Bin k points to the angle -180 + 360 k / m degrees, y down: with m = 8, bin 0 is left, 2 up, 4 right and 6 down. Bin 0
wraps. A vector goes to the bin of the nearest angle. Vectors are folded into the first octant before they are compared,
so that a flip or a transposition of a vector moves its bin exactly, whatever rounding says. Therefore m is a multiple
of 8.
"""

import numpy as np

from pnm.errors import UserError
from pnm.kernels import kernel

NO_DIRECTION = 255  # bin of a pixel that has none


def check_bins(bins: int) -> None:
    """A UserError unless directions can have this number of bins."""
    if bins not in range(8, 129, 8):
        raise UserError(f"directions have {bins} bins, expected a multiple of 8, at most 128")


def bin_borders(bins: int) -> np.ndarray:
    """Tangents of the angles in the first octant at which a bin ends."""
    check_bins(bins)
    return np.tan((np.arange(bins // 8) + 0.5) * 2 * np.pi / bins)


@kernel
def bin_of(y: float, x: float, borders: np.ndarray) -> int:
    """The bin of a vector that isn't (0, 0); on a border, the one nearer to the diagonal."""
    steep, flat = abs(y), abs(x)
    long, short = max(steep, flat), min(steep, flat)
    octant, k = borders.size, 0
    while k < octant and short >= borders[k] * long:
        k += 1
    if steep > flat:  # k bins from the vertical
        k = 2 * octant - k
    # k bins from the horizontal axis: right and down is 0 to 2 octants, the others are its reflections
    if x < 0:
        k = 4 * octant - k
    if y < 0:
        k = 8 * octant - k
    return (k + 4 * octant) % (8 * octant)


def bin_steps(bins: int, scale: float = 1.0) -> np.ndarray:
    """(m, 2) int64, rows and columns that each bin's step goes; the longer of both is ``scale``, in whole pixels."""
    check_bins(bins)
    angles = (np.arange(bins) / bins - 0.5) * 2 * np.pi
    yx = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    steps = scale * yx / np.abs(yx).max(axis=1, keepdims=True)
    return np.where(np.abs(steps) < 1e-9, 0, np.sign(steps) * np.floor(np.abs(steps) + 0.5 + 1e-9)).astype(np.int64)


def turned_bins(bins: int, turn: str) -> np.ndarray:
    """(m,) what each bin becomes when an image is turned.

    Args:
        turn: "horizontal" (left to right), "vertical" (upside down) or "transposed".

    Raises:
        UserError: another turn.
    """
    check_bins(bins)
    k = np.arange(bins)
    turns = {"horizontal": bins // 2 - k, "vertical": -k, "transposed": bins // 4 - k}
    if turn not in turns:
        raise UserError(f"turn is {turn!r}, expected one of {', '.join(turns)}")
    return turns[turn] % bins
