"""The universal refiner: refines masks of anything, trained on scenes of cut-outs or on any annotated data.

What it computes is in :mod:`pnm.object_refinement`, which runs without Detectron2; here it is trained, and evaluated on
the predictions of a data set.
"""

from .config import add_universal_config as add_config
from .refiner import UniversalRefiner
from .window_mapper import WindowMapper

__all__ = ["UniversalRefiner", "WindowMapper", "add_config"]
