"""Loaders of COCO, Cityscapes and ADE20K formats; importing this package registers the built-in data sets."""

from detectron2._scope import outside

from . import builtin as _builtin  # noqa: F401  (registers)
from .coco import convert_to_coco_dict, convert_to_coco_json, load_coco_json, load_sem_seg, register_coco_instances
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
    "register_coco_panoptic",
    "register_coco_panoptic_separated",
]

__getattr__ = outside(__name__)
