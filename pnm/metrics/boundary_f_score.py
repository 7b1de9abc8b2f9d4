"""Boundary F-score of semantic segmentation (Perazzi et al., "DAVIS"; Takikawa et al., "Gated-SCNN", section 4.1).

The *contour* of a class are the pixels whose mask value differs from that of their right, lower or lower right
neighbour; neighbours outside the image are left out. With tolerance r a contour pixel is matched if the other map has a
contour pixel of the class within a disk, dy**2 + dx**2 <= r**2. Precision is the share of matched pixels of the
predicted contour, recall that of the true one, F = 2PR / (P + R), 0 if both are 0.

A class is on the contour at a pixel exactly if it is one of the labels of the 2 x 2 block that begins there, and the
block has another one, too. So one look finds the contours of all classes. They are kept as a set of bits for each pixel
of the few rows within reach, and each contour pixel looks around itself, from near to far, until all is matched.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.masks.simd_lanes import LANES, differs, lowest_bit
from pnm.metrics.exact_sums import QUOTIENT_SCALE, LabelPair

CLASSES_AT_ONCE = 64
_Tolerance = int | float


class _Disk(NamedTuple):
    """Steps (N,) from a pixel to those within the largest tolerance, by distance, and the least tolerance that each
    needs, as an index."""

    dy: np.ndarray
    dx: np.ndarray
    needs: np.ndarray


def check_tolerances(tolerances: Sequence[_Tolerance]) -> None:
    """A UserError unless they are different whole numbers of pixels or fractions of the diagonal, at least one."""
    for tolerance in tolerances:
        is_number = isinstance(tolerance, (int, float, np.integer, np.floating)) and not isinstance(tolerance, bool)
        if not is_number or not tolerance > 0 or (tolerance >= 1 and not float(tolerance).is_integer()):
            raise UserError(
                f"a tolerance of the boundary F-score is {tolerance!r}, expected whole pixels, like 1, or a fraction "
                "of the image's diagonal below 1, like 0.00088"
            )
    if not 0 < len(set(tolerances)) == len(tolerances):
        raise UserError(f"tolerances of the boundary F-score are {tolerances!r}, expected different ones, at least one")


def tolerance_px(tolerance: _Tolerance, height: int, width: int) -> int:
    """Pixels of a tolerance: itself, or the fraction of the diagonal rounded up (0.00088 is 3 px in Cityscapes)."""
    if tolerance >= 1:
        return int(tolerance)
    return math.ceil(tolerance * math.sqrt(height * height + width * width))


def contour_matches(pair: LabelPair, radii: np.ndarray, void_borders: bool = True) -> np.ndarray:
    """Contour pixels of each class by the least tolerance that matches them with the other map.

    Args:
        pair: ground truth and prediction.
        radii: (R,) ascending tolerances in pixels.
        void_borders: whether a change from or to an ignored pixel is a contour, as in the literature. Otherwise such
            neighbours are left out as those outside the image are.

    Returns:
        (2, R + 1, K) int64 of the true (0) and predicted (1) contours; in the last row those that nothing matches.
    """
    height, width = pair.truth.shape
    number = pair.num_classes
    counts = np.zeros((2, len(radii) + 1, number), np.int64)
    disk = _disk(radii)
    left_out = -1 if void_borders else number
    for first in range(0, number, CLASSES_AT_ONCE):
        number_now = min(CLASSES_AT_ONCE, number - first)
        bits = np.zeros(number + 2, np.uint64)
        bits[first : first + number_now] = np.uint64(1) << np.arange(number_now, dtype=np.uint64)
        group = np.zeros((2, len(radii) + 1, CLASSES_AT_ONCE), np.int64)
        _match_contours(
            pair.truth.reshape(-1), pair.pred.reshape(-1), height, width, bits, left_out, int(radii[-1]), disk, group
        )
        counts[:, :, first : first + number_now] = group[:, :, :number_now]
    return counts


def f_scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F of each tolerance and class from :func:`contour_matches`.

    Returns:
        (R, K) int64, F in 2**-40, 0 where only one map has a contour or none; (K,) bool, whether any map has one.
    """
    number = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        recall, precision = np.cumsum(counts, axis=1)[:, :-1] / number[:, None]
        f = 2 * precision * recall / (precision + recall)
    return np.rint(np.nan_to_num(f) * QUOTIENT_SCALE).astype(np.int64), number.any(axis=0)


def _disk(radii: np.ndarray) -> _Disk:
    reach = int(radii[-1])
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squared = dy**2 + dx**2
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= reach**2]
    return _Disk(dy[order], dx[order], np.searchsorted(np.asarray(radii) ** 2, squared[order]))


@kernel
def _contour_bits(labels: np.ndarray, place: int, right: int, below: int, bits: np.ndarray, left_out: int) -> int:
    """Classes on the contour at a pixel, as bits; ``right`` and ``below`` are steps to its neighbours."""
    center, classes = labels[place], np.uint64(0)
    if center == left_out:
        return classes
    for other in (labels[place + right], labels[place + below], labels[place + right + below]):
        if other != center and other != left_out:
            classes |= bits[center] | bits[other]
    return classes


@kernel
def _changing(labels: np.ndarray, place: int, rest: int, below: int) -> int:
    """Bit k, k < 32: pixel ``place + k`` differs from a neighbour; the row ends ``rest`` pixels from ``place``."""
    if rest > np.uint64(LANES):
        right = place + np.uint64(1)
        beside = differs(labels, place, labels, right) | differs(labels, place, labels, place + below)
        return beside | differs(labels, place, labels, right + below)
    changed = np.uint32(0)
    for k in range(rest):
        pixel = place + k
        right = pixel + np.uint64(k + np.uint64(1) < rest)
        label = labels[pixel]
        if label != labels[right] or label != labels[pixel + below] or label != labels[right + below]:
            changed |= np.uint32(1) << np.uint32(k)
    return changed


@kernel
def _find_contour(
    labels: np.ndarray,
    first: int,
    width: int,
    below: int,
    bits: np.ndarray,
    left_out: int,
    sets: np.ndarray,
    at: int,
    columns: np.ndarray,
) -> int:
    """Writes the contour of the row from ``first`` on to ``sets[at + x]`` and its columns to ``columns``; their number.

    ``below`` is the step to the next row, 0 in the last one. Indices are unsigned, as numba then leaves out the test
    for negative ones.
    """
    number = np.uint64(0)
    for start in range(np.uint64(0), width, np.uint64(LANES)):
        changing = _changing(labels, first + start, width - start, below)
        while changing != 0:
            x = start + np.uint64(lowest_bit(changing))
            right = np.uint64(x + np.uint64(1) < width)
            classes = _contour_bits(labels, first + x, right, below, bits, left_out)
            if classes:
                sets[at + x] = classes
                columns[number] = x
                number += np.uint64(1)
            changing &= changing - np.uint32(1)
    return number


@kernel
def _count_bits(word: int, counts: np.ndarray) -> None:
    for half in range(2):
        bits = np.uint32(word >> np.uint64(32 * half))
        while bits != 0:
            counts[32 * half + lowest_bit(bits)] += 1
            bits &= bits - np.uint32(1)


@kernel
def _match_row(
    columns: np.ndarray,
    sets: np.ndarray,
    at: int,
    others: np.ndarray,
    steps: np.ndarray,
    needs: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Counts the contour pixels ``sets[at + x]`` of a row by the tolerance that finds them in ``others[steps + x]``."""
    for x in columns:
        rest = sets[at + x]
        for k in range(steps.size):
            hit = rest & others[steps[k] + x]
            if hit:
                _count_bits(hit, counts[needs[k]])
                rest ^= hit
                if rest == 0:
                    break
        if rest:
            _count_bits(rest, counts[-1])


@entry_kernel
def _match_contours(
    truth: np.ndarray,
    pred: np.ndarray,
    height: int,
    width: int,
    bits: np.ndarray,
    left_out: int,
    reach: int,
    disk: _Disk,
    counts: np.ndarray,
) -> None:
    """Adds to ``counts`` (2, R + 1, 64). The rows within reach are held, row y in place y modulo their number."""
    held, stride = 2 * reach + 1, width + 2 * reach
    sets = np.zeros((2, held * stride), np.uint64)
    columns, numbers = np.empty((2, held, width), np.int32), np.zeros((2, held), np.int64)
    steps = np.empty(disk.dy.size, np.int64)
    for entering in range(height + reach):
        place = entering % held
        at = place * stride + reach
        for side in range(2):
            for n in range(numbers[side, place]):
                sets[side, at + columns[side, place, n]] = 0
            numbers[side, place] = 0
            if entering < height:
                numbers[side, place] = _find_contour(
                    truth if side == 0 else pred,
                    np.uint64(entering * width),
                    np.uint64(width),
                    np.uint64(width if entering + 1 < height else 0),
                    bits,
                    left_out,
                    sets[side],
                    np.uint64(at),
                    columns[side, place],
                )
        y = entering - reach
        if y < 0 or numbers[0, y % held] + numbers[1, y % held] == 0:
            continue
        for k in range(steps.size):
            steps[k] = (y + disk.dy[k]) % held * stride + reach + disk.dx[k]
        at = y % held * stride + reach
        for side in range(2):
            row_columns = columns[side, y % held, : numbers[side, y % held]]
            _match_row(row_columns, sets[side], at, sets[1 - side], steps, disk.needs, counts[side])
