"""Where a dataset dict has its label files: semantic label PNGs, and PNGs of segment ids."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SEMANTIC, PANOPTIC = "semantic", "panoptic"
SEGMENT_IDS = "segment_ids_file_name"  # PNG of segment ids without a list of segments, beside semantic labels


class LabelFiles:
    """Finds the label file of a dataset dict. Can be pickled: workers of a data loader take it along."""

    def __init__(self, metadata: Iterable[Any]):
        """
        Args:
            metadata: of the data sets whose dicts are looked at. Those of ``coco_2017_*_panoptic_separated`` don't name
                the panoptic PNG, which is called like the stuff labels.
        """
        roots = [(one.get("sem_seg_root", None), one.get("panoptic_root", None)) for one in metadata]
        self._panoptic_of = {labels: panoptic for labels, panoptic in roots if labels and panoptic}

    def of(self, entry: Mapping[str, Any], kind: str) -> str | None:
        """The file of a kind, ``SEMANTIC`` or ``PANOPTIC``; None if there is none."""
        keys = ("sem_seg_file_name",) if kind == SEMANTIC else ("pan_seg_file_name", SEGMENT_IDS)
        for key in keys:
            if key in entry:
                return str(entry[key])
        labels = Path(entry.get("sem_seg_file_name", ""))
        for root, panoptic in self._panoptic_of.items() if kind == PANOPTIC else ():
            if labels.is_relative_to(root):
                return str(Path(panoptic) / labels.relative_to(root))
        return None
