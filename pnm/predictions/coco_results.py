"""COCO instance results: a JSON list of detections with masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pnm.formats.coco_instances import EXPECTED_RESULTS, check_result
from pnm.formats.image_files import Key
from pnm.masks.crops import crop_runs
from pnm.masks.runs import decode_masks
from pnm.predictions.image_predictions import Objects
from pnm.predictions.mask_list_json import MaskListPredictions, Size
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import json_changes, mask_changes
from pnm.predictions.refinement_details import Detail


class CocoResultPredictions(MaskListPredictions):
    """``[{"image_id", "category_id", "score", "segmentation", ...}, ...]``, masks as RLE or polygons.

    The refined file has the same entries in the same order, with all that else is in them. "bbox" (the tight box of the
    mask, zeros of an empty one) and "area" follow the mask where an entry has them. A mask that didn't change stays as
    it was written; others become compressed RLEs.

    Args:
        path: as :class:`MaskListPredictions` takes it.
        image_sizes: (height, width) by image id. Needed for images of which there are polygons only.

    Raises:
        FileNotFoundError, UserError: as :class:`MaskListPredictions`; a score isn't finite.
    """

    FORMAT = "COCO results"
    EXPECTED = EXPECTED_RESULTS
    KEY = "image_id"
    POLYGONS = True
    OPTIONS = ("image_sizes",)
    HAS_FIELDS = True
    task = "instance"

    def __init__(self, path: str | Path, *, image_sizes: Mapping[Any, Size] | None = None):
        super().__init__(path, image_sizes)

    def _key_of(self, n: int, entry: Any) -> Key:
        return check_result(self.path, n, entry)[0]

    def read(self, key: Key) -> Objects:
        numbers, size, entries = self._numbers[key], self.size_of(key), self.entries_of(key)
        runs = decode_masks([entry["segmentation"] for entry in entries], *size, lambda n: self._name(numbers[n]))
        masks = tuple(crop_runs(runs, n) for n in range(len(entries)))
        scores = tuple(entry["score"] for entry in entries)
        return Objects(size, masks, scores, tuple(entry["category_id"] for entry in entries))

    def encode(self, key: Key, refined: Any, coarse: Objects) -> Record:
        changes = mask_changes(coarse.masks, refined, coarse.size, f"image {key}")
        return Record(json_changes(changes, coarse.size))

    def with_fields(self, record: Record, details: Sequence[Detail]) -> Record:
        return Record([[*change, one.fields()] for change, one in zip(record.meta, details, strict=True)])
