"""Boxes, masks, image batches and per-image instance tables."""

from detectron2._scope import outside

from .boxes import Boxes, BoxMode, pairwise_intersection, pairwise_iou
from .image_list import ImageList
from .instances import Instances
from .masks import BitMasks, PolygonMasks, ROIMasks, polygons_to_bitmask

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "PolygonMasks",
    "ROIMasks",
    "pairwise_intersection",
    "pairwise_iou",
    "polygons_to_bitmask",
]
__getattr__ = outside(__name__)
