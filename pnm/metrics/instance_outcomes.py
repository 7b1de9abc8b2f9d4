"""What becomes of the detections and instances of many images: masks drawn, compared and matched, image by image."""

from typing import NamedTuple

import numpy as np

from pnm.kernels import entry_kernel, kernel
from pnm.masks.instance_table import InstanceTable
from pnm.masks.mask_codes import MaskRuns, draw
from pnm.metrics.average_f import f_sums
from pnm.metrics.boundary_mask_iou import boundary_ious
from pnm.metrics.instance_matching import Matches, Pairs, box_ious, mask_ious, match

SEGM, BOUNDARY, BBOX, AF = range(4)  # rows of what is wanted, and of outcomes


class Side(NamedTuple):
    """Annotations or detections in the order in which they are matched: by image, class, and falling score.

    Attributes:
        table: :class:`pnm.masks.instance_table.InstanceTable`.
        order: (N,) int64, rows of the table, of which some may be left out.
        first: (I + 1,) int64, where each image begins in ``order``.
    """

    table: InstanceTable
    order: np.ndarray
    first: np.ndarray


class Images(NamedTuple):
    """(I,) int64 each: size, and width of the boundary, in pixels."""

    height: np.ndarray
    width: np.ndarray
    boundary: np.ndarray


class Rules(NamedTuple):
    """What is computed.

    Attributes:
        wanted: (4,) bool, masks, boundaries, boxes, AF; see ``SEGM`` and the following.
        thresholds: (T,) IoU thresholds.
        area_ranges: (A, 2), least and largest area in pixels.
    """

    wanted: np.ndarray
    thresholds: np.ndarray
    area_ranges: np.ndarray


class Outcomes(NamedTuple):
    """To be filled, of D detections and C pairs of an image and a class that has instances in it.

    Attributes:
        found, excused: (3, D) uint64, by masks, boundaries and boxes; see
            :class:`pnm.metrics.instance_matching.Matches`.
        place: (G,) int64, which of the C pairs each instance belongs to, in the order of its side.
        positives: (C, A) int64, instances to be found in each area range.
        f_sums: (C, 2, T) int64, see :func:`pnm.metrics.average_f.f_sums`.
    """

    found: np.ndarray
    excused: np.ndarray
    place: np.ndarray
    positives: np.ndarray
    f_sums: np.ndarray


@kernel
def _pair_up(dt_columns: np.ndarray, gt_columns: np.ndarray) -> Pairs:
    """As :func:`pnm.metrics.instance_matching.pair_up`."""
    number = dt_columns.size
    first, last, rows = np.empty(number, np.int64), np.empty(number, np.int64), np.zeros(number + 1, np.int64)
    a = b = 0
    for d in range(number):
        while a < gt_columns.size and gt_columns[a] < dt_columns[d]:
            a += 1
        b = max(a, b)
        while b < gt_columns.size and gt_columns[b] == dt_columns[d]:
            b += 1
        first[d], last[d], rows[d + 1] = a, b, rows[d] + b - a
    return Pairs(first, last, rows)


@kernel
def _needed(pairs: Pairs, areas: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Numbers of the instances whose masks are looked at: some detection may find them, or their area isn't known."""
    needed = np.full(numbers.size, -1, np.int64)
    for d in range(pairs.first.size):
        for g in range(pairs.first[d], pairs.last[d]):
            needed[g] = numbers[g]
    for g in range(numbers.size):
        if np.isnan(areas[numbers[g]]):
            needed[g] = numbers[g]
    return needed


@kernel
def _boxes(table: InstanceTable, numbers: np.ndarray, masks: MaskRuns) -> np.ndarray:
    """(N, 4) x, y, width and height."""
    boxes = table.boxes_xywh[numbers]
    for n in range(numbers.size):
        if np.isnan(boxes[n, 0]):
            top, left, bottom, right = masks.boxes_yxyx[n]
            boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = left, top, right - left, bottom - top
    return boxes


@kernel
def _areas(table: InstanceTable, numbers: np.ndarray, masks: MaskRuns, boxes: np.ndarray) -> np.ndarray:
    """(N,) areas that are given, or else those of masks, or else of boxes."""
    areas = table.area[numbers]
    for n in range(numbers.size):
        if np.isnan(areas[n]):
            areas[n] = masks.areas[n] if masks.areas.size else boxes[n, 2] * boxes[n, 3]
    return areas


@kernel
def _out_of_range(areas: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """(A, N) bool."""
    out = np.empty((len(ranges), areas.size), np.bool_)
    for a in range(len(ranges)):
        for n in range(areas.size):
            out[a, n] = areas[n] < ranges[a, 0] or areas[n] > ranges[a, 1]
    return out


@kernel
def _note(matches: Matches, row: int, first: int, outcomes: Outcomes) -> None:
    """Keeps what became of an image's detections, of which the first is number ``first`` of all."""
    for d in range(matches.found.size):
        outcomes.found[row, first + d], outcomes.excused[row, first + d] = matches.found[d], matches.excused[d]


@kernel
def _match_masks(
    gt: MaskRuns,
    dt: MaskRuns,
    pairs: Pairs,
    crowd: np.ndarray,
    left_out: np.ndarray,
    place: np.ndarray,
    first: int,
    boundary: int,
    rules: Rules,
    outcomes: Outcomes,
) -> None:
    """Matches an image's detections, of which the first is number ``first`` of all, by masks and by boundaries.

    ``crowd`` (G,), ``left_out`` (A, G) and ``place`` (G,) are those of the image's instances.
    """
    ious = mask_ious(dt, gt, pairs, crowd, rules.thresholds[0])
    out_of_range = _out_of_range(dt.areas.astype(np.float64), rules.area_ranges)
    if rules.wanted[SEGM] or rules.wanted[AF]:
        matches = match(ious, pairs, crowd, left_out, out_of_range, rules.thresholds)
        _note(matches, SEGM, first, outcomes)
        if rules.wanted[AF] and pairs.rows[-1]:
            classes = place[-1] + 1 - place[0]
            columns = place[np.minimum(pairs.first, place.size - 1)] - place[0]
            sums = f_sums(dt, gt, matches.partner, columns, classes)
            outcomes.f_sums[place[0] : place[-1] + 1] = sums
    if rules.wanted[BOUNDARY]:
        least = boundary_ious(dt, gt, pairs, crowd, ious, rules.thresholds[0], boundary)
        matches = match(least, pairs, crowd, left_out, out_of_range, rules.thresholds)
        _note(matches, BOUNDARY, first, outcomes)


@kernel
def _match_image(
    gt: Side, dt: Side, i: int, height: int, width: int, boundary: int, rules: Rules, outcomes: Outcomes
) -> tuple[int, int, int]:
    """Fills the outcomes of image i; see :func:`match_images`."""
    g_numbers, d_numbers = gt.order[gt.first[i] : gt.first[i + 1]], dt.order[dt.first[i] : dt.first[i + 1]]
    pairs = _pair_up(dt.table.column[d_numbers], gt.table.column[g_numbers])
    crowd, place = gt.table.crowd[g_numbers], outcomes.place[gt.first[i] : gt.first[i + 1]]
    has_masks = rules.wanted[SEGM] or rules.wanted[BOUNDARY] or rules.wanted[AF]
    needed = g_numbers if rules.wanted[BBOX] else _needed(pairs, gt.table.area, g_numbers)
    gt_masks, wrong, fault = draw(gt.table.codes, needed[: needed.size if has_masks else 0], height, width)
    if wrong >= 0:
        return 0, needed[wrong], fault
    dt_masks, wrong, fault = draw(dt.table.codes, d_numbers[: d_numbers.size if has_masks else 0], height, width)
    if wrong >= 0:
        return 1, d_numbers[wrong], fault
    gt_boxes, dt_boxes = _boxes(gt.table, g_numbers, gt_masks), _boxes(dt.table, d_numbers, dt_masks)
    left_out = _out_of_range(_areas(gt.table, g_numbers, gt_masks, gt_boxes), rules.area_ranges)
    for g in range(place.size):
        for a in range(len(left_out)):
            left_out[a, g] |= crowd[g]
            outcomes.positives[place[g], a] += not left_out[a, g]
    if has_masks:
        _match_masks(gt_masks, dt_masks, pairs, crowd, left_out, place, dt.first[i], boundary, rules, outcomes)
    if rules.wanted[BBOX]:
        overlaps = box_ious(dt_boxes, gt_boxes, pairs, crowd)
        out_of_range = _out_of_range(dt_boxes[:, 2] * dt_boxes[:, 3], rules.area_ranges)
        matches = match(overlaps, pairs, crowd, left_out, out_of_range, rules.thresholds)
        _note(matches, BBOX, dt.first[i], outcomes)
    return -1, -1, 0


@entry_kernel
def match_images(gt: Side, dt: Side, images: Images, rules: Rules, outcomes: Outcomes) -> tuple[int, int, int]:
    """Fills the outcomes of all images.

    Returns:
        -1, -1 and 0; or of the first damaged mask: 0 for an instance and 1 for a detection, its row, and the fault.
    """
    for i in range(images.height.size):
        wrong = _match_image(gt, dt, i, images.height[i], images.width[i], images.boundary[i], rules, outcomes)
        if wrong[0] >= 0:
            return wrong
    return -1, -1, 0
