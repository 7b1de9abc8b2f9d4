"""BPR: boundary patch refinement of instance, semantic and panoptic masks.

Hu et al., "Improving Image Segmentation with Boundary Patch Refinement", IJCV 2022.
"""

from .config import InferenceSettings, PatchSettings
from .config import add_bpr_config as add_config
from .config import check_bpr_config as finish_config
from .networks import NETWORKS, build_network
from .patch_mapper import BoundaryPatchMapper
from .refiner import BoundaryPatchRefiner

__all__ = [
    "NETWORKS",
    "BoundaryPatchMapper",
    "BoundaryPatchRefiner",
    "InferenceSettings",
    "PatchSettings",
    "add_config",
    "build_network",
    "finish_config",
]
