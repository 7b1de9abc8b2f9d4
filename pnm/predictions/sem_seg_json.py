"""Detectron2's semantic results, ``sem_seg_predictions.json``: a JSON list with a mask of each image and class."""

from pathlib import Path
from typing import Any

import numpy as np

from pnm.metrics.semantic_files import MaskEntries, read_labels
from pnm.predictions.image_predictions import Key, Partition, checked_labels
from pnm.predictions.mask_list_json import MaskListPredictions
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import coco_rles, mask_changes
from pnm.user_error import UserError

_NO_CLASS = 0


class SemSegPredictions(MaskListPredictions):
    """``[{"file_name", "category_id", "segmentation"}, ...]``; masks of an image don't overlap.

    Labels are the numbers of an image's entries from 1 on; 0 is where no entry has the pixel. The refined file has the
    same entries in the same order; one whose pixels are gone keeps an empty mask.

    Args:
        path, entries: as :class:`MaskListPredictions` takes them.

    Raises:
        FileNotFoundError, UserError: as :class:`MaskListPredictions`; masks of an image of several sizes, or polygons.
    """

    FORMAT = "Detectron2's sem_seg_predictions.json"
    EXPECTED = '[{"file_name": ..., "category_id": ..., "segmentation": ...}, ...], one for each image and class'
    KEY, KEY_KINDS = "file_name", (str,)
    task = "semantic"

    def __init__(self, path: str | Path, entries: Any = None):
        super().__init__(path, entries)
        for key, (first, *others) in self._numbers.items():
            size = self._rle_size(first)
            if size is None:
                raise UserError(f"{self._name(first)} has polygons, expected an RLE")
            for n in others:
                if self._rle_size(n) != size:
                    raise UserError(f"{self._name(n)}: its mask is no RLE of {size[0]} x {size[1]}, as others of {key}")

    def size_of(self, key: Key) -> tuple[int, int]:
        size = self._rle_size(self._numbers[key][0])
        assert size
        return size

    def read(self, key: Key) -> Partition:
        numbers = self._numbers[key]
        masks = [
            {"number": n, "category_id": k, "segmentation": self._entries[n]["segmentation"]}
            for k, n in enumerate(numbers)
        ]
        places = read_labels(MaskEntries(self.path, str(key), masks), range(len(numbers)))
        categories = tuple(self._entries[n]["category_id"] for n in numbers)
        return Partition(places + 1, tuple(range(1, len(numbers) + 1)), categories)

    def encode(self, key: Key, refined: Any, coarse: Partition) -> Record:
        labels = checked_labels(coarse, refined, (_NO_CLASS,), f"image {key}")
        before = coco_rles(_masks(coarse, coarse.labels), coarse.size, str)
        return Record(mask_changes(before, _masks(coarse, labels), coarse.size, f"image {key}"))


def _masks(partition: Partition, labels: np.ndarray) -> list[np.ndarray]:
    return [labels == segment for segment in partition.segments]
