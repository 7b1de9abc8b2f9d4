"""SE-PSNet: a one-stage panoptic network that learns silhouettes, and how good its masks are.

Chang et al., "SE-PSNet: Silhouette-based Enhancement Feature for Panoptic Segmentation Network", 2022.
"""

from .backbone import build_resnet_fpn_p2_to_p7_backbone
from .config import add_se_psnet_config as add_config
from .config import check_se_psnet_config as finish_config
from .config import take_numbers_of_classes as take_from_data
from .meta_arch import SEPSNet
from .stuff_head import SilhouetteStuffHead

__all__ = [
    "SEPSNet",
    "SilhouetteStuffHead",
    "add_config",
    "build_resnet_fpn_p2_to_p7_backbone",
    "finish_config",
    "take_from_data",
]
