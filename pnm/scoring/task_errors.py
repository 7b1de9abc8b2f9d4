"""How errors are counted and drawn, by the task of the files."""

from collections.abc import Sequence
from typing import Any

from pnm.scoring.error_survey import TaskErrors
from pnm.scoring.opening import ScoringSettings
from pnm.scoring.scores import ResultFiles
from pnm.scoring.semantic_errors import SemanticErrors


def task_errors(files: ResultFiles, settings: ScoringSettings, images: Sequence[Any]) -> TaskErrors:
    """What counts and draws the errors of a prediction.

    Args:
        settings: those that the files were opened with.
        images: those that will be looked at.
    """
    ratio, pixels = settings.boundary["boundary_ratio"], settings.boundary_px
    return SemanticErrors(files.metric.class_names, ratio, pixels)  # type: ignore[attr-defined]
