"""How errors are counted and drawn, by the task of the files."""

from collections.abc import Sequence
from typing import Any

from pnm.scoring.cityscapes_instance_files import CityscapesInstanceFiles
from pnm.scoring.error_survey import TaskErrors
from pnm.scoring.instance_errors import InstanceErrors
from pnm.scoring.opening import ScoringSettings
from pnm.scoring.panoptic_errors import PanopticErrors
from pnm.scoring.panoptic_files import PanopticFiles
from pnm.scoring.result_files import InstanceFiles, SemanticFiles
from pnm.scoring.scores import ResultFiles
from pnm.scoring.semantic_errors import SemanticErrors


def task_errors(
    files: ResultFiles, settings: ScoringSettings, images: Sequence[Any], least_score: float | None = None
) -> TaskErrors:
    """What counts and draws the errors of a prediction.

    Args:
        settings: those that the files were opened with.
        images: those that will be looked at.
        least_score: of detections that count; None: as many count as there are true objects.
    """
    if isinstance(files, SemanticFiles):
        return SemanticErrors(files.metric.class_names, **settings.boundary)
    if isinstance(files, PanopticFiles):
        return PanopticErrors(files.quality)
    assert isinstance(files, (InstanceFiles, CityscapesInstanceFiles))
    origin = "as asked for"
    if least_score is None:
        least_score, origin = files.break_even_score(images), "so many detections as there are true objects"
    metric = files.metric()
    widths = settings.boundary_ratio, settings.boundary_px
    return InstanceErrors(metric.category_ids, metric.class_names, least_score, *widths, origin)
