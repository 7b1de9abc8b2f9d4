"""People's own annotations, in any known format, as what is to be refined; they come back in the same format."""

import shutil
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat
from pnm.annotations.annotation_set import (
    NO_CLASS,
    NO_SEGMENT,
    AnnotatedImage,
    AnnotationSet,
    Segments,
    object_masks,
)
from pnm.errors import UserError
from pnm.formats.image_files import Key
from pnm.masks.crops import crop_runs
from pnm.masks.runs import decode_masks
from pnm.predictions.image_predictions import Objects, Partition, checked_labels
from pnm.predictions.prediction_set import PredictionSet, RecordOf, files_digest
from pnm.predictions.records import Record
from pnm.predictions.refined_masks import json_changes, mask_changes

Content = tuple | np.ndarray | Segments


class AnnotatedFiles(PredictionSet):
    """Annotations as predictions, with score 1 where they have none.

    Keys are the images' names. The output is of the same format: a file of the same kind, or a folder. Objects keep
    their ids, attributes and order, and polygons that a refiner left alone stay polygons; the others' masks become
    pixels, or, where the format has polygons only, outlines of pixels.

    Args:
        annotations: that were read.
        form: their format.
        path: the file or folder that they are in.
    """

    SUFFIXES = (".json", ".xml", ".yaml", ".txt", ".png")
    KEEPS_BROKEN = False  # all is read again to write it

    def __init__(self, annotations: AnnotationSet, form: AnnotationFormat, path: Path):
        if annotations.task not in form.writes:
            raise UserError(f"{path}: {form.words} can be read, but not written: convert them (pnm convert)")
        super().__init__(path, [image.name for image in annotations.images])
        self.task, self.FORMAT = annotations.task, form.words
        self._annotations, self._form = annotations, form
        self._image_of: dict[Key, AnnotatedImage] = {image.name: image for image in annotations.images}

    def read(self, key: Key) -> Objects | Partition:
        image = self._image_of[key]
        content = self._annotations.read(image)
        if isinstance(content, np.ndarray):
            present = tuple(k for k in np.unique(content).tolist() if k != NO_CLASS)
            return Partition(content, present, present)
        if isinstance(content, Segments):
            ids = tuple(int(thing.id) for thing in content.segments)  # type: ignore[arg-type]
            return Partition(content.ids, ids, tuple(thing.category for thing in content.segments))
        scores = tuple(1.0 if thing.score is None else thing.score for thing in content)
        masks = tuple(object_masks(image, content))
        return Objects(image.size, masks, scores, tuple(thing.category for thing in content))

    def inputs(self) -> tuple[Path, ...]:
        return (self.path,)

    def digest(self) -> str:
        files = sorted(path for path in self.path.rglob("*") if path.is_file()) if self.path.is_dir() else [self.path]
        return files_digest([], ((str(path), path) for path in files))

    def targets(self, output: Path) -> tuple[Path, ...]:
        is_file = self.path.is_file() and not self._form.is_folder
        if is_file and output.suffix.lower() != self.path.suffix.lower():
            raise UserError(f"the output {output} should be named *{self.path.suffix}, as {self.path} is")
        if not is_file and output.suffix.lower() in self.SUFFIXES:
            raise UserError(f"the output {output} should be a folder: {self.FORMAT}")
        return (output,)

    def may_write(self, path: Path) -> bool:
        names = {file.name for file in self.path.rglob("*")} if self.path.is_dir() else {path.name}
        return path.suffix in self.SUFFIXES and path.name in names

    def encode(self, key: Key, refined: Any, coarse: Objects | Partition) -> Record:
        if isinstance(coarse, Objects):
            changes = mask_changes(coarse.masks, refined, coarse.size, f"image {key}")
            return Record(json_changes(changes, coarse.size))
        labels = checked_labels(coarse, refined, (NO_CLASS, NO_SEGMENT), f"image {key}")
        if np.array_equal(labels, coarse.labels):
            return Record(None)
        return Record("labels", (zlib.compress(labels.astype("<i4").tobytes()),))

    def assemble(self, places: Sequence[Path], record_of: RecordOf) -> None:
        def read(image: AnnotatedImage) -> Content:
            content, record = self._annotations.read(image), record_of(image.name)
            return content if record is None else _changed(content, record, image)

        whole = {"": replace(self._annotations, read=read)}
        if self.path.is_dir():
            places[0].mkdir()
            self._form.write(whole, places[0])
            return
        with tempfile.TemporaryDirectory(dir=places[0].parent) as folder:
            self._form.write(whole, Path(folder))
            made = [path for path in Path(folder).iterdir() if path.suffix == self.path.suffix.lower()]
            shutil.copyfile(made[0], places[0])


def _changed(content: Content, record: Record, image: AnnotatedImage) -> Content:
    """What a record says of what is on an image."""
    if isinstance(content, tuple) and not isinstance(content, Segments):
        changes = [change[0] for change in record.meta]
        new = [None if text is None else {"size": list(image.size), "counts": text} for text in changes]
        return tuple(
            thing if rle is None else thing.with_crop(crop_runs(decode_masks([rle], *image.size), 0))
            for thing, rle in zip(content, new, strict=True)
        )
    if record.meta is None:
        return content
    labels = np.frombuffer(zlib.decompress(record.blobs[0]), "<i4").reshape(image.size).astype(np.int32)
    if isinstance(content, Segments):
        present = set(np.unique(labels).tolist())
        return Segments(labels, tuple(thing for thing in content.segments if thing.id in present))
    return labels
