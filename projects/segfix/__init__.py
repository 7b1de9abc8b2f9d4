"""SegFix: labels at boundaries are replaced by those a step inside, for the predictions of any model.

Yuan et al., "SegFix: Model-Agnostic Boundary Refinement for Segmentation", ECCV 2020.
"""

from .config import OffsetSettings, check_segfix_config
from .config import add_segfix_config as add_config
from .config import check_segfix_config as finish_config
from .mapper import OffsetMapper
from .networks import NETWORKS, OffsetNetwork, build_network
from .refiner import SegFix

__all__ = [
    "NETWORKS",
    "OffsetMapper",
    "OffsetNetwork",
    "OffsetSettings",
    "SegFix",
    "add_config",
    "build_network",
    "check_segfix_config",
    "finish_config",
]
