"""Semantic predictions in a folder of label PNGs."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.formats.folders import label_pngs_below
from pnm.formats.image_files import Key
from pnm.formats.label_png import read_bytes, read_label_png
from pnm.formats.label_png_rewriting import with_samples
from pnm.predictions.image_predictions import Partition, checked_labels
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record


class LabelPngPredictions(PredictionSet):
    """A folder of label PNGs, in folders of any depth: grey with 8 or 16 bits, or palette images, whose indices count.

    Keys are the paths below the folder, with slashes, sorted. Segments are the labels that an image has, in rising
    order; each is its own category. The output is a folder with PNGs of the same paths, bit depths and palettes; an
    image that didn't change keeps its file.

    Args:
        path: the folder.
        ignore_labels: labels that are no class and stay as they are.

    Raises:
        FileNotFoundError: no such folder, or no PNG in it.
    """

    FORMAT = "folder of label PNGs"
    OPTIONS = ("ignore_labels",)
    task = "semantic"

    def __init__(self, path: str | Path, *, ignore_labels: Iterable[int] = (255,)):
        if not Path(path).is_dir():
            raise FileNotFoundError(f"{path} is not a folder: expected one with label PNGs")
        super().__init__(path, label_pngs_below(path))
        if not self.keys:
            raise FileNotFoundError(f"{path} has no label PNG in it: check the path")
        self._ignored = tuple(int(label) for label in ignore_labels)

    def _file(self, key: Key) -> Path:
        if key not in self:
            raise KeyError(key)
        return self.path / str(key)

    def read(self, key: Key) -> Partition:
        labels = read_label_png(self._file(key))
        present = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        segments = tuple(label for label in present if label not in self._ignored)
        return Partition(labels, segments, segments)

    def inputs(self) -> tuple[Path, ...]:
        return (self.path,)

    def digest(self) -> str:
        return files_digest([], ((str(key), self._file(key)) for key in self.keys))

    def targets(self, output: Path) -> tuple[Path, ...]:
        if output.suffix in (".png", ".json"):
            raise UserError(f"the output {output} should be a folder, as {self.path} is")
        return (output,)

    def encode(self, key: Key, refined: Any, coarse: Partition) -> Record:
        labels = checked_labels(coarse, refined, self._ignored, f"image {key}")
        if np.array_equal(labels, coarse.labels):
            return Record(None)
        return Record(None, (with_samples(read_bytes(self._file(key)), labels),))

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        for key in self.keys:
            record, png = record_of(key), places[0] / str(key)
            png.parent.mkdir(parents=True, exist_ok=True)
            if record and record.blobs:
                png.write_bytes(record.blobs[0])
            else:
                shutil.copyfile(self._file(key), png)
