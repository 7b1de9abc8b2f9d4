"""No object vanishes by refinement: what would be left without a pixel keeps its mask, and confidence 0 says so.

A refiner that changes the list of segments (PRN) says itself which of them are gone.

An example, in which segment 2 lost its only pixel, and gets it back::

    before      1 1 2 3
    after       1 1 1 3
    result      1 1 2 3      confidences {2: 0.0}
"""

from typing import Any

import numpy as np

from pnm.masks.crops import MaskCrop, crop_array
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement_details import Detailed


def with_lost_objects(coarse: Objects | Partition, detailed: Detailed) -> Detailed:
    """A refined prediction in which each object and segment that had pixels has some."""
    if isinstance(coarse, Objects):
        refined = list(detailed.refined)
        pairs = enumerate(zip(coarse.masks, refined))
        lost = {n: before for n, (before, after) in pairs if before.pixels.any() and _is_empty(after)}
        refined = [lost.get(n, one) for n, one in enumerate(refined)]
        return Detailed(refined, {**detailed.confidences, **dict.fromkeys(lost, 0.0)}) if lost else detailed
    if isinstance(detailed.refined, Partition) or np.shape(detailed.refined) != coarse.labels.shape:
        return detailed  # of another size: told by whoever writes it
    labels, gone = _with_lost_segments(coarse, np.asarray(detailed.refined))
    return Detailed(labels, {**detailed.confidences, **dict.fromkeys(gone, 0.0)}) if gone else detailed


def _is_empty(mask: Any) -> bool:
    """Of a crop or an array, as refiners give them; what else they give is left to whoever writes it."""
    if isinstance(mask, MaskCrop):
        return not mask.pixels.any()
    return isinstance(mask, np.ndarray) and not crop_array(mask).pixels.size


def _with_lost_segments(coarse: Partition, refined: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Labels in which no segment is gone, and those that were; what they get back is no other's only part, or that
    one gets its own back, too."""
    lost: list[int] = []
    if np.array_equal(coarse.labels, refined):
        return refined, lost
    segments = np.asarray(coarse.segments, np.int64)
    had = segments[np.isin(segments, np.unique(coarse.labels))]
    while True:
        gone = had[~np.isin(had, np.unique(refined))]
        if not gone.size:
            return refined, lost
        lost += gone.tolist()
        refined = np.where(np.isin(coarse.labels, gone), coarse.labels, refined).astype(refined.dtype)
