"""How ``MODEL.PNM`` wants losses weighted, for the networks of any room; the keys are those of ``pnm_heads``."""

from detectron2.config import CfgNode

from pnm.null_model.settings import PNMSettings


def semantic_settings(cfg: CfgNode) -> PNMSettings | None:
    """How the semantic loss is weighted; None if it isn't."""
    node = cfg.MODEL.PNM
    return PNMSettings(node.LOCALITY, node.TRANSFORM, node.BORDER) if node.ENABLED and node.SEMANTIC_LOSS else None


def mask_settings(cfg: CfgNode) -> PNMSettings | None:
    """How the mask loss in RoIs is weighted; None if it isn't."""
    node = cfg.MODEL.PNM
    return PNMSettings(node.ROI_LOCALITY, node.TRANSFORM, node.BORDER) if node.ENABLED and node.MASK_LOSS else None
