"""What JSONs that are a list of masks have in common: entries by image, and the list written anew in its order."""

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pnm.coco_files import read_json
from pnm.predictions.image_predictions import Key
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import changed_entry
from pnm.user_error import UserError


class MaskListPredictions(PredictionSet):
    """A list of ``{KEY: ..., "category_id": ..., "segmentation": ..., ...}``, which is kept as parsed JSON.

    Args:
        path: of the file. An empty list is all right.
        entries: its content, where it has been read before.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it isn't such a list; the message names the entry, counted from 0.
    """

    EXPECTED: str
    KEY: str
    KEY_KINDS: tuple[type[int] | type[str], ...]

    def __init__(self, path: str | Path, entries: Any = None):
        path = Path(path)
        entries = read_json(path, self.EXPECTED) if entries is None else entries
        if not isinstance(entries, list):
            raise UserError(f"{path} is not a list: expected {self.EXPECTED}")
        self._entries: list[dict[str, Any]] = entries
        self._numbers: dict[Key, list[int]] = {}
        for n, entry in enumerate(entries):
            self._numbers.setdefault(self._key_of(path, n, entry), []).append(n)
        super().__init__(path, self._numbers)

    def _key_of(self, path: Path, n: int, entry: Any) -> Key:
        """The image of an entry, whose other values are checked but for what the segmentation holds."""
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {n} is {str(entry)[:80]}: expected {self.EXPECTED}")
        key, category, segmentation = entry.get(self.KEY), entry.get("category_id"), entry.get("segmentation")
        if not isinstance(key, self.KEY_KINDS) or isinstance(key, bool):
            raise UserError(f"{path}: entry {n} has {self.KEY} {key!r}: expected {self.EXPECTED}")
        if type(category) is not int:
            raise UserError(f"{path}: entry {n} has category_id {category!r}: expected a whole number")
        if segmentation is None:
            raise UserError(f"{path}: entry {n} has no segmentation: only masks can be refined, not boxes alone")
        return key

    def _rle_size(self, n: int) -> tuple[int, int] | None:
        """(height, width) that an entry's mask states; None of polygons."""
        segmentation = self._entries[n]["segmentation"]
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size):
            return size[0], size[1]
        if isinstance(segmentation, list):
            return None
        raise UserError(f'{self._name(n)} has no RLE {{"size": [height, width], "counts": ...}}, nor polygons')

    def _name(self, n: int) -> str:
        return f"{self.path}: entry {n}"

    @abstractmethod
    def size_of(self, key: Key) -> tuple[int, int]:
        """(height, width) of an image."""

    def inputs(self) -> tuple[Path, ...]:
        return (self.path,)

    def digest(self) -> str:
        return files_digest([self.path])

    def targets(self, output: Path) -> tuple[Path, ...]:
        return (output,)

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        with places[0].open("w") as file:
            file.write("[")
            for n, entry in enumerate(self._refined_entries(record_of)):
                file.write((", " if n else "") + json.dumps(entry))
            file.write("]")

    def _refined_entries(self, record_of: RecordOf) -> Iterator[dict[str, Any]]:
        """All entries in their order; an image's record is held from its first entry to its last."""
        changes: dict[Key, Iterator] = {}
        for n, entry in enumerate(self._entries):
            key = entry[self.KEY]
            numbers = self._numbers[key]
            if n == numbers[0]:
                record: Record | None = record_of(key)
                changes[key] = iter(record.meta if record else [None] * len(numbers))
            yield changed_entry(entry, next(changes[key]), self.size_of(key))
            if n == numbers[-1]:
                del changes[key]
