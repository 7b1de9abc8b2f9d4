"""Models by name."""

import torch
from detectron2.utils.registry import Registry
from torch import nn

from ..unsupported_settings import find_registered

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = "Callables (cfg) that return a model: a module from a list of input dicts to results."


def build_model(cfg) -> nn.Module:
    """The model ``cfg.MODEL.META_ARCHITECTURE`` on ``cfg.MODEL.DEVICE``, freshly initialised: no weights are loaded."""
    model = find_registered(META_ARCH_REGISTRY, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
