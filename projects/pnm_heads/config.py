"""Config keys of the pixel null model, and what they say of each loss."""

from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.null_model.null_model import check_locality
from pnm.null_model.pixel_weights import check_transform
from pnm.null_model.stored.surprisal import check_map_locality

SOURCES = ("label", "offline", "online")
LABELS = ("semantic", "panoptic")


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
    # Where semantic weights come from: "label" computes them of the label as it is stored, and moves them through its
    # augmentations (the paper's "once in preprocessing", without files); "offline" does so with maps that
    # tools/precompute_weights.py has made; "online" computes them of the augmented label, d then being pixels of that.
    cfg.MODEL.PNM.SOURCE = "label"
    # Whose null model it is: "semantic" labels', or that of the ids in "panoptic" PNGs, in which a border between two
    # cars is a border. Beyond the paper.
    cfg.MODEL.PNM.LABELS = "semantic"
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
    if node.LABELS not in LABELS:
        raise UserError(f"MODEL.PNM.LABELS is {node.LABELS!r}, expected one of {', '.join(LABELS)}")
    if node.SOURCE != "online":
        check_map_locality(node.LOCALITY, node.BORDER)
