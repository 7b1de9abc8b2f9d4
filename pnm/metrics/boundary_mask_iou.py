"""Boundary IoU of instance masks (Cheng et al., "Boundary IoU", CVPR 2021) without drawing a pixel.

The boundary of a mask M is M without E, its erosion by a square of 2d + 1 pixels, all outside the image being
background. As E lies in M, two boundaries share |A and B| - |A and EB| - |EA and B| + |EA and EB| pixels, and each of
these is counted on runs. An erosion is made once for each mask that needs it, in time proportional to its runs.
"""

import numpy as np

from pnm.kernels import kernel
from pnm.masks.runs import MaskRuns, shared_pixels
from pnm.metrics.instance_matching import Pairs


@kernel
def _most_runs(box: np.ndarray, d: int) -> int:
    """The most runs that a column of the eroded mask can have: each came of 2d + 1 pixels and a gap at least."""
    return (box[2] - box[0] + 1) // (2 * d + 2)


@kernel
def _intersect(a: np.ndarray, number_a: int, b: np.ndarray, number_b: int, out: np.ndarray) -> int:
    """Common runs of two columns, rows of (row, row after the last); their number."""
    i = j = number = 0
    while i < number_a and j < number_b:
        start, end = max(a[i, 0], b[j, 0]), min(a[i, 1], b[j, 1])
        if start < end:
            out[number, 0], out[number, 1] = start, end
            number += 1
        if a[i, 1] < b[j, 1]:
            i += 1
        else:
            j += 1
    return number


@kernel
def _erode_columns(masks: MaskRuns, n: int, d: int, columns: np.ndarray, numbers: np.ndarray) -> None:
    """Runs of each column of the box, shortened by d at both ends; ``numbers[x]`` of them in ``columns[x]``."""
    height, left = masks.height, masks.boxes_yxyx[n, 1]
    x = left
    for r in range(masks.offsets[n], masks.offsets[n + 1]):
        start, end = masks.starts[r], masks.ends[r]
        while start < end:
            while start >= (x + 1) * height:
                x += 1
            stop = min(end, (x + 1) * height)
            if stop - start > 2 * d:
                at = numbers[x - left]
                columns[x - left, at, 0] = start - x * height + d
                columns[x - left, at, 1] = stop - x * height - d
                numbers[x - left] += 1
            start = stop


@kernel
def _erode_one(masks: MaskRuns, n: int, d: int, starts: np.ndarray, ends: np.ndarray, at: int) -> int:
    """Writes the runs of mask n's erosion to ``starts[at:]`` and ``ends[at:]``; the next free place.

    A window of 2d + 1 columns is the end of one block of as many columns and the beginning of the next, so it takes
    one intersection once each block has been intersected from both sides (van Herk, Gil and Werman).
    """
    width, side, most = masks.boxes_yxyx[n, 3] - masks.boxes_yxyx[n, 1], 2 * d + 1, _most_runs(masks.boxes_yxyx[n], d)
    columns, number = np.empty((width, most, 2), np.int64), np.zeros(width, np.int64)
    forth, number_forth = np.empty((width, most, 2), np.int64), np.zeros(width, np.int64)
    _erode_columns(masks, n, d, columns, number)
    for x in range(width):
        if x % side == 0:
            forth[x, : number[x]] = columns[x, : number[x]]
            number_forth[x] = number[x]
        else:
            number_forth[x] = _intersect(forth[x - 1], number_forth[x - 1], columns[x], number[x], forth[x])
    back, number_back = columns, number
    row = np.empty((most, 2), np.int64)
    for x in range(width - 2, -1, -1):
        if x % side < side - 1:
            number_row = _intersect(back[x + 1], number_back[x + 1], columns[x], number[x], row)
            back[x, :number_row] = row[:number_row]
            number_back[x] = number_row
    for x in range(d, width - d):
        base = (masks.boxes_yxyx[n, 1] + x) * masks.height
        for r in range(_intersect(back[x - d], number_back[x - d], forth[x + d], number_forth[x + d], row)):
            starts[at], ends[at] = base + row[r, 0], base + row[r, 1]
            at += 1
    return at


@kernel
def erode(masks: MaskRuns, wanted: np.ndarray, d: int) -> MaskRuns:
    """Erosion of the ``wanted`` (N,) masks by a square of 2d + 1 pixels, d >= 1; the others come back empty.

    Outside of the image is background. Boxes of the result are those of the masks.
    """
    room = 0
    for n in range(wanted.size):
        box = masks.boxes_yxyx[n]
        if wanted[n] and box[3] - box[1] > 2 * d:
            room += (box[3] - box[1] - 2 * d) * _most_runs(box, d)
    starts, ends = np.empty(room, np.int64), np.empty(room, np.int64)
    offsets, areas = np.zeros(wanted.size + 1, np.int64), np.zeros(wanted.size, np.int64)
    at = 0
    for n in range(wanted.size):
        box = masks.boxes_yxyx[n]
        if wanted[n] and box[3] - box[1] > 2 * d and box[2] - box[0] > 2 * d:
            at = _erode_one(masks, n, d, starts, ends, at)
        offsets[n + 1] = at
        for r in range(offsets[n], at):
            areas[n] += ends[r] - starts[r]
    return MaskRuns(starts[:at], ends[:at], offsets, areas, masks.boxes_yxyx, masks.height, masks.width)


@kernel
def _shared(a: MaskRuns, i: int, b: MaskRuns, j: int) -> int:
    return shared_pixels(
        a.starts, a.ends, a.offsets[i], a.offsets[i + 1], b.starts, b.ends, b.offsets[j], b.offsets[j + 1]
    )


@kernel
def _shared_boundary(a: MaskRuns, a_inside: MaskRuns, i: int, b: MaskRuns, b_inside: MaskRuns, j: int) -> int:
    shared = _shared(a, i, b, j) - _shared(a, i, b_inside, j) - _shared(a_inside, i, b, j)
    return shared + _shared(a_inside, i, b_inside, j)


@kernel
def _boundary_iou(a: MaskRuns, a_inside: MaskRuns, i: int, b: MaskRuns, b_inside: MaskRuns, j: int) -> float:
    shared = _shared_boundary(a, a_inside, i, b, b_inside, j)
    return shared / (a.areas[i] - a_inside.areas[i] + b.areas[j] - b_inside.areas[j] - shared)


@kernel
def boundary_ious(
    dt: MaskRuns, gt: MaskRuns, pairs: Pairs, crowd: np.ndarray, ious: np.ndarray, lowest: float, d: int
) -> np.ndarray:
    """The overlap that Boundary AP is made of: the lesser of mask and boundary IoU.

    Args:
        dt, gt: :class:`pnm.masks.runs.MaskRuns`.
        pairs: :class:`pnm.metrics.instance_matching.Pairs`.
        crowd: (G,) bool; with crowd regions the mask's overlap stands.
        ious: (P,) overlaps of the masks; those under ``lowest`` stand, too.
        d: width of the boundary in pixels, at least 1.

    Returns:
        (P,) float64.
    """
    dt_wanted, gt_wanted = np.zeros(dt.areas.size, np.bool_), np.zeros(gt.areas.size, np.bool_)
    for n in range(pairs.first.size):
        for g in range(pairs.first[n], pairs.last[n]):
            if not crowd[g] and ious[pairs.rows[n] + g - pairs.first[n]] >= lowest:
                dt_wanted[n] = gt_wanted[g] = True
    dt_inside, gt_inside = erode(dt, dt_wanted, d), erode(gt, gt_wanted, d)
    least = ious.copy()
    for n in range(pairs.first.size):
        for g in range(pairs.first[n], pairs.last[n]):
            pair = pairs.rows[n] + g - pairs.first[n]
            if crowd[g] or ious[pair] < lowest:
                continue
            least[pair] = min(ious[pair], _boundary_iou(dt, dt_inside, n, gt, gt_inside, g))
    return least


def boundary_iou(a: MaskRuns, i: int, b: MaskRuns, j: int, d: int) -> float:
    """Boundary IoU of mask i of ``a`` and mask j of ``b``, masks of the same image; nan if both are empty."""
    inside = [erode(masks, np.arange(masks.areas.size) == n, d) for masks, n in ((a, i), (b, j))]
    return float(_boundary_iou(a, inside[0], i, b, inside[1], j))


def boundary_sizes(masks: MaskRuns, wanted: np.ndarray, d: int) -> np.ndarray:
    """(N,) int64: boundary pixels of the ``wanted`` (N,) masks, 0 of the others."""
    return np.where(wanted, masks.areas - erode(masks, wanted, d).areas, 0)


def shared_boundaries(a: MaskRuns, i: np.ndarray, b: MaskRuns, j: np.ndarray, d: int) -> np.ndarray:
    """(P,) int64: boundary pixels that masks ``i`` (P,) of ``a`` share with masks ``j`` (P,) of ``b``."""
    inside = [erode(masks, np.isin(np.arange(masks.areas.size), n), d) for masks, n in ((a, i), (b, j))]
    return _shared_boundaries(a, inside[0], i, b, inside[1], j)


@kernel
def _shared_boundaries(
    a: MaskRuns, a_inside: MaskRuns, i: np.ndarray, b: MaskRuns, b_inside: MaskRuns, j: np.ndarray
) -> np.ndarray:
    shared = np.zeros(i.size, np.int64)
    for n in range(i.size):
        shared[n] = _shared_boundary(a, a_inside, i[n], b, b_inside, j[n])
    return shared
