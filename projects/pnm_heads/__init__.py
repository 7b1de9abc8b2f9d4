"""Pixel-weighted losses in Detectron2 (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation").

``MODEL.PNM.ENABLED True`` weights the mask and semantic losses of Mask R-CNN, Panoptic FPN and semantic segmentors.
"""

from ..semantic_networks.deeplab import PNMDeepLabV3Head, PNMDeepLabV3PlusHead, build_atrous_resnet_backbone
from ..semantic_networks.semantic_network import PNMSemanticNetwork, add_semantic_network_config
from .config import PNMSettings, add_pnm_config, use_pnm_classes
from .mask_head import PixelWeightedMaskLoss, PNMMaskRCNNConvUpsampleHead, PNMROIHeads
from .meta_arch import PassesPixelWeights, PNMPanopticFPN, PNMSemanticSegmentor
from .semantic_head import PixelWeightedHead, PNMSemSegFPNHead

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
    "PassesPixelWeights",
    "PixelWeightedHead",
    "PixelWeightedMaskLoss",
    "add_pnm_config",
    "add_semantic_network_config",
    "build_atrous_resnet_backbone",
    "use_pnm_classes",
]
