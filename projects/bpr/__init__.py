"""BPR: boundary patch refinement of instance, semantic and panoptic masks.

Hu et al., "Improving Image Segmentation with Boundary Patch Refinement", IJCV 2022.
"""

from .config import PatchSettings
from .config import add_bpr_config as add_config
from .networks import NETWORKS, build_network
from .patch_mapper import BoundaryPatchMapper
from .refiner import BoundaryPatchRefiner

__all__ = [
    "NETWORKS",
    "BoundaryPatchMapper",
    "BoundaryPatchRefiner",
    "PatchSettings",
    "add_config",
    "build_network",
]
