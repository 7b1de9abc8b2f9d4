"""What JSONs that are a list of masks have in common: entries by image, and the list written anew in its order."""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.formats.image_files import Key
from pnm.formats.json_list import JsonList
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import changed_entry

Size = tuple[int, int]  # (height, width)


class MaskListPredictions(PredictionSet):
    """A list of ``{KEY: ..., "category_id": ..., "segmentation": ..., ...}``.

    The entries stay in the file: parsed, all detections in a training set as large as COCO's take tens of gigabytes.

    Args:
        path: of the file. An empty list is all right.
        image_sizes: (height, width) by image, where they are known.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't such a list, or the size of an image isn't known or not the same in all its RLEs; the
            message names the entry, counted from 0.
    """

    EXPECTED: str
    KEY: str
    POLYGONS: bool  # whether masks may be polygons, too

    def __init__(self, path: str | Path, image_sizes: Mapping[Any, Size] | None = None):
        self.path = Path(path)
        places: dict[Key, int] = {}  # of images, in the order of their first entries
        self._sizes: dict[Key, Size | None] = {}
        place_of_entry = array("q")

        def visit(n: int, entry: Any) -> None:
            key = self._key_of(n, entry)
            if key not in places:
                places[key] = len(places)
                known = (image_sizes or {}).get(key)
                self._sizes[key] = known and (int(known[0]), int(known[1]))
            if entry.get("segmentation") is None:
                raise UserError(f"{self._name(n)} has no segmentation: only masks can be refined, not boxes alone")
            self._settle_size(n, key, self._rle_size(n, entry["segmentation"]), key in (image_sizes or {}))
            place_of_entry.append(places[key])

        self._entries = JsonList(self.path, self.EXPECTED, visit)
        super().__init__(path, places)
        of_entry = np.array(place_of_entry, np.int64)
        order, counts = np.argsort(of_entry, kind="stable"), np.bincount(of_entry, minlength=len(places))
        self._numbers = dict(zip(places, np.split(order, np.cumsum(counts)[:-1])))
        for key, size in self._sizes.items():
            if size is None:
                raise UserError(
                    f"{self._name(self._numbers[key][0])}: image {key} has polygons only, which don't say how large it "
                    "is: give the image sizes (a COCO JSON with the images)"
                )

    def _key_of(self, n: int, entry: Any) -> Key:
        """The image of an entry, whose other values are checked but for what the segmentation holds."""
        raise NotImplementedError

    def _rle_size(self, n: int, segmentation: Any) -> Size | None:
        """What a mask states; None of polygons."""
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size):
            return size[0], size[1]
        if isinstance(segmentation, list):
            if self.POLYGONS:
                return None
            raise UserError(f"{self._name(n)} has polygons, expected an RLE")
        raise UserError(f'{self._name(n)} has no RLE {{"size": [height, width], "counts": ...}}, nor polygons')

    def _settle_size(self, n: int, key: Key, stated: Size | None, known: bool) -> None:
        size = self._sizes[key]
        if stated and size and stated != size:
            source = "the image" if known else "an earlier one"
            raise UserError(
                f"{self._name(n)}: the RLE is of {stated[0]} x {stated[1]} pixels, {source} of {size[0]} x {size[1]}: "
                f"all masks of image {key} must have its size, as [height, width]"
            )
        self._sizes[key] = size or stated

    def _name(self, n: int) -> str:
        return f"{self.path}: entry {n}"

    def size_of(self, key: Key) -> Size:
        """(height, width) of an image."""
        size = self._sizes[key]
        assert size
        return size

    def entries_of(self, key: Key) -> list[dict[str, Any]]:
        """An image's entries.

        Raises:
            KeyError: no such image.
            UserError: the file has been changed meanwhile.
        """
        return list(self._entries.read(self._numbers[key]))

    def inputs(self) -> tuple[Path, ...]:
        return (self.path,)

    def digest(self) -> str:
        return files_digest([self.path])

    def targets(self, output: Path) -> tuple[Path, ...]:
        return (output,)

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        with places[0].open("w", encoding="utf-8") as file:
            file.write("[")
            for n, entry in enumerate(self._refined_entries(record_of)):
                file.write((", " if n else "") + json.dumps(entry))
            file.write("]")

    def _refined_entries(self, record_of: RecordOf) -> Iterator[dict[str, Any]]:
        """All entries in their order; an image's record is held from its first entry to its last."""
        changes: dict[Key, Iterator] = {}
        for n, entry in enumerate(self._entries.read(range(len(self._entries)))):
            key = entry[self.KEY]
            numbers = self._numbers[key]
            if n == numbers[0]:
                record: Record | None = record_of(key)
                changes[key] = iter(record.meta if record else [None] * len(numbers))
            yield changed_entry(entry, next(changes[key]), self.size_of(key))
            if n == numbers[-1]:
                del changes[key]
