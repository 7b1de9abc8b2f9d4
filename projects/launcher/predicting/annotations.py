"""A folder of predictions as annotations, for people to correct in the tool that they know."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat
from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotatedObject, AnnotationSet, Segments
from pnm.annotations.other_tasks import as_task
from pnm.formats.atomic_files import atomic_folder
from pnm.formats.folders import stem
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.masks.crops import crop_runs
from pnm.masks.runs import decode_masks
from pnm.predictions.result_folder import FOLDERS, ResultFolder

_NAME = "predictions"


def predicted_annotations(results: ResultFolder, min_score: float, folder: Path | None) -> AnnotationSet:
    """What a folder holds as annotations.

    Args:
        min_score: objects below are left out.
        folder: of the image files.
    """
    sizes = {image.name: results.stored(image.name).size for image in results.images if image.name in results.done}
    images = [
        AnnotatedImage(image.name, *sizes[image.name], id=image.id) for image in results.images if image.name in sizes
    ]
    places = {category.id: place for place, category in enumerate(results.categories)}

    def read(image: AnnotatedImage) -> Any:
        if results.task == "semantic":
            return _labels(results, image)
        rows = results.stored(image.name).rows
        objects = tuple(AnnotatedObject(places[row["category_id"]], id=row["id"]) for row in rows if "id" in row)
        if results.task == "panoptic":
            path = results.folder / FOLDERS["panoptic"] / f"{stem(image.name)}.png"
            return Segments(read_panoptic_png(path), objects)
        return tuple(_object(row, image, places) for row in rows if row["score"] >= min_score)

    return AnnotationSet(_NAME, results.task, tuple(results.categories), tuple(images), read, folder)


def _labels(results: ResultFolder, image: AnnotatedImage) -> np.ndarray:
    labels = read_label_png(results.folder / FOLDERS["semantic"] / f"{stem(image.name)}.png").astype(np.int32)
    return np.where(labels < len(results.categories), labels, NO_CLASS)


def _object(row: Mapping[str, Any], image: AnnotatedImage, places: Mapping[Any, int]) -> AnnotatedObject:
    crop = crop_runs(decode_masks([row["segmentation"]], *image.size), 0)
    return AnnotatedObject(places[row["category_id"]], crop=crop, score=row["score"])


def write_annotations(annotations: AnnotationSet, form: AnnotationFormat, folder: Path) -> None:
    """Writes a format, in its own task where it doesn't take the predictions'; replaces what an earlier run wrote."""
    task = annotations.task if annotations.task in form.writes else form.writes[0]
    with atomic_folder(folder, overwrite=True) as new:
        form.write({"": as_task(annotations, task)}, new)
