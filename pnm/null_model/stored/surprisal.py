"""Surprisal: the form in which weight maps keep the null model, s = -ln PNM in steps of 1 / 5200 nat.

Each of the three weights is a function of s, and a step of s changes each by less than 1e-4 of itself: 1 + s (Eq. 3),
2 - exp(-s) (Eq. 4) and exp(s) (Eq. 5 of Zhang et al., "PNM: Pixel Null Model for General Image Segmentation").
"""

import math
from functools import lru_cache

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel
from pnm.null_model.null_model import check_locality
from pnm.null_model.pixel_weights import check_transform, pixel_weights

SURPRISAL_SCALE = 5200.0  # steps a nat
IGNORED = 65535  # weight 0, whatever the transform
_LARGEST = IGNORED - 1
# The least null model is 1 / d**2: a pixel alone in its window.
MAX_LOCALITY = (math.floor(math.exp(_LARGEST / SURPRISAL_SCALE / 2)) - 1) // 2 * 2 + 1


def check_map_locality(locality: int, border: str) -> None:
    """A UserError unless a weight map can hold the null model of this locality: odd, 1 to 545 px."""
    if check_locality(locality, border) > MAX_LOCALITY:
        raise UserError(
            f"locality is {locality}, but weight maps hold localities up to {MAX_LOCALITY}; choose a smaller one, "
            "or PNM.SOURCE online"
        )


@entry_kernel
def _encode(pnm: np.ndarray, ignored: np.ndarray, scale: float, out: np.ndarray) -> bool:
    """Writes surprisals to ``out``; whether all fit."""
    fits = True
    for i in range(pnm.size):
        if ignored[i]:
            out[i] = IGNORED
        elif pnm[i] == 1:
            out[i] = 0
        else:
            value = np.rint(-math.log(np.float64(pnm[i])) * scale)
            fits &= 0 <= value <= _LARGEST
            out[i] = np.uint16(value) if 0 <= value <= _LARGEST else 0
    return fits


def encode_surprisal(pnm: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """The null model as (H, W) uint16: rint(-ln PNM * 5200), and 65535 where ``ignored``.

    Args:
        pnm: (H, W) float32 in (0, 1], as :func:`pnm.null_model.null_model.pixel_null_model` gives it.
        ignored: (H, W) bool, pixels of weight 0.

    Raises:
        UserError: values outside [exp(-65534 / 5200), 1], not a number among them; another type or shape.
    """
    if pnm.ndim != 2 or pnm.dtype != np.float32 or ignored.dtype != bool or ignored.shape != pnm.shape:
        raise UserError(
            f"the null model is {pnm.shape} {pnm.dtype} and ignored {ignored.shape} {ignored.dtype}, expected (H, W) "
            "float32 and bool"
        )
    out = np.empty(pnm.shape, np.uint16)
    flat = np.ascontiguousarray(pnm).reshape(-1), np.ascontiguousarray(ignored).reshape(-1)
    if not _encode(*flat, SURPRISAL_SCALE, out.reshape(-1)):
        raise UserError(
            f"the null model must lie in ({math.exp(-_LARGEST / SURPRISAL_SCALE):.2g}, 1] to be kept in a weight map: "
            f"use localities up to {MAX_LOCALITY}"
        )
    return out


@lru_cache(maxsize=8)
def weight_table(transform: str = "log") -> np.ndarray:
    """Weight of each encoded surprisal, (65536,) float32, read-only; 0 for ignored pixels, exactly 1 for PNM = 1."""
    check_transform(transform)
    table = pixel_weights(np.exp(np.arange(65536) / -SURPRISAL_SCALE), transform).astype(np.float32)
    table[IGNORED] = 0
    table.flags.writeable = False
    return table


def weights_of_surprisal(encoded: np.ndarray, transform: str = "log") -> np.ndarray:
    """Pixel weights of a weight map.

    Args:
        encoded: uint16 of any shape, as :func:`encode_surprisal` gives it.
        transform: "log", "linear" or "inverse", as :func:`pnm.null_model.pixel_weights.pixel_weights` takes it.

    Returns:
        float32 of the same shape: within 1e-4 of the exact weights, relative; 0 on ignored pixels.

    Raises:
        UserError: another type than uint16, or an unknown transform.
    """
    if encoded.dtype != np.uint16:
        raise UserError(f"the weight map is {encoded.dtype}, expected uint16: what encode_surprisal gives")
    return np.take(weight_table(transform), encoded)
