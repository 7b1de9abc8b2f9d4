"""Pixels to instances: PRN's post-processing guided by boxes and foreground (section 3.5), on one core, without a
matrix of pixels and centres.

In order: peaks of the heat map are centres; each gets a box; of centres with nearly the same box one stays; each
foreground pixel goes to the centre nearest to where its offset points, among those whose box agrees with its own.

An example, two instances side by side in a row of six pixels::

    >>> from pnm.panoptic_grouping.encoding import instance_fields
    >>> fields = instance_fields(np.array([[1, 1, 1, 2, 2, 2]], np.int32), 2, sigma_px=0.5)
    >>> group_pixels(fields, np.ones((1, 6), bool), GroupingSettings(nms_kernel=3)).labels.tolist()
    [[1, 1, 1, 2, 2, 2]]
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.panoptic_grouping.encoding import InstanceFields
from pnm.panoptic_grouping.nearest_centers import CELL_PX, cell_lists, cell_of
from pnm.panoptic_grouping.peaks import find_peaks

CENTER_BOXES = ("votes", "center")
UNMATCHED = ("nearest", "remove")
MOST_VOTERS = 1000
MOST_CENTERS, MOST_KERNEL = 5000, 999


@dataclass(frozen=True)
class GroupingSettings:
    """How fields become instances. The paper's letter: center_box "center", duplicate_iou 1, unmatched "remove".

    Attributes:
        threshold: that the heat of a centre exceeds; the paper's theta.
        most_centers: that are kept, the highest; the paper's k.
        nms_kernel: side of the window in which a centre is highest, px, odd.
        use_boxes: False groups by the nearest centre alone, as Panoptic-DeepLab does.
        center_box: "votes", side by side the median of the boxes of the foreground pixels that point nearest to the
            centre; or "center", the box at the centre's own pixel.
        duplicate_iou: a centre whose box overlaps that of a higher one by more is dropped; 1 keeps all.
        match_iou: that the box of a pixel and that of its centre must exceed.
        unmatched: what becomes of a foreground pixel whose box agrees with no centre's: "nearest" gives it to the
            nearest centre in whose box, grown by ``box_margin``, it lies; "remove" to none.
        box_margin: of the box's longer side, on each side.

    Raises:
        UserError: a value that doesn't exist.
    """

    threshold: float = 0.2
    most_centers: int = 200
    nms_kernel: int = 7
    use_boxes: bool = True
    center_box: str = "votes"
    duplicate_iou: float = 0.7
    match_iou: float = 0.5
    unmatched: str = "nearest"
    box_margin: float = 0.1

    def __post_init__(self) -> None:
        if self.nms_kernel not in range(3, MOST_KERNEL + 1, 2):
            raise UserError(
                f"the window of centres is {self.nms_kernel} px, expected an odd number, 3 to {MOST_KERNEL}"
            )
        if self.most_centers not in range(1, MOST_CENTERS + 1):
            raise UserError(f"at most {self.most_centers} centres are kept, expected 1 to {MOST_CENTERS}")
        if not 0 <= self.threshold < np.inf:
            raise UserError(f"the threshold of centres is {self.threshold}, expected a number from 0 on")
        if not 0 <= self.box_margin < np.inf:
            raise UserError(f"the margin of boxes is {self.box_margin}, expected a number from 0 on")
        for name, value in (("duplicate", self.duplicate_iou), ("match", self.match_iou)):
            if not 0 <= value <= 1:
                raise UserError(f"the {name} IoU is {value}, expected 0 to 1")
        if self.center_box not in CENTER_BOXES:
            raise UserError(f"the box of a centre is {self.center_box!r}, expected one of {', '.join(CENTER_BOXES)}")
        if self.unmatched not in UNMATCHED:
            raise UserError(f"unmatched pixels are {self.unmatched!r}, expected one of {', '.join(UNMATCHED)}")


class Instances(NamedTuple):
    """Instances of an image, highest centre first.

    Attributes:
        labels: (H, W) int32, 1 to N; 0 is none's. A number may have no pixel.
        centers: (N, 2) int64 (y, x).
        scores: (N,) float32, heat at the centres.
    """

    labels: np.ndarray
    centers: np.ndarray
    scores: np.ndarray


@kernel
def _target(offset: float, place: int, size: int) -> float:
    """Where a pixel points to, at most an image's size away; to itself where the offset is no number."""
    if np.isnan(offset):
        return float(place)
    return place + min(max(np.float64(offset), -float(size)), float(size))


@kernel
def _edge(distance: float, size: int) -> float:
    """Distance to a side of a box, between 0 and the image's size; 0 where it is no number."""
    return min(max(np.float64(distance), 0.0), float(size)) if distance == distance else 0.0


@kernel
def _own_box(boxes: np.ndarray, y: int, x: int, box: np.ndarray) -> None:
    """The box (top, left, bottom, right) that a pixel predicts; that of one pixel has area 1."""
    height, width = boxes.shape[1], boxes.shape[2]
    box[0], box[2] = y - _edge(boxes[0, y, x], height), y + _edge(boxes[1, y, x], height) + 1
    box[1], box[3] = x - _edge(boxes[2, y, x], width), x + _edge(boxes[3, y, x], width) + 1


@kernel
def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if high <= 0 or wide <= 0:
        return 0.0
    both = high * wide
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@entry_kernel
def _find_nearest(
    offsets: np.ndarray,
    foreground: np.ndarray,
    centers: np.ndarray,
    order: np.ndarray,
    least: np.ndarray,
    cell: int,
    nearest: np.ndarray,
) -> None:
    """Fills ``nearest``, which is -1 everywhere, see :func:`_nearest`."""
    height, width = foreground.shape
    for y in range(height):
        for x in range(width):
            if not foreground[y, x]:
                continue
            ty, tx = _target(offsets[0, y, x], y, height), _target(offsets[1, y, x], x, width)
            i, j = cell_of(ty, height, cell), cell_of(tx, width, cell)
            best = np.inf
            for place in range(order.shape[2]):
                if least[i, j, place] > best:
                    break
                k = order[i, j, place]
                dy, dx = ty - centers[k, 0], tx - centers[k, 1]
                distance = dy * dy + dx * dx
                if distance < best or (distance == best and k < nearest[y, x]):
                    best, nearest[y, x] = distance, k


@entry_kernel
def _find_medians(
    boxes: np.ndarray, nearest: np.ndarray, most: int, medians: np.ndarray, any_voter: np.ndarray
) -> None:
    """Fills ``medians`` and ``any_voter``, see :func:`_voted_boxes`."""
    (height, width), count = nearest.shape, any_voter.size
    voters, seen, asked = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    for y in range(height):
        for x in range(width):
            if nearest[y, x] >= 0:
                voters[nearest[y, x]] += 1
    sides = np.empty((count, 4, most), np.float64)
    box = np.empty(4, np.float64)
    for y in range(height):
        for x in range(width):
            k = nearest[y, x]
            if k < 0:
                continue
            if seen[k] % ((voters[k] + most - 1) // most) == 0:
                _own_box(boxes, y, x, box)
                for side in range(4):
                    sides[k, side, asked[k]] = box[side]
                asked[k] += 1
            seen[k] += 1
    for k in range(count):
        any_voter[k] = voters[k] > 0
        for side in range(4):
            if asked[k] > 0:
                medians[k, side] = np.median(sides[k, side, : asked[k]])


@entry_kernel
def _boxes_at(boxes: np.ndarray, centers: np.ndarray, found: np.ndarray) -> None:
    for k in range(centers.shape[0]):
        _own_box(boxes, centers[k, 0], centers[k, 1], found[k])


@entry_kernel
def _drop_duplicates(boxes: np.ndarray, kept: np.ndarray, limit: float) -> None:
    """Clears ``kept`` of boxes that overlap an earlier kept one by more than the limit."""
    for k in range(boxes.shape[0]):
        for other in range(k):
            if kept[k] and kept[other] and _box_iou(boxes[k], boxes[other]) > limit:
                kept[k] = False


@kernel
def _is_in_grown(box: np.ndarray, y: int, x: int, margin: float) -> bool:
    """Whether the middle of a pixel lies in a box that is grown by a share of its longer side."""
    grown = margin * max(box[2] - box[0], box[3] - box[1])
    return box[0] - grown <= y + 0.5 <= box[2] + grown and box[1] - grown <= x + 0.5 <= box[3] + grown


@entry_kernel
def _assign(
    offsets: np.ndarray,
    boxes: np.ndarray,
    nearest: np.ndarray,
    centers: np.ndarray,
    center_boxes: np.ndarray,
    order: np.ndarray,
    least: np.ndarray,
    cell: int,
    match_iou: float,
    margin: float,
    labels: np.ndarray,
) -> None:
    """Writes centre + 1 of each pixel with a nearest centre, among those whose box agrees, to ``labels``; 0 is none.

    Args:
        margin: of boxes in which a pixel stays with its nearest centre although none agrees; negative: it has none.
        labels: (H, W) int32, all 0.
    """
    height, width = nearest.shape
    box = np.empty(4, np.float64)
    for y in range(height):
        for x in range(width):
            if nearest[y, x] < 0:
                continue
            _own_box(boxes, y, x, box)
            ty, tx = _target(offsets[0, y, x], y, height), _target(offsets[1, y, x], x, width)
            i, j = cell_of(ty, height, cell), cell_of(tx, width, cell)
            best, best_iou, chosen = np.inf, 0.0, -1
            for place in range(order.shape[2]):
                if least[i, j, place] > best:
                    break
                k = order[i, j, place]
                dy, dx = ty - centers[k, 0], tx - centers[k, 1]
                distance = dy * dy + dx * dx
                if distance > best:
                    continue
                iou = _box_iou(box, center_boxes[k])
                if iou <= match_iou:
                    continue
                if distance < best or iou > best_iou or (iou == best_iou and k < chosen):
                    best, best_iou, chosen = distance, iou, k
            if chosen < 0 and margin >= 0 and _is_in_grown(center_boxes[nearest[y, x]], y, x, margin):
                chosen = nearest[y, x]
            labels[y, x] = chosen + 1


def _nearest(offsets: np.ndarray, foreground: np.ndarray, centers: np.ndarray, *lists: np.ndarray) -> np.ndarray:
    """(H, W) int32: the centre nearest to where each foreground pixel points, the first of equals; -1 elsewhere."""
    nearest = np.full(foreground.shape, -1, np.int32)
    _find_nearest(offsets, foreground, centers, *lists, CELL_PX, nearest)
    return nearest


def _voted_boxes(boxes: np.ndarray, nearest: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, 4) median boxes of the pixels nearest to each centre, and (K,) whether there are any.

    Of more than ``MOST_VOTERS`` pixels, every n-th by row and column is asked.
    """
    medians, any_voter = np.zeros((count, 4), np.float64), np.empty(count, np.bool_)
    _find_medians(boxes, nearest, MOST_VOTERS, medians, any_voter)
    return medians, any_voter


def _kept(centers: np.ndarray, kept: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres that are left, and their lists by cell."""
    left = np.ascontiguousarray(centers[kept])
    return left, *cell_lists(left, *shape, CELL_PX)


def _check_shapes(fields: InstanceFields, foreground: np.ndarray) -> None:
    size = np.shape(foreground)
    wanted = [size, (2, *size), (4, *size)]
    if len(size) != 2 or [np.shape(field) for field in fields] != wanted:
        shapes = ", ".join(str(np.shape(field)) for field in fields)
        raise UserError(
            f"heat, offsets and boxes are {shapes}, foreground {size}, expected (H, W), (2, H, W), (4, H, W)"
        )


def group_pixels(fields: InstanceFields, foreground: np.ndarray, settings: GroupingSettings) -> Instances:
    """Instances of predicted fields. Whatever the fields hold, NaN and infinities included, instances do not overlap.

    Time and memory are linear in the pixels, but for lists of centres by cell (K numbers for 32 x 32 pixels).

    Args:
        fields: predicted; of offsets and boxes, only those of the foreground are looked at.
        foreground: (H, W) bool.

    Raises:
        UserError: fields and foreground of shapes that don't belong together.
    """
    _check_shapes(fields, foreground)
    heat, offsets, boxes = (np.ascontiguousarray(field, np.float32) for field in fields)
    foreground = np.ascontiguousarray(foreground, np.bool_)
    shape = foreground.shape
    centers, scores = find_peaks(
        heat, threshold=settings.threshold, kernel_px=settings.nms_kernel, most=settings.most_centers
    )
    if not len(centers) or not foreground.any():
        return Instances(np.zeros(shape, np.int32), centers, scores)
    left, order, least = _kept(centers, np.ones(len(centers), np.bool_), shape)
    nearest = _nearest(offsets, foreground, left, order, least)
    if not settings.use_boxes:
        return Instances(nearest + np.int32(1), centers, scores)
    if settings.center_box == "votes":
        center_boxes, kept = _voted_boxes(boxes, nearest, len(centers))
    else:
        center_boxes, kept = np.empty((len(centers), 4)), np.ones(len(centers), np.bool_)
        _boxes_at(boxes, centers, center_boxes)
    _drop_duplicates(center_boxes, kept, float(settings.duplicate_iou))
    if not kept.all():
        left, order, least = _kept(centers, kept, shape)
        nearest = _nearest(offsets, foreground, left, order, least)
    margin = float(settings.box_margin) if settings.unmatched == "nearest" else -1.0
    agreed = np.ascontiguousarray(center_boxes[kept])
    labels = np.zeros(shape, np.int32)
    _assign(offsets, boxes, nearest, left, agreed, order, least, CELL_PX, float(settings.match_iou), margin, labels)
    return Instances(labels, left, scores[kept])
