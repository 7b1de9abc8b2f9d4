"""Local regressions of a mask on colours, see :mod:`pnm.object_refinement.local_regression`, by running sums on a CPU:
several times as fast as by torch's convolutions, whatever the radius.

Of a mask and colours that tell nothing: the mask, and for each radius the mean of the mask less the mask itself, none
of the mask's variance explained, and the mean::

    >>> x = np.zeros((2, 8, 4), np.float32)
    >>> x[..., 3] = [1, 1, 1, 1, 1, 1, -1, -1]
    >>> color_evidence(x)[0, :, :4].round(2)
    array([[ 1.  ,  0.  ,  0.  ,  1.  ],
           [ 1.  , -0.5 ,  0.  ,  0.5 ],
           [ 1.  , -0.5 ,  0.  ,  0.5 ],
           [-1.  ,  1.33,  0.  ,  0.33]], dtype=float32)
"""

import cv2
import numpy as np

from pnm.kernels import entry_kernel, kernel
from pnm.object_refinement.local_regression import CHANNELS, LEAST_VARIANCE, NOISE, RADII

_SUMS = 14  # of what is summed up in windows, an even number
_NOISE, _LEAST_VARIANCE = np.float32(NOISE), np.float32(LEAST_VARIANCE)


def color_evidence(x: np.ndarray) -> np.ndarray:
    """What :func:`pnm.object_refinement.local_regression.color_evidence` gives of one image, up to rounding.

    Args:
        x: (H, W, 4) float32.

    Returns:
        (H / 2, W / 2, CHANNELS) float32.
    """
    height, width = x.shape[0] // 2, x.shape[1] // 2
    half = cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA)
    planes = np.empty((CHANNELS, height, width), np.float32)
    colors, planes[0] = np.ascontiguousarray(half[..., :3].transpose(2, 0, 1)), half[..., 3]
    for k, radius in enumerate(RADII):
        _regress(colors, planes[0], radius, planes[1 + 3 * k : 4 + 3 * k])
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


@entry_kernel
def _regress(colors: np.ndarray, mask: np.ndarray, radius: int, out: np.ndarray) -> None:
    height, width = mask.shape
    # Columns of zeros on both sides stand for what lies outside.
    padded = np.zeros((_SUMS, width + 2 * radius + 1), np.float32)
    sums = padded[:, radius + 1 : radius + 1 + width]
    means = np.empty((_SUMS, width), np.float32)
    for y in range(min(radius, height)):
        _add_row(colors, mask, y, np.float32(1), sums)
    for y in range(height):
        if y + radius < height:
            _add_row(colors, mask, y + radius, np.float32(1), sums)
        if y > radius:
            _add_row(colors, mask, y - radius - 1, np.float32(-1), sums)
        rows = min(y + radius, height - 1) - max(y - radius, 0) + 1
        _average(padded, radius, rows, means)
        _solve(colors, mask, y, means, out)


@kernel
def _add_row(colors, mask, y, sign, sums):  # type: ignore[no-untyped-def]
    """Adds a row's colours, mask and their products to the sums of columns."""
    for x in range(mask.shape[1]):
        r, g, b, m = colors[0, y, x], colors[1, y, x], colors[2, y, x], mask[y, x]
        signed_r, signed_g, signed_b, signed_m = sign * r, sign * g, sign * b, sign * m
        sums[0, x] += signed_r
        sums[1, x] += signed_g
        sums[2, x] += signed_b
        sums[3, x] += signed_m
        sums[4, x] += signed_r * m
        sums[5, x] += signed_g * m
        sums[6, x] += signed_b * m
        sums[7, x] += signed_r * r
        sums[8, x] += signed_r * g
        sums[9, x] += signed_r * b
        sums[10, x] += signed_g * g
        sums[11, x] += signed_g * b
        sums[12, x] += signed_b * b
        sums[13, x] += signed_m * m


@kernel
def _average(padded, radius, rows, means):  # type: ignore[no-untyped-def]
    """Means over windows of sums of columns; two chains of additions at a time, as one alone would wait for itself."""
    width, reach = means.shape[1], 2 * radius + 1
    for k in range(0, _SUMS, 2):
        one, two = np.float32(0), np.float32(0)
        for x in range(1, reach):
            one += padded[k, x]
            two += padded[k + 1, x]
        for x in range(width):
            one += padded[k, x + reach] - padded[k, x]
            two += padded[k + 1, x + reach] - padded[k + 1, x]
            columns = min(x + radius, width - 1) - max(x - radius, 0) + 1
            share = np.float32(1) / np.float32(columns * rows)
            means[k, x] = one * share
            means[k + 1, x] = two * share


@kernel
def _solve(colors, mask, y, means, out):  # type: ignore[no-untyped-def]
    """The regressions of a row, by cofactors as in the other module."""
    for x in range(mask.shape[1]):
        mr, mg, mb, mm = means[0, x], means[1, x], means[2, x], means[3, x]
        shared_r, shared_g, shared_b = means[4, x] - mr * mm, means[5, x] - mg * mm, means[6, x] - mb * mm
        rr, rg, rb = means[7, x] - mr * mr + _NOISE, means[8, x] - mr * mg, means[9, x] - mr * mb
        gg, gb, bb = means[10, x] - mg * mg + _NOISE, means[11, x] - mg * mb, means[12, x] - mb * mb + _NOISE
        c_rr, c_rg, c_rb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
        c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
        share = np.float32(1) / (rr * c_rr + rg * c_rg + rb * c_rb)
        slope_r = (c_rr * shared_r + c_rg * shared_g + c_rb * shared_b) * share
        slope_g = (c_rg * shared_r + c_gg * shared_g + c_gb * shared_b) * share
        slope_b = (c_rb * shared_r + c_gb * shared_g + c_bb * shared_b) * share
        regression = slope_r * (colors[0, y, x] - mr) + slope_g * (colors[1, y, x] - mg)
        out[0, y, x] = regression + slope_b * (colors[2, y, x] - mb) + mm - mask[y, x]
        explained = slope_r * shared_r + slope_g * shared_g + slope_b * shared_b
        out[1, y, x] = explained / (means[13, x] - mm * mm + _LEAST_VARIANCE)
        out[2, y, x] = mm
