"""The pixel null model (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation", Eq. 1-2) on the CPU.

The cost follows the runs of equal labels in the rows. A label map of 1024 x 2048 takes 2.5 to 3 ms (d = 35, one core of
a Xeon with AVX-512); independent random labels, where each pixel is a run of its own, 67 ms.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.label_runs import count_runs
from pnm.null_model.histograms import null_model_of_histogram
from pnm.null_model.run_planes import null_model_of_runs
from pnm.usable_cores import usable_cores

BORDERS = ("valid", "zero")
ROWS_PER_BAND = 64  # at least, where several threads share a map
MAX_SLOTS = 1024  # labels that may meet in d rows; memory is touched only for those that do


class _Problem(NamedTuple):
    """What all kernels need, as :func:`pnm.null_model.run_planes.null_model_of_runs` describes it."""

    keys: np.ndarray
    ignored: np.ndarray
    height: int
    width: int
    radius: int
    whole: float
    columns: np.ndarray
    zeros: np.ndarray
    out: np.ndarray
    threads: int


def check_locality(locality: Any, border: str) -> int:
    """The locality as an int; a UserError unless it is odd and positive and the border is known."""
    whole_number = isinstance(locality, (int, np.integer)) and not isinstance(locality, bool)
    if not whole_number or locality < 1 or locality % 2 == 0:
        raise UserError(
            f"locality is {locality!r}, expected an odd positive integer: the side in pixels of the window around each "
            "pixel (35 for images, 5 for 28x28 masks)"
        )
    if border not in BORDERS:
        raise UserError(f"border is {border!r}, expected one of {', '.join(BORDERS)}")
    return int(locality)


def pixel_null_model(
    labels: np.ndarray,
    locality: int,
    *,
    ignore_label: int | None = 255,
    border: str = "valid",
    threads: int | None = 1,
) -> np.ndarray:
    """Probability that a pixel keeps its label when the labels of the window around it are permuted (Eq. 1-2).

    That is the share of the window's valid pixels that carry the pixel's own label. Valid pixels lie in the image and
    are not ignored. Counts are exact and the quotient is correctly rounded: every implementation gives the same bits.
    Cost and memory hardly depend on the locality and the labels; a few rows are held beside input and output.

    Args:
        labels: (H, W) integers of any type and any values: semantic labels, panoptic ids, a bool mask.
        locality: side d of the window in pixels, odd; it may be larger than the image.
        ignore_label: value of pixels that count nowhere and get 1; None if there are none.
        border: "valid" divides by the number of valid pixels in the window; "zero" by d**2, as Eq. 2 is written.
        threads: bands of rows worked on at a time; None for all cores that the process may use.

    Returns:
        (H, W) float32 in (0, 1]. Ignored pixels are 1; d = 1 gives 1 everywhere.

    Raises:
        UserError: labels that are no (H, W) array of integers; a locality that is even, not positive or not an integer;
            an unknown border; less than one thread.
    """
    locality = check_locality(locality, border)
    if not isinstance(labels, np.ndarray):
        raise UserError(
            f"labels are a {type(labels).__name__}, expected a NumPy array; tensors: pixel_null_model_torch"
        )
    if labels.ndim != 2 or not (labels.dtype == bool or np.issubdtype(labels.dtype, np.integer)):
        raise UserError(
            f"labels are {labels.shape} {labels.dtype}, expected (H, W) integers: take one map at a time "
            "and convert it with .astype(np.int64)"
        )
    if threads is not None and threads < 1:
        raise UserError(f"threads is {threads}, expected a positive number, or None for all cores")
    out = np.empty(labels.shape, np.float32)
    if out.size == 0:
        return out
    problem = _problem(labels, locality, ignore_label, border, threads or usable_cores(), out)
    run_counts = count_runs(problem.keys, problem.height, problem.width)
    if not _by_runs(problem, run_counts):
        _by_histogram(problem)
    return out


def _problem(
    labels: np.ndarray, locality: int, ignore_label: int | None, border: str, threads: int, out: np.ndarray
) -> _Problem:
    height, width = labels.shape
    radius = min(locality // 2, max(height, width))
    whole = float(locality**2) if border == "zero" else 0.0
    narrow = min(locality, height) * min(locality, width) < 2**16 and whole <= 2**24
    x = np.arange(width)
    columns = np.minimum(x + radius, width - 1) - np.maximum(x - radius, 0) + 1
    columns = columns.astype(np.float32 if narrow else np.float64)
    zeros = np.empty(0, np.uint16 if narrow else np.uint32)
    keys, ignored = _unsigned(labels, ignore_label)
    return _Problem(keys, ignored, height, width, radius, whole, columns, zeros, out.reshape(-1), threads)


def _unsigned(labels: np.ndarray, ignore_label: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The labels as (H * W,) unsigned integers of the same width; the label to ignore so too, (1,) or (0,) uint64."""
    native = np.ascontiguousarray(labels, dtype=labels.dtype.newbyteorder("="))
    if native.dtype == bool:
        native = native.view(np.uint8)
    unsigned = native.reshape(-1).view(f"u{native.dtype.itemsize}")
    limits = np.iinfo(native.dtype)
    if ignore_label is None or not limits.min <= ignore_label <= limits.max:
        return unsigned, np.empty(0, np.uint64)
    return unsigned, np.array([ignore_label], native.dtype).view(unsigned.dtype).astype(np.uint64)


def _in_bands(problem: _Problem, kernel: Callable[[int, int], Any]) -> list:
    """What ``kernel(first row, last row + 1)`` returns for each of the bands that the threads share."""
    bands = min(problem.threads, -(-problem.height // ROWS_PER_BAND))
    if bands == 1:
        return [kernel(0, problem.height)]
    edges = [problem.height * band // bands for band in range(bands + 1)]
    with ThreadPoolExecutor(bands) as pool:
        return list(pool.map(kernel, edges[:-1], edges[1:]))


def _by_runs(problem: _Problem, run_counts: np.ndarray) -> bool:
    """False, with parts of the map written, where too many labels meet."""
    keys, ignored, height, width, radius, whole, columns, zeros, out, _ = problem

    def kernel(first: int, last: int) -> bool:
        return null_model_of_runs(
            first, last, keys, height, width, ignored, radius, whole, columns, run_counts, MAX_SLOTS, zeros, out
        )

    return all(_in_bands(problem, kernel))


def _by_histogram(problem: _Problem) -> None:
    keys, ignored, height, width, radius, whole, columns, zeros, out, _ = problem
    values, index = np.unique(keys, return_inverse=True)
    index = index.reshape(-1).astype(np.int32)
    places = np.flatnonzero(values == ignored) if ignored.size else ignored
    ignored_label = int(places[0]) if places.size else -1

    def kernel(first: int, last: int) -> None:
        null_model_of_histogram(
            first, last, index, height, width, len(values), ignored_label, radius, whole, columns, zeros, out
        )

    _in_bands(problem, kernel)
