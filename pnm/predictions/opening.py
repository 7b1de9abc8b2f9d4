"""Opens predictions of any format that is known here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnm.errors import UserError
from pnm.formats.coco_instances import read_json
from pnm.formats.folders import files_below
from pnm.formats.json_list import first_item, is_list
from pnm.predictions.cityscapes_instances import CityscapesPredictions
from pnm.predictions.coco_panoptic import PanopticPredictions
from pnm.predictions.coco_results import CocoResultPredictions
from pnm.predictions.label_folder import LabelPngPredictions
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.sem_seg_json import SemSegPredictions

TASKS = ("instance", "semantic", "panoptic")
_OF_DETECTRON2 = ("coco_instances_results.json", "sem_seg_predictions.json", "predictions.json")
_FORMATS = (
    ' COCO results (a JSON list of {"image_id", "category_id", "segmentation", "score"}); Cityscapes instance results '
    "(a folder of *_pred.txt and masks); a folder of label PNGs; Detectron2's sem_seg_predictions.json; COCO panoptic "
    'JSON ({"annotations": [{"image_id", "file_name", "segments_info"}]}) with its folder of PNGs'
)


def told_task(path: str | Path, task: str | None = None) -> str:
    """The task of predictions in files, told from what is there.

    Args:
        path: as of :func:`open_predictions`.
        task: what it is known, or wanted, to be.

    Raises:
        FileNotFoundError, UserError: as :func:`open_predictions` for a path that is no prediction, or one of another
            task.
    """
    return _kind_of(Path(path), task)[0].task


def open_predictions(
    path: str | Path,
    task: str | None = None,
    *,
    known_sizes: Mapping[Any, tuple[int, int]] | None = None,
    **options: Any,
) -> PredictionSet:
    """Predictions in files, whose format is told from what is there.

    Args:
        path: a JSON file, or a folder of label PNGs or of Cityscapes' ``*_pred.txt``.
        task: "instance", "semantic" or "panoptic", where it is known. Of a folder that has both text files and PNGs,
            it decides what is read: without, the text files.
        known_sizes: (height, width) of images by id, for a format that has an option ``image_sizes``.
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
    kind, content = _kind_of(path, task)
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
    kind, content = (_kind_of_folder(path, task), None) if path.is_dir() else _kind_of_json(path, task)
    if task not in (None, kind.task):
        raise UserError(f"{path} holds {kind.task} predictions ({kind.FORMAT}), expected {task} ones:{_FORMATS}")
    return kind, content


def _kind_of_folder(path: Path, task: str | None) -> type[PredictionSet]:
    results = [str(path / name) for name in _OF_DETECTRON2 if (path / name).is_file()]
    if results:
        raise UserError(f"{path} holds results of Detectron2, of which one is to be named: {', '.join(results)}")
    if task != "semantic" and files_below(path, "_pred.txt"):
        return CityscapesPredictions
    if files_below(path, ".png"):
        return LabelPngPredictions
    raise UserError(f"folder {path} has neither label PNGs nor *_pred.txt: expected one of{_FORMATS}")


def _kind_of_json(path: Path, task: str | None) -> tuple[type[PredictionSet], Any]:
    """The class, and what the file holds where it had to be parsed to tell."""
    if path.suffix != ".json":
        raise UserError(f"{path} is neither a folder nor a *.json file: expected one of{_FORMATS}")
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
    what = "COCO annotations, a ground truth" if isinstance(annotations, list) else "no predictions that are known here"
    raise UserError(f"{path} holds {what}: expected one of{_FORMATS}")
