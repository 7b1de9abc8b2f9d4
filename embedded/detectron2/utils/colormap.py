"""Distinct colours for drawing."""

# ruff: noqa: NPY002 - the global generator is the interface: a seed set for Detectron2 must give the same numbers.

import colorsys

import numpy as np

__all__ = ["colormap"]

_COUNT = 79
_GOLDEN_RATIO = 0.61803398875


def _make_colors() -> np.ndarray:
    """(N, 3) float32 RGB in 0–1: hues a golden angle apart, so that neighbours in the list differ most."""
    tones = ((0.85, 0.95), (0.60, 1.00), (0.95, 0.72), (0.45, 0.88))
    rows = [colorsys.hsv_to_rgb(0.57 + i * _GOLDEN_RATIO, *tones[i // 3 % len(tones)]) for i in range(_COUNT)]
    return np.array(rows, dtype=np.float32)


_COLORS = _make_colors()


def _in_order(colors: np.ndarray, rgb: bool, maximum: int) -> np.ndarray:
    if maximum not in (1, 255):
        raise ValueError(f"maximum is 255 or 1, got {maximum}")
    return (colors if rgb else colors[..., ::-1]) * maximum


def colormap(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """All colours, (N, 3) float32, as BGR (or RGB) in [0, maximum]."""
    return _in_order(_COLORS, rgb, maximum)
