"""From dataset dicts to a model's input: mappers by name, and what the mappers of several rooms build on."""

from .color_augmentation import BrightnessShift, ColorAugSSDTransform
from .config import add_mapper_config as add_config
from .detection_mapper import CheckedDatasetMapper, MappedSample, default_mapper, semantic_mapper
from .panoptic_mapper import PanopticMapper, panoptic_mapper
from .registry import DATASET_MAPPER_REGISTRY

__all__ = [
    "DATASET_MAPPER_REGISTRY",
    "BrightnessShift",
    "CheckedDatasetMapper",
    "MappedSample",
    "ColorAugSSDTransform",
    "PanopticMapper",
    "add_config",
    "default_mapper",
    "panoptic_mapper",
    "semantic_mapper",
]
