"""How sure a refiner is of what it changed, and changes of which it is sure enough.

A confidence is the mean probability of the new label over the pixels that an object or a segment lost or took, and 1
where none did. BPR's probability is that of its patches, averaged; SegFix's is that of a boundary, where labels move;
PRN's is that of the new segment's class. The universal refiner states another one, see
:mod:`pnm.object_refinement.belief`.

An example, probabilities in tenths; segment 1 lost a pixel of 8 and one of 6, 3 took the first, 2 the other::

    before      1 1 1 2
    after       1 3 2 2
    tenths      . 8 6 .      confidences {1: 0.7, 2: 0.6, 3: 0.8}
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pnm.formats.coco_panoptic import VOID
from pnm.masks.crops import MaskCrop
from pnm.metrics.segment_pairs import count_pairs
from pnm.predictions.image_predictions import Partition


class CertainLabels(NamedTuple):
    """A label map refined.

    Attributes:
        refined: (H, W) integers; of a refiner that changes the list of segments a Partition.
        probs: (H, W) float32, of a pixel's new label where that is another than before, 0 to 1.
    """

    refined: np.ndarray | Partition
    probs: np.ndarray


def segment_confidences(
    before: np.ndarray, after: np.ndarray, probs: np.ndarray, segments: Sequence[int]
) -> dict[int, float]:
    """The confidence of each segment by its label, see the module's head.

    Args:
        before, after: (H, W) integers, the same label being the same segment.
        probs: see :class:`CertainLabels`.
    """
    changed = before != after
    totals, numbers = dict.fromkeys(segments, 0.0), dict.fromkeys(segments, 0)
    for labels in (before[changed], after[changed]):
        kinds, places = np.unique(labels, return_inverse=True)
        sums = np.bincount(places, probs[changed], len(kinds))
        for kind, total, number in zip(kinds.tolist(), sums.tolist(), np.bincount(places, minlength=len(kinds))):
            if kind in totals:
                totals[kind] += total
                numbers[kind] += int(number)
    return {k: min(1.0, totals[k] / numbers[k]) if numbers[k] else 1.0 for k in totals}


def mask_confidence(before: MaskCrop, after: MaskCrop, probs: np.ndarray) -> tuple[float, int]:
    """The confidence of an object, see the module's head, and how many pixels it lost or took.

    Args:
        before, after: masks in the image that ``probs`` (H, W) is of.
    """
    full = [crop for crop in (before, after) if crop.pixels.size]
    if not full:
        return 1.0, 0
    top, left = min(crop.top for crop in full), min(crop.left for crop in full)
    bottom = max(crop.top + crop.pixels.shape[0] for crop in full)
    right = max(crop.left + crop.pixels.shape[1] for crop in full)
    changed = np.zeros((bottom - top, right - left), np.bool_)
    for crop in full:
        rows, columns = crop.pixels.shape
        changed[crop.top - top : crop.top - top + rows, crop.left - left : crop.left - left + columns] ^= crop.pixels
    of_changed = probs[top:bottom, left:right][changed]
    return (float(of_changed.mean(dtype=np.float64)) if of_changed.size else 1.0), int(of_changed.size)


def sure_changes(coarse: Partition, refined: Partition, probs: np.ndarray, least: float) -> CertainLabels:
    """A panoptic map with other segments, of which pixels stay as they were unless their new label is probable enough.

    A segment that is the same as before but for its class changes as a whole or not at all: the mean of its pixels'
    probabilities decides. Of others that are gone pixels may be left, of new ones some may be missing.

    Args:
        coarse: the map before; 0 is void.
        refined: in its ids, as :func:`pnm.predictions.relisting.with_kept_ids` gives it.
        probs: (H, W) float32, of each pixel's label in ``refined``.
        least: what a probability must exceed.

    Returns:
        A Partition with, in order, the segments of ``coarse`` and of ``refined`` that have pixels; probabilities of the
        labels that pixels have then.
    """
    probs = _by_whole_segments(coarse, refined, probs)
    before = np.where(np.isin(coarse.labels, coarse.segments), coarse.labels, VOID).astype(refined.labels.dtype)
    changes = (probs > least) | (before == refined.labels)
    labels = np.where(changes, refined.labels, before)
    category = dict(zip(coarse.segments, coarse.categories)) | dict(zip(refined.segments, refined.categories))
    present = set(np.unique(labels).tolist())
    rows = [(label, kind) for label, kind in category.items() if label in present]
    partition = Partition(labels, tuple(label for label, _ in rows), tuple(kind for _, kind in rows))
    return CertainLabels(partition, np.where(changes, probs, 1 - probs))


def _by_whole_segments(coarse: Partition, refined: Partition, probs: np.ndarray) -> np.ndarray:
    """Probabilities in which a pixel that changes its segment's class only has the mean of all of these."""
    probs = probs.copy()
    counts = count_pairs(coarse.labels, refined.labels)
    pairs = list(zip(counts.gt.tolist(), counts.pred.tolist(), counts.shared.tolist()))
    old = {label: sum(n for a, _, n in pairs if a == label) for label in coarse.segments}
    new = {label: sum(n for _, b, n in pairs if b == label) for label in refined.segments}
    for a, b, shared in pairs:
        if a in old and b in new and a != b and 2 * shared > old[a] + new[b] - shared:
            both = (coarse.labels == a) & (refined.labels == b)
            probs[both] = probs[both].mean()
    return probs
