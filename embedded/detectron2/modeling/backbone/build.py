"""Backbones by name."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

from ..unsupported_settings import find_registered
from .backbone import Backbone

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = "Callables (cfg, ShapeSpec of the image) that return a Backbone."


def build_backbone(cfg, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone ``cfg.MODEL.BACKBONE.NAME`` for images with as many channels as ``cfg.MODEL.PIXEL_MEAN``."""
    input_shape = input_shape or ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    name = cfg.MODEL.BACKBONE.NAME
    backbone = find_registered(BACKBONE_REGISTRY, "MODEL.BACKBONE.NAME", name)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise TypeError(f"MODEL.BACKBONE.NAME {name!r} built a {type(backbone).__name__}, which is no Backbone")
    return backbone
