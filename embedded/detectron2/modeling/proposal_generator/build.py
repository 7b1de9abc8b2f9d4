"""Proposal generators by name."""

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from ..unsupported_settings import find_registered

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
PROPOSAL_GENERATOR_REGISTRY.__doc__ = "Callables (cfg, ShapeSpecs by feature name) that return a proposal module."


def build_proposal_generator(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """The generator ``cfg.MODEL.PROPOSAL_GENERATOR.NAME``; None for ``PrecomputedProposals``."""
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return find_registered(PROPOSAL_GENERATOR_REGISTRY, "MODEL.PROPOSAL_GENERATOR.NAME", name)(cfg, input_shape)
