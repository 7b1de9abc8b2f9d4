"""Cityscapes' instance results: for each image a text file that names the PNGs of its masks."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.formats.cityscapes import mask_size, read_cityscapes_predictions, read_mask
from pnm.formats.folders import files_below
from pnm.formats.image_files import Key
from pnm.formats.label_png import read_bytes, read_label_png
from pnm.formats.label_png_rewriting import with_samples
from pnm.masks.crops import MaskCrop, crop_array, paste
from pnm.predictions.image_predictions import Objects
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import mask_changes


class CityscapesPredictions(PredictionSet):
    """A folder of ``*_pred.txt``, in folders of any depth, with lines ``mask.png label_id score``.

    Keys are the text files' paths below the folder, with slashes, sorted. The output is a folder with the same text
    files, byte for byte, and masks of the same names. In a mask that changed, the foreground has the value that was the
    highest before; others keep their files. Of an image without objects, the size isn't known: it is (0, 0).

    Args:
        path: the folder.

    Raises:
        FileNotFoundError: no such folder, or no text file in it.
        UserError: a text file is damaged; a mask lies outside of the folder or is named twice.
    """

    FORMAT = "folder of Cityscapes' *_pred.txt"
    SUFFIXES = (".png", ".txt")
    task = "instance"

    def __init__(self, path: str | Path):
        if not Path(path).is_dir():
            raise FileNotFoundError(f"{path} is not a folder: expected one with *_pred.txt")
        super().__init__(path, files_below(path, "_pred.txt"))
        if not self.keys:
            raise FileNotFoundError(f"{path} has no *_pred.txt in it: check the path")
        self._rows = {key: read_cityscapes_predictions(self.path / str(key), self.path) for key in self.keys}
        self._masks: dict[Key, list[str]] = {}
        users: dict[str, Key] = {}
        for key, rows in self._rows.items():
            self._masks[key] = [self._below(row.mask_path) for row in rows]
            for mask in self._masks[key]:
                if mask in users:
                    raise UserError(f"{users[mask]} and {key} in {path} name the same mask {mask}: expected one line")
                users[mask] = key

    def _below(self, mask: Path) -> str:
        return Path(os.path.relpath(os.path.abspath(mask), os.path.abspath(self.path))).as_posix()

    def read(self, key: Key) -> Objects:
        rows = self._rows[key]
        size = mask_size(rows[0].mask_path) if rows else (0, 0)
        masks = [crop_array(read_mask(row.mask_path, size)) for row in rows]
        return Objects(size, tuple(masks), tuple(row.score for row in rows), tuple(row.label_id for row in rows))

    def inputs(self) -> tuple[Path, ...]:
        return (self.path,)

    def digest(self) -> str:
        masks = ((mask, self.path / mask) for key in self.keys for mask in self._masks[key])
        return files_digest([self.path / str(key) for key in self.keys], masks)

    def targets(self, output: Path) -> tuple[Path, ...]:
        if output.suffix in (".txt", ".png", ".json"):
            raise UserError(f"the output {output} should be a folder, as {self.path} is")
        return (output,)

    def encode(self, key: Key, refined: Any, coarse: Objects) -> Record:
        crops = [change.crop for change in mask_changes(coarse.masks, refined, coarse.size, f"image {key}")]
        blobs = [self._png(mask, crop, coarse.size) for mask, crop in zip(self._masks[key], crops) if crop]
        return Record([crop is not None for crop in crops], tuple(blobs))

    def _png(self, mask: str, crop: MaskCrop, size: tuple[int, int]) -> bytes:
        png, before = read_bytes(self.path / mask), read_label_png(self.path / mask)
        foreground = max(int(before.max()), 1)
        return with_samples(png, paste(crop, *size).astype(np.int64) * foreground)

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        for key in self.keys:
            record = record_of(key)
            _copy(self.path, str(key), places[0])
            blobs = iter(record.blobs if record else ())
            changed = record.meta if record else [False] * len(self._masks[key])
            for mask, is_new in zip(self._masks[key], changed):
                if is_new:
                    _parent(places[0] / mask).write_bytes(next(blobs))
                else:
                    _copy(self.path, mask, places[0])


def _copy(source: Path, name: str, folder: Path) -> None:
    shutil.copyfile(source / name, _parent(folder / name))


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
