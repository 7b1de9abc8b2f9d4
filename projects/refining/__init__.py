"""What every refiner shares: its base classes, coarse predictions, truths, and refinement as a function."""

from .coarse_predictions import (
    CoarsePredictions,
    check_learnable,
    check_test_predictions,
    coarse_predictions,
    tagged_dataset,
)
from .config import add_refining_config as add_config
from .config import check_refining_config as finish_config
from .mapper import RefiningMapper
from .model import TASKS, RefiningModel, refined_task, refiner_class, refiner_names
from .precision import cpu_precision
from .trained_refiner import TrainedRefiner

__all__ = [
    "TASKS",
    "CoarsePredictions",
    "TrainedRefiner",
    "RefiningMapper",
    "RefiningModel",
    "add_config",
    "check_learnable",
    "check_test_predictions",
    "coarse_predictions",
    "cpu_precision",
    "finish_config",
    "refined_task",
    "refiner_class",
    "refiner_names",
    "tagged_dataset",
]
