"""Saving, finding, converting and safely reading checkpoints."""

from detectron2._scope import outside
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

from . import catalog as catalog  # registers catalog://
from .detection_checkpoint import DetectionCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]

__getattr__ = outside(__name__)
