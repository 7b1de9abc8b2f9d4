"""SegFix with stored offsets: predictions of any task refined by what is on disk, without a network."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pnm.interior_offsets.field import InteriorOffsets
from pnm.interior_offsets.shifting import shifted_labels, shifted_mask
from pnm.interior_offsets.stored import OffsetSource, StoredOffsets
from pnm.masks.crops import MaskCrop
from pnm.predictions.certain_changes import mask_confidence, segment_confidences
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement_details import Detailed


class OffsetRefiner:
    """A refining step, see :class:`pnm.predictions.refinement.Step`.

    Args:
        stored: offsets of the images.
        source: how a shift is made of them; by default as they were stored with.
    """

    def __init__(self, stored: StoredOffsets, source: OffsetSource | None = None):
        self.stored = stored
        self.source = replace(source or stored.source, model=stored.source.model)
        self.fingerprint = json.dumps(asdict(self.source))

    def read(self, image_file: Path) -> InteriorOffsets:
        """The offsets of an image file."""
        return self.stored.read(image_file)

    def refine(self, offsets: InteriorOffsets, prediction: Objects | Partition) -> list[MaskCrop] | np.ndarray:
        """A prediction of that image, refined as its writer takes it."""
        return self.refine_detailed(offsets, prediction).refined

    def refine_detailed(self, offsets: InteriorOffsets, prediction: Objects | Partition) -> Detailed:
        """As :meth:`refine`, with confidences, see :mod:`pnm.predictions.certain_changes`."""
        if isinstance(prediction, Objects) and not len(prediction):  # whose size may be unknown
            return Detailed([], {})
        shift, probs = self.source.shift(offsets), offsets.probs
        if isinstance(prediction, Partition):
            labels = shifted_labels(prediction.labels, shift, prediction.segments)
            return Detailed(labels, segment_confidences(prediction.labels, labels, probs, prediction.segments))
        shift.check_size(prediction.size)
        refined = [shifted_mask(crop, shift) for crop in prediction.masks]
        pairs = enumerate(zip(prediction.masks, refined))
        return Detailed(refined, {n: mask_confidence(*pair, probs)[0] for n, pair in pairs})
