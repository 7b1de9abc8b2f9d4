"""Opens result files of one or two predictions beside their ground truth, as the programs that score them do.

Each task has its own modules, which are imported when it is told which one is wanted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.errors import UserError, print_lines
from pnm.formats.class_names import read_class_names
from pnm.metrics import metric_names
from pnm.scoring.scores import ResultFiles
from pnm.shards import WHOLE, Shard

if TYPE_CHECKING:
    from pnm.metrics.semantic_metrics import SemanticMetrics

METRICS: dict[str, tuple[str, ...]] = {
    "semantic": metric_names.SEMANTIC,
    "instance": metric_names.INSTANCE,
    "panoptic": metric_names.PANOPTIC,
}
DEFAULT_METRICS = {**METRICS, "instance": ("segm", "boundary", "af")}
COCO_RATIO, CITYSCAPES_RATIO = 0.02, 0.005


class ScoringSettings(NamedTuple):
    """How predictions are scored; what a task doesn't know is not looked at.

    Attributes:
        task: "semantic", "instance" or "panoptic".
        gt: ground truth, folder or JSON.
        metrics: some of ``METRICS[task]``.
        cityscapes: files are Cityscapes'.
        boundary_ratio, boundary_px: width of boundaries, as a fraction of the diagonal or, if given, in pixels.
        classes: number of semantic classes, a file with their names, or these.
        ignore_label: of label maps; negative if there is none.
        category_ids, pred_train_ids: see :class:`pnm.scoring.semantic_files.SemanticFiles`.
        f_score_px, f_score_absent: see :class:`pnm.metrics.semantic_metrics.SemanticMetrics`.
        gt_folder: PNGs of a panoptic ground truth, if they aren't beside its JSON.
        shard: of the ground truth's images, which alone are scored.
    """

    task: str
    gt: str | Path
    metrics: Sequence[str]
    cityscapes: bool = False
    boundary_ratio: float = COCO_RATIO
    boundary_px: int | None = None
    classes: str | Sequence[str] | None = None
    ignore_label: int = 255
    category_ids: Sequence[int] | None = None
    pred_train_ids: bool = False
    f_score_px: Sequence[int | float] = (1, 2, 3)
    f_score_absent: bool = False
    gt_folder: str | Path | None = None
    shard: Shard = WHOLE

    @property
    def boundary(self) -> dict[str, Any]:
        """Arguments of metrics, of which one is None."""
        return {
            "boundary_ratio": None if self.boundary_px else self.boundary_ratio,
            "boundary_px": self.boundary_px,
        }

    @property
    def panoptic_boundary(self) -> dict[str, Any]:
        """:attr:`boundary` if Boundary PQ is wanted, else nothing."""
        return self.boundary if "Boundary-PQ" in self.metrics else {}

    @property
    def instance_options(self) -> dict[str, Any]:
        """Arguments of instance metrics beside their classes."""
        widths = {"boundary_ratio": self.boundary_ratio, "boundary_px": self.boundary_px}
        return {"metrics": self.metrics, **widths}


class OpenedResults(NamedTuple):
    """Predictions of one ground truth, and what they have in common.

    Attributes:
        files: one for each prediction.
        images: that all of them can be scored on, in the order of the ground truth.
        problems: a line for each thing that doesn't fit.
        remarks: on what may be as it is, such as images without detections.
    """

    files: list[ResultFiles]
    images: list[Any]
    problems: list[str]
    remarks: list[str]


def _listed_beside(gt: str | Path) -> str | None:
    """names.txt in a folder of true labels, which ``pnm convert`` writes."""
    file = Path(gt) / "names.txt"
    return str(file) if file.is_file() else None


def class_names(classes: str | Sequence[str] | None, cityscapes: bool) -> list[str]:
    """Names of ``--classes N``, ``--classes names.txt`` (one a line) or ``--cityscapes``; or those given."""
    if classes is not None and not isinstance(classes, str):
        return list(classes)
    return list(CITYSCAPES_CLASSES.values()) if classes is None and cityscapes else read_class_names(classes)


def open_result_files(pred: str | Path, pred_folder: str | Path | None, settings: ScoringSettings) -> ResultFiles:
    """A prediction beside the ground truth.

    Args:
        pred: folder or JSON.
        pred_folder: PNGs of a panoptic prediction, if they aren't beside its JSON.

    Raises:
        FileNotFoundError, UserError: as the classes of the formats do.
    """
    if settings.task == "instance":
        kind = _instance_files(settings.cityscapes and Path(pred).suffix != ".json")
        return kind(pred, settings.gt, shard=settings.shard, **settings.instance_options)
    if settings.task == "panoptic":
        from pnm.scoring.panoptic_files import PanopticFiles

        folders = pred_folder, settings.gt_folder
        return PanopticFiles(pred, settings.gt, *folders, shard=settings.shard, **settings.panoptic_boundary)
    return _semantic_files(pred, settings)


def _instance_files(cityscapes: bool) -> Any:
    if cityscapes:
        from pnm.scoring.cityscapes_instance_files import CityscapesInstanceFiles

        return CityscapesInstanceFiles
    from pnm.scoring.instance_files import InstanceFiles

    return InstanceFiles


def semantic_metric(settings: ScoringSettings, names: Sequence[str]) -> "SemanticMetrics":
    """An empty metric of classes of these names."""
    from pnm.metrics.semantic_metrics import SemanticMetrics

    return SemanticMetrics(
        len(names),
        class_names=names,
        ignore_label=None if settings.ignore_label < 0 else settings.ignore_label,
        metrics=settings.metrics,
        f_score_px=settings.f_score_px,
        f_score_absent=settings.f_score_absent,
        **settings.boundary,
    )


def _semantic_files(pred: str | Path, settings: ScoringSettings) -> ResultFiles:
    from pnm.scoring.semantic_files import SemanticFiles

    known = settings.cityscapes or settings.classes is not None
    names = class_names(settings.classes if known else _listed_beside(settings.gt), settings.cityscapes)
    return SemanticFiles(
        pred,
        settings.gt,
        semantic_metric(settings, names),
        shard=settings.shard,
        cityscapes=settings.cityscapes,
        pred_train_ids=settings.pred_train_ids,
        category_ids=settings.category_ids,
    )


def open_side_by_side(
    predictions: Sequence[tuple[str | Path, str | Path | None]], settings: ScoringSettings, *, allow_missing: bool
) -> OpenedResults:
    """One or two predictions; what doesn't fit is printed to stderr.

    Args:
        predictions: path, and folder of panoptic PNGs or None, of each.
        allow_missing: go on with the images that fit.

    Raises:
        FileNotFoundError, UserError: as :func:`open_result_files`; something doesn't fit, and ``allow_missing`` is
            False; there is no image in common, though the files are opened whole.
    """
    files = [open_result_files(path, folder, settings) for path, folder in predictions]
    problems = list(dict.fromkeys(line for one in files for line in one.problems))
    print_lines(problems)
    remarks = list(dict.fromkeys(line for one in files for line in one.remarks))
    print_lines(remarks)
    if problems and not allow_missing:
        raise UserError(
            f"{len(problems)} mismatch(es) between prediction and ground truth, see above; mend them, or score the "
            "rest with --allow-missing"
        )
    common = set(files[-1].images)
    images = [image for image in files[0].images if image in common]
    if not images and settings.shard.of == 1:
        raise UserError(f"{predictions[0][0]} and {settings.gt} have no image in common: nothing to score")
    return OpenedResults(files, images, problems, remarks)
