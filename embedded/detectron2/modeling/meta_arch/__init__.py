"""Whole models."""

from detectron2._scope import outside

from .build import META_ARCH_REGISTRY, build_model
from .panoptic_fpn import PanopticFPN
from .rcnn import GeneralizedRCNN, ProposalNetwork
from .semantic_seg import SEM_SEG_HEADS_REGISTRY, SemanticSegmentor, build_sem_seg_head

__all__ = [
    "GeneralizedRCNN",
    "META_ARCH_REGISTRY",
    "PanopticFPN",
    "ProposalNetwork",
    "SEM_SEG_HEADS_REGISTRY",
    "SemanticSegmentor",
    "build_model",
    "build_sem_seg_head",
]
__getattr__ = outside(__name__)
