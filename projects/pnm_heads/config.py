"""Config keys of the pixel null model, and what they say of each loss."""

from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.null_model.null_model import check_locality
from pnm.null_model.pixel_weights import check_transform

SOURCES = ("online", "offline")


def add_pnm_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.PNM``."""
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


def check_pnm_config(node: CfgNode) -> None:
    """A UserError unless the values of ``MODEL.PNM`` exist."""
    for locality in (node.LOCALITY, node.ROI_LOCALITY):
        check_locality(locality, node.BORDER)
    check_transform(node.TRANSFORM)
    if node.SOURCE not in SOURCES:
        raise UserError(f"MODEL.PNM.SOURCE is {node.SOURCE!r}, expected one of {', '.join(SOURCES)}")
