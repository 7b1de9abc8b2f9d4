"""Saving, finding, converting and safely reading checkpoints."""

from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

from detectron2._scope import outside

from . import catalog as _catalog  # registers catalog://
from .detection_checkpoint import DetectionCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]

__getattr__ = outside(__name__)
