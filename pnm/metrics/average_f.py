"""AF, the boundary F-score of instances (Hu et al., "BPR", section 4.1).

"We used a threshold of one pixel and only computed for true positives that were determined on the same 10 IoU
thresholds ranging from 0.5 to 0.95. The boundary F-score was computed in an instance-wise manner and then averaged
over them." Taken to mean:

- *Contour* of a mask: the pixels that differ from their right, lower or lower right neighbour, neighbours outside the
  image being left out, so that the frame is no contour. It is the contour of the boundary F-score for semantic
  segmentation that the paper refers to (Takikawa et al., "Gated-SCNN"; Perazzi et al., DAVIS).
- *Precision*: share of the detection's contour that lies at most one pixel (itself or one of its four neighbours) from
  the instance's contour; *recall*: the other way round; *F* = 2PR / (P + R), 0 if both are 0. Without contour on either
  side (both masks fill the image) F is 1, on one side 0.
- *True positives* at a threshold are those of mask AP: COCO's matching, all areas, no crowd.
- *AF* at a threshold is the mean F of all true positives of all images and classes, and 0 where there is ground truth
  but no true positive; *AF* the mean over the ten thresholds. That of a class takes its instances alone. Without
  ground truth it is nan.

F is kept as a whole number of 2^-40, so sums don't depend on the order of images nor on how processes share them.
"""

from typing import NamedTuple

import numpy as np

from pnm.kernels import kernel
from pnm.masks.runs import MaskRuns

SCALE = 2.0**40


class Contours(NamedTuple):
    """Contour pixels of N masks: rows and columns ``yx[offsets[n]:offsets[n + 1]]``, (P, 2), in no order."""

    yx: np.ndarray
    offsets: np.ndarray


@kernel
def _mark(y: int, x: int, top: int, left: int, rows: int, seen: np.ndarray, yx: np.ndarray, end: int) -> int:
    """Adds (y, x) unless it was there; the new end of the list."""
    cell = y - top + (x - left) * rows
    if seen[cell]:
        return end
    seen[cell] = True
    yx[end, 0], yx[end, 1] = y, x
    return end + 1


@kernel
def _breakpoint(masks: MaskRuns, k: int) -> int:
    return masks.starts[k // 2] if k % 2 == 0 else masks.ends[k // 2]


@kernel
def _mark_sides(
    masks: MaskRuns,
    n: int,
    top: int,
    left: int,
    rows: int,
    seen: np.ndarray,
    yx: np.ndarray,
    end: int,
) -> int:
    """Where a mask differs from its right neighbours: between the breakpoints of it and of it moved by a column."""
    height = masks.height
    limit, never = (masks.width - 1) * height, np.iinfo(np.int64).max
    last = 2 * masks.offsets[n + 1]
    here = there = 2 * masks.offsets[n]
    open_since, x = np.int64(-1), max(left, 0)
    differ = False
    while here < last or there < last:
        a = _breakpoint(masks, here) if here < last else never
        b = _breakpoint(masks, there) - height if there < last else never
        position = min(a, b)
        if differ:
            for pixel in range(max(open_since, 0), min(position, limit)):
                while pixel >= (x + 1) * height:
                    x += 1
                y = pixel - x * height
                end = _mark(y, x, top, left, rows, seen, yx, end)
                if y > 0:
                    end = _mark(y - 1, x, top, left, rows, seen, yx, end)
        open_since, differ = position, not differ
        here, there = here + (a <= b), there + (b < a)
    return end


@kernel
def _mark_ends(
    masks: MaskRuns,
    n: int,
    top: int,
    left: int,
    rows: int,
    seen: np.ndarray,
    yx: np.ndarray,
    end: int,
) -> int:
    """Where a mask differs from its lower neighbours: above the first and at the last pixel of each run.

    Where only the column to the right changes from one row to the next, the sides differ, too.
    """
    height = masks.height
    for r in range(masks.offsets[n], masks.offsets[n + 1]):
        for pixel in (masks.starts[r] - 1, masks.ends[r] - 1):
            if pixel % height != height - 1:  # the frame; -1 is above the first row, too
                end = _mark(pixel % height, pixel // height, top, left, rows, seen, yx, end)
    return end


@kernel
def contours(masks: MaskRuns, wanted: np.ndarray) -> Contours:
    """:class:`Contours` of the ``wanted`` (N,) ones of :class:`pnm.masks.runs.MaskRuns`; the others' are empty."""
    offsets = np.zeros(wanted.size + 1, np.int64)
    yx, end = np.empty((1024, 2), np.int32), 0
    for n in range(wanted.size):
        if wanted[n] and masks.areas[n]:
            box = masks.boxes_yxyx[n]
            top, left = box[0] - 1, box[1] - 1
            rows, columns = box[2] - top, box[3] - left
            if end + rows * columns > len(yx):
                larger = np.empty((2 * (end + rows * columns), 2), np.int32)
                larger[:end] = yx[:end]
                yx = larger
            seen = np.zeros(rows * columns, np.bool_)
            end = _mark_sides(masks, n, top, left, rows, seen, yx, end)
            end = _mark_ends(masks, n, top, left, rows, seen, yx, end)
        offsets[n + 1] = end
    return Contours(yx[:end].copy(), offsets)


@kernel
def _stamp(yx: np.ndarray, top: int, left: int, rows: int, near: np.ndarray, value: bool) -> None:
    for p in range(len(yx)):
        cell = yx[p, 0] - top + (yx[p, 1] - left) * rows
        near[cell] = near[cell - 1] = near[cell + 1] = near[cell - rows] = near[cell + rows] = value


@kernel
def _near(a: np.ndarray, b: np.ndarray, box: np.ndarray, near: np.ndarray) -> int:
    """How many contour pixels ``a`` lie at most one pixel from contour ``b`` of a mask with this ``box``.

    ``near`` is scratch, all False before and after.
    """
    top, left = box[0] - 2, box[1] - 2
    rows, columns = box[2] + 1 - top, box[3] + 1 - left
    _stamp(b, top, left, rows, near, True)
    number = 0
    for p in range(len(a)):
        y, x = a[p, 0] - top, a[p, 1] - left
        if 0 <= y < rows and 0 <= x < columns:
            number += near[y + x * rows]
    _stamp(b, top, left, rows, near, False)
    return number


@kernel
def contour_f(a: np.ndarray, box_a: np.ndarray, b: np.ndarray, box_b: np.ndarray, near: np.ndarray) -> float:
    """F at one pixel between contours (P, 2) and (Q, 2) of masks with these boxes; ``near`` as in :func:`_near`."""
    if len(a) == 0 or len(b) == 0:
        return 1.0 if len(a) == len(b) else 0.0
    precision = _near(a, b, box_b, near) / len(a)
    recall = _near(b, a, box_a, near) / len(b)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@kernel
def f_sums(dt: MaskRuns, gt: MaskRuns, partner: np.ndarray, columns: np.ndarray, classes: int) -> np.ndarray:
    """Sums over the true positives of one image.

    Args:
        dt, gt: :class:`pnm.masks.runs.MaskRuns`.
        partner: (D, T) int64, the instance that a detection found at each threshold, or -1.
        columns: (D,) class index of each detection, below ``classes``.

    Returns:
        (classes, 2, T) int64: sums of F in 2^-40, and numbers of true positives.
    """
    number, thresholds = partner.shape
    dt_wanted, gt_wanted = np.zeros(dt.areas.size, np.bool_), np.zeros(gt.areas.size, np.bool_)
    room = 0
    for d in range(number):
        for t in range(thresholds):
            if partner[d, t] >= 0:
                dt_wanted[d] = gt_wanted[partner[d, t]] = True
    for masks, wanted in ((dt, dt_wanted), (gt, gt_wanted)):
        for n in range(wanted.size):
            box = masks.boxes_yxyx[n]
            if wanted[n]:
                room = max(room, (box[2] - box[0] + 3) * (box[3] - box[1] + 3))
    near = np.zeros(room, np.bool_)
    dt_contours, gt_contours = contours(dt, dt_wanted), contours(gt, gt_wanted)
    sums = np.zeros((classes, 2, thresholds), np.int64)
    for d in range(number):
        known, f = -1, np.int64(0)
        for t in range(thresholds):
            g = partner[d, t]
            if g < 0:
                continue
            if g != known:
                a = dt_contours.yx[dt_contours.offsets[d] : dt_contours.offsets[d + 1]]
                b = gt_contours.yx[gt_contours.offsets[g] : gt_contours.offsets[g + 1]]
                known, f = g, np.int64(round(contour_f(a, dt.boxes_yxyx[d], b, gt.boxes_yxyx[g], near) * SCALE))
            sums[columns[d], 0, t] += f
            sums[columns[d], 1, t] += 1
    return sums


def average_f(sums: np.ndarray, has_ground_truth: np.ndarray) -> np.ndarray:
    """AF of summed :func:`f_sums` (..., 2, T) int64, given whether there is ground truth (...,) bool; (...,)."""
    with np.errstate(invalid="ignore"):
        means = np.where(sums[..., 1, :] > 0, sums[..., 0, :] / sums[..., 1, :] / SCALE, 0.0)
    return np.where(has_ground_truth, means.mean(axis=-1), np.nan)
