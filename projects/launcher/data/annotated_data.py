"""Registered data sets as annotations, to look at."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from pnm.annotations.annotation_set import (
    NO_CLASS,
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Category,
    Segments,
)
from pnm.annotations.image_folder import image_size
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import crop_runs
from pnm.masks.runs import decode_masks

from ...dataset_mappers.panoptic_classes import classes_of
from ...dataset_mappers.panoptic_mapper import segment_numbers


def registered_annotations(name: str, entries: Sequence[dict]) -> AnnotationSet:
    """What a registered data set holds, given its dataset dicts: segments where it has them, else classes, else
    objects."""
    if entries and "segments_info" in entries[0]:
        return _segments(name, entries)
    if entries and "sem_seg_file_name" in entries[0]:
        return _labels(name, entries)
    return _objects(name, entries)


def _set(
    name: str, task: str, categories: Sequence[Category], entries: Sequence[dict], read: Callable[[dict], Any]
) -> AnnotationSet:
    files = [os.path.abspath(entry["file_name"]) for entry in entries]
    folder = Path(os.path.commonpath([os.path.dirname(file) for file in files] or ["."]))
    images = []
    for file, entry in zip(files, entries):
        height, width = (entry[side] for side in ("height", "width")) if "height" in entry else _size(entry)
        images.append(AnnotatedImage(Path(file).relative_to(folder).as_posix(), height, width, raw=entry))
    return AnnotationSet(name, task, tuple(categories), tuple(images), lambda image: read(image.raw), folder)


def _size(entry: dict) -> tuple[int, int]:
    return image_size(Path(entry["file_name"]))


def _labels(name: str, entries: Sequence[dict]) -> AnnotationSet:
    metadata = MetadataCatalog.get(name)
    ignored = metadata.get("ignore_label", 255)

    def read(entry: dict) -> np.ndarray:
        labels = read_label_png(entry["sem_seg_file_name"]).astype(np.int32)
        return np.where(labels == ignored, NO_CLASS, labels)

    return _set(name, "semantic", [Category(text) for text in metadata.stuff_classes], entries, read)


def _segments(name: str, entries: Sequence[dict]) -> AnnotationSet:
    metadata = MetadataCatalog.get(name)
    classes = classes_of(name, metadata)
    categories = [Category(metadata.thing_classes[k], number) for number, k in classes.things]
    categories += [Category(metadata.stuff_classes[~k], number, isthing=False) for number, k in classes.stuff]

    def read(entry: dict) -> Segments:
        rows = entry["segments_info"]
        indices = classes.indices_of_segments(rows, entry["file_name"])
        numbers = segment_numbers(entry, *_size(entry))
        return Segments(
            numbers,
            tuple(
                AnnotatedObject(k, id=n, iscrowd=bool(row.get("iscrowd", 0)))
                for n, (k, row) in enumerate(zip(indices, rows), 1)
            ),
        )

    return _set(name, "panoptic", categories, entries, read)


def _objects(name: str, entries: Sequence[dict]) -> AnnotationSet:
    classes = [Category(text) for text in MetadataCatalog.get(name).get("thing_classes", [])]

    def read(entry: dict) -> tuple[AnnotatedObject, ...]:
        objects = []
        for n, row in enumerate(entry.get("annotations", ()), 1):
            mask = row.get("segmentation")
            is_rle = isinstance(mask, dict)
            crop = crop_runs(decode_masks([mask], entry["height"], entry["width"]), 0) if is_rle else None
            outlines = None if is_rle else tuple(np.asarray(one, np.float64).reshape(-1, 2) for one in mask or ())
            crowd = bool(row.get("iscrowd", 0))
            objects.append(AnnotatedObject(row["category_id"], outlines, crop, id=n, iscrowd=crowd))
        return tuple(objects)

    return _set(name, "instance", classes, entries, read)
