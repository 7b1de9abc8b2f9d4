"""Deterministic transforms (fvcore's and ours) and the random augmentations that make them."""

from fvcore.transforms.transform import (
    BlendTransform,
    CropTransform,
    GridSampleTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    ScaleTransform,
    Transform,
    TransformList,
    VFlipTransform,
)

from detectron2._scope import outside

from .augmentation import (
    Augmentation,
    AugmentationList,
    AugInput,
    StandardAugInput,
    TransformGen,
    apply_augmentations,
    apply_transform_gens,
)
from .augmentation_impl import (
    FixedSizeCrop,
    MinIoURandomCrop,
    RandomApply,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomCrop_CategoryAreaConstraint,
    RandomExtent,
    RandomFlip,
    RandomLighting,
    RandomResize,
    RandomRotation,
    RandomSaturation,
    Resize,
    ResizeScale,
    ResizeShortestEdge,
)
from .transform import ColorTransform, ExtentTransform, PILColorTransform, ResizeTransform, RotationTransform

__all__ = [name for name, value in globals().items() if isinstance(value, type)]
__all__ += ["apply_augmentations", "apply_transform_gens"]

__getattr__ = outside(__name__)
