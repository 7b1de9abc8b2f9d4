"""PRN: a panoptic map predicted anew from the image and another model's map; segments may come, go and change class.

Sun et al., "PRN: Panoptic Refinement Network", WACV 2023.
"""

from ..dataset_mappers.panoptic_classes import PanopticClasses
from .config import add_prn_config as add_config
from .config import check_prn_config as finish_config
from .config import take_numbers_of_classes as take_from_data
from .mapper import PanopticMapMapper
from .networks import PanopticRefinementNetwork
from .refiner import PanopticRefiner

__all__ = [
    "PanopticClasses",
    "PanopticMapMapper",
    "PanopticRefinementNetwork",
    "PanopticRefiner",
    "add_config",
    "finish_config",
    "take_from_data",
]
