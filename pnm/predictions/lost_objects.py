"""No object vanishes by refinement: what would be left without a pixel keeps its mask, and confidence 0 says so.

A refiner that changes the list of segments (PRN) says itself which of them are gone.
"""

from typing import Any

import numpy as np

from pnm.masks.crops import MaskCrop, crop_array
from pnm.masks.lost_segments import with_lost_segments
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
    labels, gone = with_lost_segments(coarse.labels, np.asarray(detailed.refined), coarse.segments)
    return Detailed(labels, {**detailed.confidences, **dict.fromkeys(gone, 0.0)}) if gone else detailed


def _is_empty(mask: Any) -> bool:
    """Of a crop or an array, as refiners give them; what else they give is left to whoever writes it."""
    if isinstance(mask, MaskCrop):
        return not mask.pixels.any()
    return isinstance(mask, np.ndarray) and not crop_array(mask).pixels.size
