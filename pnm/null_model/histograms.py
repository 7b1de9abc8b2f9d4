"""Null model of maps in which more labels meet than there are planes; any map gives the same values.

One histogram of all labels slides over the window, at 2 d updates a pixel. No real map of labels was seen to need it.
"""

import numpy as np

from pnm.kernels import entry_kernel
from pnm.null_model.run_planes import divide_counts


@entry_kernel
def null_model_of_histogram(
    first: int,
    last: int,
    labels: np.ndarray,
    height: int,
    width: int,
    number: int,
    ignored_label: int,
    radius: int,
    whole: float,
    window_columns: np.ndarray,
    zeros: np.ndarray,
    out: np.ndarray,
) -> None:
    """Writes rows first..last - 1 of the null model to ``out``.

    Args:
        labels: (H * W,) int32 in 0..number - 1.
        ignored_label: one of them, or -1 if none is ignored.
        radius, whole, out: as in :func:`pnm.null_model.run_planes.null_model_of_runs`.
        window_columns: (W,) float32 or float64, columns of the window around x that lie in the image.
        zeros: empty array of the unsigned type that holds a window's pixels.
    """
    counts, ignored = np.empty(width, zeros.dtype), np.zeros(width, zeros.dtype)
    histogram = np.zeros(number, zeros.dtype)
    for y in range(first, last):
        top, bottom = max(0, y - radius), min(height, y + radius + 1)
        histogram[:] = 0
        for x in range(-radius, width):
            if x + radius < width:
                for above in range(top, bottom):
                    histogram[labels[above * width + x + radius]] += 1
            if x - radius > 0:
                for above in range(top, bottom):
                    histogram[labels[above * width + x - radius - 1]] -= 1
            if x >= 0:
                counts[x] = histogram[labels[y * width + x]]
                if ignored_label >= 0:
                    ignored[x] = histogram[ignored_label]
        divide_counts(out, y * width, counts, ignored, window_columns, bottom - top, whole)
        if ignored_label >= 0:
            for x in range(width):
                if labels[y * width + x] == ignored_label:
                    out[y * width + x] = 1
