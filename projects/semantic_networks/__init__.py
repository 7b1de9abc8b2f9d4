"""Semantic networks that several rooms use: baselines of the papers, and the blocks they are built of."""

from .config import add_semantic_network_config as add_config
from .deeplab import DeepLabV3Head, DeepLabV3PlusHead, build_atrous_resnet_backbone
from .meta_arch import PassesPixelWeights, PixelWeightedSegmentor
from .pixel_loss import PixelWeightedHead
from .semantic_head import SemanticNetworkHead
from .semantic_network import SemanticNetwork

__all__ = [
    "DeepLabV3Head",
    "DeepLabV3PlusHead",
    "PassesPixelWeights",
    "PixelWeightedHead",
    "PixelWeightedSegmentor",
    "SemanticNetwork",
    "SemanticNetworkHead",
    "add_config",
    "build_atrous_resnet_backbone",
]
