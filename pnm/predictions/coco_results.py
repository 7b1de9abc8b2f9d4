"""COCO instance results: a JSON list of detections with masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnm.predictions.image_predictions import Key, Objects
from pnm.predictions.mask_list_json import MaskListPredictions
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import coco_rles, mask_changes
from pnm.user_error import UserError

_LARGEST = 1e300  # score; neither inf, nan nor an integer that no float can hold


class CocoResultPredictions(MaskListPredictions):
    """``[{"image_id", "category_id", "score", "segmentation", ...}, ...]``, masks as RLE or polygons.

    The refined file has the same entries in the same order, with all that else is in them. "bbox" (the tight box of the
    mask, zeros of an empty one) and "area" follow the mask where an entry has them. A mask that didn't change stays as
    it was written; others become compressed RLEs.

    Args:
        path, entries: as :class:`MaskListPredictions` takes them.
        image_sizes: (height, width) by image id. Needed for images of which there are polygons only.

    Raises:
        FileNotFoundError, UserError: as :class:`MaskListPredictions`; a score isn't finite, or the size of an image
            isn't known or not the same in all its RLEs.
    """

    FORMAT = "COCO results"
    EXPECTED = 'COCO results, [{"image_id": ..., "category_id": ..., "segmentation": ..., "score": ...}, ...]'
    KEY, KEY_KINDS = "image_id", (int, str)
    task = "instance"

    def __init__(
        self, path: str | Path, entries: Any = None, *, image_sizes: Mapping[Any, tuple[int, int]] | None = None
    ):
        super().__init__(path, entries)
        self._sizes = {key: self._size(key, (image_sizes or {}).get(key)) for key in self.keys}

    def _key_of(self, path: Path, n: int, entry: Any) -> Key:
        key = super()._key_of(path, n, entry)
        score = entry.get("score")
        if type(score) not in (int, float) or not -_LARGEST <= score <= _LARGEST:
            raise UserError(f"{path}: entry {n} has score {score!r}, expected a finite number")
        return key

    def _size(self, key: Key, known: tuple[int, int] | None) -> tuple[int, int]:
        """Of an image, from its RLEs and from what is ``known``; they have to agree."""
        size, source = known and (int(known[0]), int(known[1])), "the image"
        for n in self._numbers[key]:
            stated = self._rle_size(n)
            size = size or stated
            if stated and stated != size:
                assert size
                raise UserError(
                    f"{self._name(n)}: the RLE is of {stated[0]} x {stated[1]} pixels, {source} of {size[0]} x "
                    f"{size[1]}: all masks of image {key} must have its size, as [height, width]"
                )
            if stated and not known:
                source = "an earlier one"
        if not size:
            raise UserError(
                f"{self._name(self._numbers[key][0])}: image {key} has polygons only, which don't say how large it is: "
                "give the image sizes (a COCO JSON with the images)"
            )
        return size

    def size_of(self, key: Key) -> tuple[int, int]:
        return self._sizes[key]

    def read(self, key: Key) -> Objects:
        numbers, size = self._numbers[key], self._sizes[key]
        entries = [self._entries[n] for n in numbers]
        masks = coco_rles([entry["segmentation"] for entry in entries], size, lambda n: self._name(numbers[n]))
        scores = tuple(entry["score"] for entry in entries)
        return Objects(size, masks, scores, tuple(entry["category_id"] for entry in entries))

    def encode(self, key: Key, refined: Any, coarse: Objects) -> Record:
        return Record(mask_changes(coarse.masks, refined, coarse.size, f"image {key}"))
