"""Distances, weights and counts of errors by plain loops, for tests."""

import math

import numpy as np

from pnm.metrics.error_counts import DISTANCE_EDGES_PX, LOCALITY, WEIGHT_EDGES


def distance(labels, y, x):
    """To the nearest pixel of another label; inf if there is none."""
    others = np.argwhere(labels != labels[y, x])
    return min((math.dist((y, x), other) for other in others.tolist()), default=math.inf)


def weight(labels, y, x, ignored=None):
    """1 - ln of the share of the window's pixels that carry the pixel's label; ignored ones don't count."""
    if labels[y, x] == ignored:
        return 1.0
    half = LOCALITY // 2
    window = labels[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
    return 1 - math.log(
        (window == labels[y, x]).sum() / (window != ignored if ignored is not None else window == window).sum()
    )


def band(value, edges):
    return sum(np.float32(value) > np.float32(edge) for edge in edges)


def distance_band(labels, y, x):
    return band(distance(labels, y, x), DISTANCE_EDGES_PX)


def weight_band(labels, y, x, ignored=None):
    return band(weight(labels, y, x, ignored), WEIGHT_EDGES)


def boundary(mask, d):
    """Pixels of a mask whose window of 2d + 1 pixels leaves it or the image."""
    padded = np.pad(mask, d)
    out = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        out[y, x] = not padded[y : y + 2 * d + 1, x : x + 2 * d + 1].all()
    return out
