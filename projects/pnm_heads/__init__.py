"""Pixel-weighted losses in Detectron2 (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation").

``MODEL.PNM.ENABLED True`` weights the mask and semantic losses of Mask R-CNN, Panoptic FPN and semantic segmentors.
"""

from typing import Any

from detectron2.config import CfgNode

from pnm.null_model.settings import PNMSettings

from .config import add_pnm_config as add_config
from .mask_head import PNMMaskRCNNConvUpsampleHead, PNMROIHeads
from .meta_archs import PNMPanopticFPN, PNMSemanticNetwork, PNMSemanticSegmentor
from .semantic_heads import PNMDeepLabV3Head, PNMDeepLabV3PlusHead, PNMSemSegFPNHead
from .weight_mapper import PixelWeightMapper
from .weight_mapper import add_pixel_weights as wrap_mapper
from .weight_mapper import check_labels as take_from_data
from .weighted_classes import use_pnm_classes as finish_config

__all__ = [
    "PNMDeepLabV3Head",
    "PNMDeepLabV3PlusHead",
    "PNMMaskRCNNConvUpsampleHead",
    "PNMPanopticFPN",
    "PNMROIHeads",
    "PNMSemSegFPNHead",
    "PNMSemanticNetwork",
    "PNMSemanticSegmentor",
    "PNMSettings",
    "PixelWeightMapper",
    "add_config",
    "finish_config",
    "semantic_metric_options",
    "take_from_data",
    "wrap_mapper",
]


def semantic_metric_options(cfg: CfgNode) -> dict[str, Any]:
    """PNM IoU has the weights that the loss has."""
    node = cfg.MODEL.PNM
    return {"locality": node.LOCALITY, "transform": node.TRANSFORM, "border": node.BORDER}
