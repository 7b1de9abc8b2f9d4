"""Config keys of the pixel null model, and the classes that the flag ``MODEL.PNM.ENABLED`` puts in."""

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, SEM_SEG_HEADS_REGISTRY

from pnm.errors import UserError
from pnm.null_model.null_model import check_locality
from pnm.null_model.pixel_weights import check_transform

SOURCES = ("online", "offline")
_META_ARCHS = {"SemanticSegmentor": "PNMSemanticSegmentor", "PanopticFPN": "PNMPanopticFPN"}
_SEMANTIC_HEADS = {"SemSegFPNHead": "PNMSemSegFPNHead"}
_ROI_HEADS = {"StandardROIHeads": "PNMROIHeads"}


def add_pnm_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.PNM``, and the keys of the DeepLab heads and the atrous ResNet."""
    cfg.MODEL.PNM = CfgNode()
    # Weight the losses; False leaves the base model as it is.
    cfg.MODEL.PNM.ENABLED = False
    # Side d of the null model's window on label maps, px, odd; 1 gives weight 1 everywhere. Also PNM IoU's.
    cfg.MODEL.PNM.LOCALITY = 35
    # Side d on RoI masks (28 x 28 px), odd (Sec. V-D).
    cfg.MODEL.PNM.ROI_LOCALITY = 5
    # Weight of a pixel: "log" 1 - ln PNM (Eq. 3), "linear" 2 - PNM (Eq. 4), "inverse" 1 / PNM (Eq. 5).
    cfg.MODEL.PNM.TRANSFORM = "log"
    # Semantic weights: "online" from the augmented label, "offline" from maps of tools/precompute_weights.py that are
    # augmented together with the label.
    cfg.MODEL.PNM.SOURCE = "online"
    # Folder of the offline maps, one folder in it for each data set; "" is $DETECTRON2_DATASETS/pnm_weights.
    cfg.MODEL.PNM.MAPS_ROOT = ""
    # Windows cut by the image or by ignored pixels: "valid" divides by the pixels that are left, "zero" by d * d.
    cfg.MODEL.PNM.BORDER = "valid"
    # Which losses are weighted.
    cfg.MODEL.PNM.MASK_LOSS = True
    cfg.MODEL.PNM.SEMANTIC_LOSS = True

    head = cfg.MODEL.SEM_SEG_HEAD
    # DeepLab heads: "cross_entropy", or "hard_pixel_mining" over the hardest fifth of the labelled pixels.
    head.LOSS_TYPE = "hard_pixel_mining"
    # DeepLabV3+: widths that the features before the last are projected to, one for each.
    head.PROJECT_CHANNELS = [48]
    head.ASPP_CHANNELS = 256
    # Rates of ASPP's three dilated convolutions: [6, 12, 18] at stride 16, twice that at stride 8.
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False
    # Atrous ResNet: dilation of res4, factors on res5's dilation for each of its blocks, "basic" or "deeplab" stem.
    cfg.MODEL.RESNETS.RES4_DILATION = 1
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"


@dataclass(frozen=True)
class PNMSettings:
    """What a weighted loss needs to know: locality in px, transform and border of the null model."""

    locality: int
    transform: str = "log"
    border: str = "valid"

    @classmethod
    def semantic(cls, cfg: CfgNode) -> "PNMSettings | None":
        """Of the semantic loss; None if that is not weighted."""
        node = cfg.MODEL.PNM
        return cls(node.LOCALITY, node.TRANSFORM, node.BORDER) if node.ENABLED and node.SEMANTIC_LOSS else None

    @classmethod
    def mask(cls, cfg: CfgNode) -> "PNMSettings | None":
        """Of the mask loss in RoIs; None if that is not weighted."""
        node = cfg.MODEL.PNM
        return cls(node.ROI_LOCALITY, node.TRANSFORM, node.BORDER) if node.ENABLED and node.MASK_LOSS else None


def use_pnm_classes(cfg: CfgNode) -> None:
    """With ``MODEL.PNM.ENABLED``, replaces Detectron2's class names in ``cfg`` by those of their weighted subclasses.

    Raises:
        UserError: a setting that doesn't exist, a class that nobody has taught weights, or nothing to weight.
    """
    node, model = cfg.MODEL.PNM, cfg.MODEL
    if not node.ENABLED:
        return
    _check(node)
    from .mask_head import PNMROIHeads
    from .meta_arch import PassesPixelWeights
    from .semantic_head import PixelWeightedHead

    has_semantic = model.META_ARCHITECTURE != "GeneralizedRCNN"
    has_masks = model.MASK_ON and model.META_ARCHITECTURE in ("GeneralizedRCNN", "PanopticFPN", "PNMPanopticFPN")
    if not (has_semantic and node.SEMANTIC_LOSS or has_masks and node.MASK_LOSS):
        raise UserError(
            "MODEL.PNM.ENABLED is True, but no loss is weighted: "
            f"META_ARCHITECTURE {model.META_ARCHITECTURE}, MASK_ON {model.MASK_ON}, "
            f"PNM.SEMANTIC_LOSS {node.SEMANTIC_LOSS}, PNM.MASK_LOSS {node.MASK_LOSS}"
        )
    if has_semantic and node.SEMANTIC_LOSS:
        _replace(model, "META_ARCHITECTURE", _META_ARCHS, META_ARCH_REGISTRY, PassesPixelWeights, "SEMANTIC_LOSS")
        if not getattr(META_ARCH_REGISTRY.get(model.META_ARCHITECTURE), "weights_its_own_loss", False):
            _replace(
                model.SEM_SEG_HEAD, "NAME", _SEMANTIC_HEADS, SEM_SEG_HEADS_REGISTRY, PixelWeightedHead, "SEMANTIC_LOSS"
            )
    if has_masks and node.MASK_LOSS:
        _replace(model.ROI_HEADS, "NAME", _ROI_HEADS, ROI_HEADS_REGISTRY, PNMROIHeads, "MASK_LOSS")


def _check(node: CfgNode) -> None:
    for locality in (node.LOCALITY, node.ROI_LOCALITY):
        check_locality(locality, node.BORDER)
    check_transform(node.TRANSFORM)
    if node.SOURCE not in SOURCES:
        raise UserError(f"MODEL.PNM.SOURCE is {node.SOURCE!r}, expected one of {', '.join(SOURCES)}")


def _replace(node: CfgNode, key: str, table: dict[str, str], registry, weighted: type, switch: str) -> None:
    """Puts the weighted class's name into ``node[key]``; one that is a subclass of ``weighted`` already stays."""
    name = table.get(node[key], node[key])
    found = registry.get(name) if name in registry else None
    if not (isinstance(found, type) and issubclass(found, weighted)):
        raise UserError(
            f"MODEL.PNM.ENABLED: {node[key]} has no weighted loss; derive it from {weighted.__name__} "
            f"(GETTING_STARTED.md, Pixel weights), or set MODEL.PNM.{switch} False"
        )
    node[key] = name
