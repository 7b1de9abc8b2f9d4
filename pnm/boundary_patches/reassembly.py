"""Masks and label maps put together from refined boundary patches (BPR: Hu et al., IJCV 2022, sections 3.2 and 3.3).

The probability of foreground is averaged over the patches that cover a pixel; above 0.5 it is foreground. Pixels that
no patch covers keep what they had. With ``least`` above 0.5 a pixel changes only if its other label's average exceeds
it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel
from pnm.masks.crops import MaskCrop


def _check(corners: np.ndarray, foreground: np.ndarray) -> None:
    if corners.ndim != 2 or corners.shape[1] != 2 or corners.dtype != np.int32:
        raise UserError(f"corners are {corners.shape} {corners.dtype}, expected (N, 2) int32 as from boundary_patches")
    square = foreground.ndim == 3 and foreground.shape[1] == foreground.shape[2]
    if not square or len(foreground) != len(corners) or foreground.dtype != np.float32:
        raise UserError(
            f"probabilities are {foreground.shape} {foreground.dtype}, expected ({len(corners)}, size, size) float32"
        )


@entry_kernel
def _add_patches(
    corners: np.ndarray, foreground: np.ndarray, top: int, left: int, sums: np.ndarray, counts: np.ndarray
) -> None:
    """Adds each patch to the region whose first pixel is (top, left); what lies outside it is left out."""
    rows, columns = sums.shape
    size = foreground.shape[1]
    for n in range(len(corners)):
        y0, x0 = corners[n, 0] - top, corners[n, 1] - left
        width = min(size, columns - x0)
        for y in range(min(size, rows - y0)):
            total, number, patch = sums[y0 + y, x0 : x0 + width], counts[y0 + y, x0 : x0 + width], foreground[n, y]
            for x in range(width):
                total[x] += patch[x]
                number[x] += 1


def _summed(
    corners: np.ndarray, foreground: np.ndarray, region: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the patches, float32, and their number at each pixel, uint16, in a rectangle of the image."""
    top, left, bottom, right = region
    sums, counts = np.zeros((bottom - top, right - left), np.float32), np.zeros((bottom - top, right - left), np.uint16)
    _add_patches(np.ascontiguousarray(corners), np.ascontiguousarray(foreground), top, left, sums, counts)
    return sums, counts


@entry_kernel
def _decide(sums: np.ndarray, counts: np.ndarray, mask: np.ndarray, least: float, certainties: np.ndarray) -> int:
    """Changes pixels whose other label's average exceeds ``least``: sums over that share of the count.

    Returns how many have changed, and writes the sum of these averages to ``certainties`` (1,)."""
    on, off = np.float32(least), np.float32(1) - np.float32(least)
    changed, certainty = 0, 0.0
    flips = np.empty(mask.shape[1], np.uint8)
    for y in range(mask.shape[0]):
        total, number, row, any_flip = sums[y], counts[y], mask[y], np.uint8(0)
        for x in range(row.size):  # in the processor's vectors
            refined = total[x] > (off if row[x] else on) * np.float32(number[x])
            flips[x] = np.uint8(refined != row[x]) & np.uint8(number[x] != 0)
            any_flip |= flips[x]
        if any_flip == 0:
            continue
        for x in range(row.size):
            if flips[x]:
                average = total[x] / np.float32(number[x])
                certainty += 1 - average if row[x] else average
                changed += 1
                row[x] = not row[x]
    certainties[0] = certainty
    return changed


def _region(corners: np.ndarray, size: int, crop: MaskCrop, height: int, width: int) -> tuple[int, int, int, int]:
    """Rectangle (top, left, bottom, right) of the image that holds the crop and all patches."""
    (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0) + size
    h, w = crop.pixels.shape
    if h:
        top, left, bottom, right = (
            min(top, crop.top),
            min(left, crop.left),
            max(bottom, crop.top + h),
            max(right, crop.left + w),
        )
    return int(top), int(left), min(int(bottom), height), min(int(right), width)


class Reassembled(NamedTuple):
    """What became of a mask.

    Attributes:
        crop: the refined mask; its rectangle may be larger than its foreground.
        confidence: mean probability of the new label over the pixels that changed, 1 if none has, 0 to 1.
        changed: number of pixels that differ.
    """

    crop: MaskCrop
    confidence: float
    changed: int


def check_least(least: float) -> None:
    """A UserError unless ``least`` is a probability from which a pixel may change."""
    if isinstance(least, bool) or not 0.5 <= least <= 1:
        raise UserError(f"the least probability of a change is {least!r}, expected 0.5 to 1 (nothing changes)")


def reassemble(crop: MaskCrop, corners: np.ndarray, foreground: np.ndarray, height: int, width: int) -> MaskCrop:
    """The mask of :func:`reassembled`, a pixel getting its likelier label."""
    return reassembled(crop, corners, foreground, height, width).crop


def reassembled(
    crop: MaskCrop, corners: np.ndarray, foreground: np.ndarray, height: int, width: int, least: float = 0.5
) -> Reassembled:
    """A mask with its patches replaced.

    Args:
        crop: coarse mask in an image of height x width.
        corners: (N, 2) int32 of :func:`pnm.boundary_patches.extraction.boundary_patches`.
        foreground: (N, size, size) float32, probability of foreground in each box.
        least: probability that a pixel's other label must exceed, 0.5 to 1.
    """
    _check(corners, foreground)
    check_least(least)
    if not len(corners) or least == 1:
        return Reassembled(crop, 1.0, 0)
    top, left, *_ = region = _region(corners, foreground.shape[1], crop, height, width)
    sums, counts = _summed(corners, foreground, region)
    mask, (h, w) = np.zeros(sums.shape, np.bool_), crop.pixels.shape
    mask[crop.top - top : crop.top - top + h, crop.left - left : crop.left - left + w] = crop.pixels
    certainties = np.empty(1)
    changed = _decide(sums, counts, mask, float(least), certainties)
    return Reassembled(MaskCrop(mask, top, left), float(certainties[0]) / changed if changed else 1.0, changed)


@entry_kernel
def _claim(
    labels: np.ndarray,
    segment: int,
    top: int,
    left: int,
    sums: np.ndarray,
    counts: np.ndarray,
    best: np.ndarray,
    owner: np.ndarray,
    refined: np.ndarray,
    least: float,
) -> None:
    """Lets a segment claim the pixels of its region where its average is the highest so far and over 0.5, or over
    ``least`` where another segment has them.

    ``refined`` marks the pixels that the segment has in ``labels`` and a patch of its own covers.
    """
    own = labels.dtype.type(segment)
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            if counts[y, x] == 0:
                continue
            average = sums[y, x] / np.float32(counts[y, x])
            mine = labels[top + y, left + x] == own
            if mine:
                refined[top + y, left + x] = True
            held = best[top + y, left + x]
            if average > np.float32(0.5 if mine else least) and (average > held or (average == held and mine)):
                best[top + y, left + x], owner[top + y, left + x] = average, own


@entry_kernel
def _settle(
    labels: np.ndarray,
    sorted_segments: np.ndarray,
    best: np.ndarray,
    owner: np.ndarray,
    refined: np.ndarray,
    out: np.ndarray,
) -> None:
    """``out``: the owner of each claimed pixel, unless its label is a segment that no own patch covers there."""
    height, width = labels.shape
    label, kept = labels[0, 0], False
    for y in range(height):
        for x in range(width):
            if labels[y, x] != label or x + y == 0:
                label = labels[y, x]
                at = np.searchsorted(sorted_segments, np.int64(label))
                kept = at == sorted_segments.size or sorted_segments[at] != label
            may_change = kept or refined[y, x]
            out[y, x] = owner[y, x] if may_change and best[y, x] > 0 else label


class ReassembledPartition(NamedTuple):
    """What became of a label map.

    Attributes:
        labels: (H, W) of the same type; no label that was not there.
        probs: (H, W) float32, the averaged probability of a pixel's new label where that is another than before.
    """

    labels: np.ndarray
    probs: np.ndarray


def reassemble_partition(
    labels: np.ndarray,
    segments: Sequence[int],
    patches: Iterable[tuple[np.ndarray, np.ndarray]],
    least: float = 0.5,
) -> np.ndarray:
    """The labels of :func:`reassembled_partition`."""
    return reassembled_partition(labels, segments, patches, least).labels


def reassembled_partition(
    labels: np.ndarray,
    segments: Sequence[int],
    patches: Iterable[tuple[np.ndarray, np.ndarray]],
    least: float = 0.5,
) -> ReassembledPartition:
    """A label map with the patches of its segments replaced (section 3.3).

    Every segment is refined as a mask of its own. A pixel that several claim goes to the one with the highest average,
    of equal ones to that which had it, or else the first; one that nobody claims keeps its label. A segment's pixel
    outside its own patches was not refined and stays. Pixels of other labels, such as void, can be claimed.

    Args:
        labels: (H, W) integers.
        segments: the labels that were refined.
        patches: of each segment, corners (N, 2) int32 and probabilities of foreground (N, size, size) float32.
        least: average that a segment must exceed to take a pixel from another, 0.5 to 1.
    """
    check_least(least)
    labels = np.ascontiguousarray(labels)
    height, width = labels.shape
    best, owner = np.zeros(labels.shape, np.float32), labels.copy()
    refined = np.zeros(labels.shape, np.bool_)
    for segment, (corners, foreground) in zip(segments, patches, strict=True):
        _check(corners, foreground)
        if not len(corners):
            continue
        nothing = MaskCrop(np.zeros((0, 0), np.bool_), 0, 0)
        top, left, *_ = region = _region(corners, foreground.shape[1], nothing, height, width)
        sums, counts = _summed(corners, foreground, region)
        _claim(labels, labels.dtype.type(segment), top, left, sums, counts, best, owner, refined, float(least))
    out = np.empty_like(labels)
    _settle(labels, np.sort(np.asarray(segments, np.int64)), best, owner, refined, out)
    return ReassembledPartition(out, best)
