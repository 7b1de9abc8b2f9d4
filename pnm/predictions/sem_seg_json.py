"""Detectron2's semantic results, ``sem_seg_predictions.json``: a JSON list with a mask of each image and class."""

from pathlib import Path
from typing import Any

from pnm.formats.image_files import Key
from pnm.formats.semantic_maps import EXPECTED_MASKS, MaskEntries, check_mask_entry, read_labels
from pnm.masks.crops import crop_segments
from pnm.predictions.image_predictions import Partition, checked_labels
from pnm.predictions.mask_list_json import MaskListPredictions
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import json_changes, mask_changes

_NO_CLASS = 0


class SemSegPredictions(MaskListPredictions):
    """``[{"file_name", "category_id", "segmentation"}, ...]``; masks of an image don't overlap.

    Labels are the numbers of an image's entries from 1 on; 0 is where no entry has the pixel. The refined file has the
    same entries in the same order; one whose pixels are gone keeps an empty mask.

    Args:
        path: as :class:`MaskListPredictions` takes it.

    Raises:
        FileNotFoundError, UserError: as :class:`MaskListPredictions`; a mask is polygons.
    """

    FORMAT = "Detectron2's sem_seg_predictions.json"
    EXPECTED = EXPECTED_MASKS
    KEY = "file_name"
    POLYGONS = False
    task = "semantic"

    def __init__(self, path: str | Path):
        super().__init__(path)

    def _key_of(self, n: int, entry: Any) -> Key:
        return check_mask_entry(self.path, n, entry)[0]

    def read(self, key: Key) -> Partition:
        entries = self.entries_of(key)
        masks = [
            {"number": n, "category_id": k, "segmentation": entry["segmentation"]}
            for k, (n, entry) in enumerate(zip(self._numbers[key].tolist(), entries))
        ]
        places = read_labels(MaskEntries(self.path, str(key), masks), range(len(entries)))
        categories = tuple(entry["category_id"] for entry in entries)
        return Partition(places + 1, tuple(range(1, len(entries) + 1)), categories)

    def encode(self, key: Key, refined: Any, coarse: Partition) -> Record:
        labels = checked_labels(coarse, refined, (_NO_CLASS,), f"image {key}")
        before, after = (crop_segments(of, coarse.segments) for of in (coarse.labels, labels))
        return Record(json_changes(mask_changes(before, after, coarse.size, f"image {key}"), coarse.size))
