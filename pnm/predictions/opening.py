"""Opens predictions of any format that is known here."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import TASKS
from pnm.annotations.known_formats import FORMATS, format_named, format_of, read_annotations
from pnm.errors import UserError
from pnm.formats.coco_instances import read_json
from pnm.formats.folders import files_below
from pnm.formats.json_list import first_item, is_list
from pnm.predictions.annotated_files import AnnotatedFiles
from pnm.predictions.cityscapes_instances import CityscapesPredictions
from pnm.predictions.coco_panoptic import PanopticPredictions
from pnm.predictions.coco_results import CocoResultPredictions
from pnm.predictions.label_folder import LabelPngPredictions
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.sem_seg_json import SemSegPredictions

_OF_DETECTRON2 = ("coco_instances_results.json", "sem_seg_predictions.json", "predictions.json")
_FORMATS = (
    ' COCO results (a JSON list of {"image_id", "category_id", "segmentation", "score"}); Cityscapes instance results '
    "(a folder of *_pred.txt and masks); a folder of label PNGs; Detectron2's sem_seg_predictions.json; COCO panoptic "
    'JSON ({"annotations": [{"image_id", "file_name", "segments_info"}]}) with its folder of PNGs; annotations in '
    f"the formats {', '.join(FORMATS)}"
)
# Folders that are taken for annotations without being told: the others are label PNGs, too.
_FOLDERS = {name for name, one in FORMATS.items() if one.is_folder} - {"label-pngs", "cityscapes", "ade20k"}


def told_task(path: str | Path, task: str | None = None, annotations: str | None = None) -> str:
    """The task of predictions in files, told from what is there.

    Args:
        path: as of :func:`open_predictions`.
        task: what it is known, or wanted, to be.
        annotations: as of :func:`open_predictions`.

    Raises:
        FileNotFoundError, UserError: as :func:`open_predictions` for a path that is no prediction, or one of another
            task.
    """
    kind = None if annotations else _kind_of(Path(path), task)[0]
    if kind not in (None, AnnotatedFiles):
        return kind.task
    return task or (format_named(annotations) if annotations else format_of(Path(path))).reads[0]


def open_predictions(
    path: str | Path,
    task: str | None = None,
    *,
    known_sizes: Mapping[Any, tuple[int, int]] | None = None,
    annotations: str | None = None,
    source: Source | None = None,
    **options: Any,
) -> PredictionSet:
    """Predictions in files, whose format is told from what is there.

    Args:
        path: a JSON file, or a folder of label PNGs or of Cityscapes' ``*_pred.txt``.
        task: "instance", "semantic" or "panoptic", where it is known. Of a folder that has both text files and PNGs,
            it decides what is read: without, the text files.
        known_sizes: (height, width) of images by id, for a format that has an option ``image_sizes``.
        annotations: name of the format of annotations that they are in; by default it is told from what is there.
        source: what is said of annotations beside their path: folder of images, classes, split.
        options: of the format: ``image_sizes`` of COCO results with polygons, ``png_folder`` of panoptic predictions,
            ``ignore_labels`` of label PNGs.

    Returns:
        Predictions; an empty JSON list is one of no image.

    Raises:
        FileNotFoundError: there is no such file or folder.
        UserError: none of the formats, or of another task; an option that the format doesn't have; what the format's
            class raises. The message lists the formats.
    """
    path = Path(path)
    if annotations == PanopticPredictions.ANNOTATIONS and task in (None, PanopticPredictions.task):
        annotations = None  # which also lets a refiner change the list of segments
    kind, content = (AnnotatedFiles, None) if annotations else _kind_of(path, task)
    if kind is AnnotatedFiles:
        if options:
            raise UserError(f"{path} holds annotations, for which there is no option {', '.join(sorted(options))}")
        return _annotated(path, annotations, replace(source or Source(path), path=path, task=task))
    strange = sorted(set(options) - set(kind.OPTIONS))
    if strange:
        raise UserError(f"{path} is a {kind.FORMAT}, for which there is no option {', '.join(strange)}")
    if known_sizes and "image_sizes" in kind.OPTIONS:
        options.setdefault("image_sizes", known_sizes)
    return kind(path, **options, **({} if content is None else {"content": content}))


def _kind_of(path: Path, task: str | None) -> tuple[type[PredictionSet], Any]:
    """The class, and what the file holds where it had to be parsed to tell."""
    if task not in (None, *TASKS):
        raise UserError(f"task is {task!r}, expected one of {', '.join(TASKS)}")
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: expected predictions, one of{_FORMATS}")
    kind, content = (_kind_of_folder(path, task), None) if path.is_dir() else _kind_of_file(path, task)
    if kind is not AnnotatedFiles and task not in (None, kind.task):
        raise UserError(f"{path} holds {kind.task} predictions ({kind.FORMAT}), expected {task} ones:{_FORMATS}")
    return kind, content


def _kind_of_folder(path: Path, task: str | None) -> type[PredictionSet]:
    results = [str(path / name) for name in _OF_DETECTRON2 if (path / name).is_file()]
    if results:
        raise UserError(f"{path} holds results of Detectron2, of which one is to be named: {', '.join(results)}")
    if task != "semantic" and files_below(path, "_pred.txt"):
        return CityscapesPredictions
    if any(FORMATS[name].recognises(path) for name in _FOLDERS):
        return AnnotatedFiles
    if files_below(path, ".png"):
        return LabelPngPredictions
    raise UserError(f"folder {path} has neither label PNGs nor *_pred.txt: expected one of{_FORMATS}")


def _annotated(path: Path, name: str | None, source: Source) -> AnnotatedFiles:
    form = format_of(path) if name is None else format_named(name)
    return AnnotatedFiles(read_annotations(source, form.name), form, path)


def _kind_of_file(path: Path, task: str | None) -> tuple[type[PredictionSet], Any]:
    """The class, and what the file holds where it had to be parsed to tell."""
    if path.suffix != ".json":
        if not any(one.recognises(path) for one in FORMATS.values()):
            raise UserError(
                f"{path} is neither a folder, a *.json file nor known annotations: expected one of{_FORMATS}"
            )
        return AnnotatedFiles, None
    expected = f"predictions, one of{_FORMATS}"
    if is_list(path, expected):
        first, annotations = first_item(path, expected), None
        if first is None:
            return (SemSegPredictions if task == "semantic" else CocoResultPredictions), None
        if isinstance(first, dict) and "image_id" in first:
            return CocoResultPredictions, None
        if isinstance(first, dict) and "file_name" in first:
            return SemSegPredictions, None
    else:
        content = read_json(path, expected)
        annotations = content.get("annotations") if isinstance(content, dict) else None
        if isinstance(annotations, list) and all("segments_info" in entry for entry in annotations[:1]):
            return PanopticPredictions, content
    if any(one.recognises(path) for one in FORMATS.values()):
        return AnnotatedFiles, None
    what = "COCO annotations, a ground truth" if isinstance(annotations, list) else "no predictions that are known here"
    raise UserError(f"{path} holds {what}: expected one of{_FORMATS}")
