"""Pages of what an evaluation has left in its folder, where ``TEST.REPORT`` asks for them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from pnm.errors import UserError
from pnm.formats.atomic_files import write_text
from pnm.scoring.opening import DEFAULT_METRICS, ScoringSettings, open_side_by_side
from pnm.usable_cores import usable_cores

from ...refining import refined_task
from .metric_evaluators import boundary_ratio_of

logger = logging.getLogger(__name__)

PAGE = "report.html"
_CITYSCAPES_RESULTS = "*_pred.txt"


class ReportInput(NamedTuple):
    """Result files of a data set, their ground truth and images."""

    predictions: list[tuple[Path, Path | None]]
    scoring: ScoringSettings
    images: str


def write_reports(cfg: CfgNode) -> None:
    """Writes ``OUTPUT_DIR/inference/<data set>/report.html`` for each data set in ``DATASETS.TEST``.

    It is made of the richest result file that is there: panoptic, else instances, else label maps. A refiner's has what
    it was given as A and what it made of it as B. What keeps a page from being made is logged: the run's results are
    there without it.
    """
    for n, name in enumerate(cfg.DATASETS.TEST):
        folder = Path(cfg.OUTPUT_DIR) / "inference" / name
        try:
            found = report_input(name, folder)
            if found is None:
                logger.warning("%s: no report, there are no result files with masks in %s", name, folder)
                continue
            if refined_task(cfg) is not None and n < len(cfg.DATASETS.PREDICTIONS_TEST):
                coarse = Path(cfg.DATASETS.PREDICTIONS_TEST[n])
                found = found._replace(predictions=[(coarse, None), *found.predictions])
            _write(found, folder / PAGE)
            logger.info("%s: report in %s", name, folder / PAGE)
        except (UserError, OSError) as error:
            logger.warning("%s: no report: %s", name, error)


def report_input(name: str, folder: Path) -> ReportInput | None:
    """What an evaluation of a registered data set has left in its folder; None if there are no masks."""
    metadata, predictions = MetadataCatalog.get(name), folder / "predictions.json"
    common: dict[str, Any] = {"boundary_ratio": boundary_ratio_of(name)}
    images = metadata.get("image_root", None) or metadata.get("image_dir", None)
    if predictions.is_file() and metadata.get("panoptic_json", None):
        scoring = _settings("panoptic", metadata.panoptic_json, gt_folder=metadata.panoptic_root, **common)
        return ReportInput([(predictions, folder / "panoptic")], scoring, images)
    results = folder / "coco_instances_results.json"
    if results.is_file() and metadata.get("json_file", None):
        return ReportInput([(results, None)], _settings("instance", metadata.json_file, **common), images)
    if metadata.get("gt_dir", None) and any(folder.glob(_CITYSCAPES_RESULTS)):
        scoring = _settings("instance", metadata.gt_dir, cityscapes=True, **common)
        return ReportInput([(folder, None)], scoring, images)
    labels = metadata.get("sem_seg_root", None) or metadata.get("gt_dir", None)
    maps = folder / "sem_seg_predictions.json"
    if not maps.is_file() or not labels:
        return None
    scoring = _settings(
        "semantic",
        labels,
        classes=list(metadata.stuff_classes),
        ignore_label=metadata.ignore_label,
        category_ids=_category_ids(metadata),
        **common,
    )
    return ReportInput([(maps, None)], scoring, images)


def _settings(task: str, gt: str, **options: Any) -> ScoringSettings:
    return ScoringSettings(task, gt, DEFAULT_METRICS[task], **options)


def _category_ids(metadata: Any) -> Sequence[int] | None:
    """Of the masks in ``sem_seg_predictions.json``, in the order of the classes."""
    mapping = metadata.get("stuff_dataset_id_to_contiguous_id", None)
    return None if mapping is None else sorted(mapping, key=mapping.__getitem__)


def _write(found: ReportInput, page: Path) -> None:
    from pnm.reporting.report import ReportSettings, make_report  # plots take their time to import

    opened = open_side_by_side(found.predictions, found.scoring, allow_missing=True)
    settings = ReportSettings(
        paths=[str(path) for path, _ in found.predictions],
        images=found.images,
        workers=usable_cores(),
        allow_missing=True,
        progress=False,
    )
    write_text(page, make_report(opened, found.scoring, settings))
