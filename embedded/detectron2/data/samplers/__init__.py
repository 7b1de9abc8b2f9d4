"""Samplers for training (endless) and inference (each image exactly once over all processes)."""

from detectron2._scope import outside

from .distributed_sampler import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)

__all__ = ["InferenceSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler", "TrainingSampler"]

__getattr__ = outside(__name__)
