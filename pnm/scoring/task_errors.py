"""How errors are counted and drawn, by the task of the files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pnm.metrics.instance_errors import break_even_score
from pnm.scoring.cityscapes_instance_files import CityscapesInstanceFiles
from pnm.scoring.error_survey import TaskErrors
from pnm.scoring.instance_errors import InstanceErrors
from pnm.scoring.instance_files import InstanceFiles
from pnm.scoring.opening import ScoringSettings
from pnm.scoring.panoptic_errors import PanopticErrors
from pnm.scoring.panoptic_files import PanopticFiles
from pnm.scoring.scores import ResultFiles
from pnm.scoring.semantic_errors import SemanticErrors
from pnm.scoring.semantic_files import SemanticFiles


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
    scores, objects = files.scores_and_objects(images)
    if least_score is not None:
        origin = f"Detections count from score {least_score:.3f} on, as asked for."
    elif len(scores) <= objects:
        least_score = -np.inf
        origin = f"All {len(scores)} detections count; there are {objects} true objects."
    else:
        least_score = break_even_score(scores, objects)
        origin = f"Detections count from score {least_score:.3f} on: as many as there are true objects, {objects}."
    metric = files.metric()
    widths = settings.boundary_ratio, settings.boundary_px
    return InstanceErrors(metric.category_ids, metric.class_names, least_score, *widths, origin)
