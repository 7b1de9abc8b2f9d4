"""The classes that the flag ``MODEL.PNM.ENABLED`` puts into a config."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, SEM_SEG_HEADS_REGISTRY

from pnm.errors import UserError

from ..refining import refiner_class
from ..semantic_networks import PassesPixelWeights, PixelWeightedHead
from .config import check_pnm_config
from .mask_head import PNMROIHeads

_META_ARCHS = {"SemanticSegmentor": "PNMSemanticSegmentor", "PanopticFPN": "PNMPanopticFPN"}
_META_ARCHS |= {"SemanticNetwork": "PNMSemanticNetwork"}
_SEMANTIC_HEADS = {"SemSegFPNHead": "PNMSemSegFPNHead"}
_ROI_HEADS = {"StandardROIHeads": "PNMROIHeads"}


def use_pnm_classes(cfg: CfgNode) -> None:
    """With ``MODEL.PNM.ENABLED``, replaces Detectron2's class names in ``cfg`` by those of their weighted subclasses.

    Raises:
        UserError: a setting that doesn't exist, a class that nobody has taught weights, or nothing to weight.
    """
    node, model = cfg.MODEL.PNM, cfg.MODEL
    if not node.ENABLED:
        return
    check_pnm_config(node)
    refiner = refiner_class(cfg)
    if refiner is not None and refiner.takes_pixel_weights and node.SEMANTIC_LOSS:
        if node.SOURCE == "offline" or node.LABELS == "panoptic":
            raise UserError(
                f"MODEL.PNM.SOURCE is {node.SOURCE} and LABELS {node.LABELS}, but {model.META_ARCHITECTURE} computes "
                "the weights of its own labels: leave both keys away"
            )
        return
    if refiner is not None:
        raise UserError(
            f"MODEL.PNM.ENABLED is True, but pixel weights do not apply to {model.META_ARCHITECTURE}, which refines: "
            "leave it away"
        )
    has_semantic = model.META_ARCHITECTURE != "GeneralizedRCNN"
    has_regions = model.MASK_ON and model.META_ARCHITECTURE in ("GeneralizedRCNN", "PanopticFPN", "PNMPanopticFPN")
    has_masks = has_regions or getattr(_registered(META_ARCH_REGISTRY, model.META_ARCHITECTURE), "weights_masks", False)
    if not (has_semantic and node.SEMANTIC_LOSS or has_masks and node.MASK_LOSS):
        raise UserError(
            "MODEL.PNM.ENABLED is True, but no loss is weighted: "
            f"META_ARCHITECTURE {model.META_ARCHITECTURE}, MASK_ON {model.MASK_ON}, "
            f"PNM.SEMANTIC_LOSS {node.SEMANTIC_LOSS}, PNM.MASK_LOSS {node.MASK_LOSS}"
        )
    if has_semantic and node.SEMANTIC_LOSS:
        _replace(model, "META_ARCHITECTURE", _META_ARCHS, META_ARCH_REGISTRY, PassesPixelWeights, "SEMANTIC_LOSS")
        if not META_ARCH_REGISTRY.get(model.META_ARCHITECTURE).builds_its_own_head:
            head, heads = model.SEM_SEG_HEAD, SEM_SEG_HEADS_REGISTRY
            _replace(head, "NAME", _SEMANTIC_HEADS, heads, PixelWeightedHead, "SEMANTIC_LOSS")
    if has_regions and node.MASK_LOSS:
        _replace(model.ROI_HEADS, "NAME", _ROI_HEADS, ROI_HEADS_REGISTRY, PNMROIHeads, "MASK_LOSS")


def _registered(registry: Any, name: str) -> Any:
    """What has that name, or None."""
    return registry.get(name) if name in registry else None


def _replace(node: CfgNode, key: str, table: dict[str, str], registry, weighted: type, switch: str) -> None:
    """Puts the weighted class's name into ``node[key]``; one that is a subclass of ``weighted`` already stays."""
    name = table.get(node[key], node[key])
    registered = _registered(registry, name)
    if not (isinstance(registered, type) and issubclass(registered, weighted)):
        raise UserError(
            f"MODEL.PNM.ENABLED: {node[key]} has no weighted loss; derive it from {weighted.__name__} "
            f"(projects/pnm_heads/README.md, Your own semantic head), or set MODEL.PNM.{switch} False"
        )
    node[key] = name
