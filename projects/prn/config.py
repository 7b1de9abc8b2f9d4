"""Config keys of PRN."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.panoptic_grouping.grouping import GroupingSettings

from ..dataset_mappers.panoptic_classes import MOST_CLASSES, classes_of
from ..semantic_networks.blocks import check_norm
from .encoder import ENCODERS
from .networks import HEAD_CONVS

ARCHITECTURE = "PanopticRefiner"
FOREGROUNDS = ("branch", "semantic")
_RANGES: dict[str, tuple[float, float]] = {  # least and most of keys
    **dict.fromkeys(("NUM_THINGS", "NUM_STUFF"), (0, MOST_CLASSES)),
    **dict.fromkeys(("DEGRADED_SHARE", "GRID_MASK_PROB", "CENTER_THRESHOLD"), (0, 1)),
    **dict.fromkeys(("ENCODER_WIDTH", "INPUT_WIDTH", "DECODER_WIDTH", "HEAD_WIDTH"), (1, 4096)),
    **dict.fromkeys(
        (f"{term}_LOSS_WEIGHT" for term in ("SEMANTIC", "CENTER", "OFFSET", "BOX", "FOREGROUND")), (0, 1e6)
    ),
    "SMALL_INSTANCE_WEIGHT": (0, 1e6),
    "DEGRADED_STRENGTH": (0, 10),
    "SIGMA": (0.1, 1000),
    "UNIT": (0.1, 1e4),
    "STRIP_ROWS": (1, 1e9),
    "STUFF_AREA_LIMIT": (0, 1e12),
    "SMALL_INSTANCE_AREA": (0, 1e12),
}


def add_prn_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.PRN``; the maps to refine are named in ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``."""
    node = cfg.MODEL.PRN = CfgNode()
    # Number of thing and of stuff classes; 0 takes those of the data sets.
    node.NUM_THINGS = 0
    node.NUM_STUFF = 0
    # resnet50 (the paper's), resnet101, resnet34, resnet18, resnet10; the width of the first stage.
    node.ENCODER = "resnet50"
    node.ENCODER_WIDTH = 64
    # Encoder pretrained on ImageNet, downloaded; not read when MODEL.WEIGHTS names a file.
    node.PRETRAINED = True
    # "BN", or "SyncBN" for statistics over all processes.
    node.NORM = "BN"
    # N_en, channels of each of the three input branches.
    node.INPUT_WIDTH = 64
    # C_de, channels of the decoder.
    node.DECODER_WIDTH = 128
    # Channels of the heads at the input's resolution, and how their 5 x 5 convolution is made: "light", "separable"
    # (Panoptic-DeepLab's) or "full" (the paper's letter), see projects/prn/networks.py.
    node.HEAD_WIDTH = 32
    node.HEAD_CONV = "light"
    # Whether the convolutions of the encoder's blocks, and those of decoder and heads, see coordinates (CoordConv).
    node.COORD_ENCODER = True
    node.COORD_DECODER = True
    # Standard deviation of the Gaussians at centres, px of the network's input; 8 is for sides of 640 px.
    node.SIGMA = 8.0
    # Offsets and boxes are divided by it inside of the network, px.
    node.UNIT = 64.0
    # Share of the training maps that are degraded ground truth; the others are those of PREDICTIONS_TRAIN. Without
    # predictions, all are degraded ground truth. A base model that is much better on its training images than on
    # others calls for 0.5, or for predictions of several folds.
    node.DEGRADED_SHARE = 0.0
    # Factor on the probabilities of its faults.
    node.DEGRADED_STRENGTH = 1.0
    # GridMask on the image: its probability rises from 0 to this in the course of training.
    node.GRID_MASK_PROB = 0.7
    # Eq. 1: lambda 0 to 4.
    node.SEMANTIC_LOSS_WEIGHT = 1.0
    node.CENTER_LOSS_WEIGHT = 200.0
    node.OFFSET_LOSS_WEIGHT = 0.02
    node.BOX_LOSS_WEIGHT = 0.02
    node.FOREGROUND_LOSS_WEIGHT = 5.0
    # Weight in the semantic loss of pixels of instances smaller than so many px (Panoptic-DeepLab: 3 and 4096).
    node.SMALL_INSTANCE_WEIGHT = 1.0
    node.SMALL_INSTANCE_AREA = 4096
    # The semantic loss is taken at every so many-th pixel of rows and columns, 1 or 4; 4 needs less memory.
    node.LOSS_STRIDE = 1
    # Grouping, see pnm/panoptic_grouping/grouping.py; theta, k, the window in which a centre is highest, px.
    node.CENTER_THRESHOLD = 0.2
    node.MAX_CENTERS = 200
    node.NMS_KERNEL = 7
    # Whether boxes take part in it.
    node.USE_BOXES = True
    # Box of a centre: "votes" of the pixels that point to it, or "center", what its own pixel says (the paper).
    node.CENTER_BOX = "votes"
    # A centre whose box overlaps that of a higher one by more than this IoU is dropped; 1.0 keeps all (the paper).
    node.DUPLICATE_IOU = 0.7
    # A foreground pixel whose box agrees with no centre's: "nearest" or "remove" (the paper).
    node.UNMATCHED = "nearest"
    # What foreground is: "branch" of its own, or the "semantic" branch's things.
    node.FOREGROUND = "branch"
    # Stuff classes with fewer pixels of the image are left out.
    node.STUFF_AREA_LIMIT = 4096
    # Their pixels take other stuff; False leaves them void, and foreground that is no instance's, too.
    node.FILL_HOLES = True
    # Rows of the full-size heads that are computed at once in inference; bounds the memory.
    node.STRIP_ROWS = 64
    # Mixed precision in inference on all devices (training: SOLVER.AMP.ENABLED); PRECISION_TEST float32 is then refused
    # on CPUs.
    node.AMP_TEST = False
    # Inference on CPUs: "float32", "bfloat16", or "auto", bfloat16 where the processor computes in it; "" is float32,
    # or bfloat16 with AMP_TEST. On the quick start bfloat16 takes 0.85 of the time, most of which is grouping, and
    # moves 2.4 % of the pixels that change.
    node.PRECISION_TEST = ""


def grouping_settings(cfg: CfgNode) -> GroupingSettings:
    """How fields become instances, see the keys."""
    node = cfg.MODEL.PRN
    try:
        return GroupingSettings(
            threshold=node.CENTER_THRESHOLD,
            most_centers=node.MAX_CENTERS,
            nms_kernel=node.NMS_KERNEL,
            use_boxes=node.USE_BOXES,
            center_box=node.CENTER_BOX,
            duplicate_iou=node.DUPLICATE_IOU,
            unmatched=node.UNMATCHED,
        )
    except UserError as error:
        keys = "CENTER_THRESHOLD, MAX_CENTERS, NMS_KERNEL, CENTER_BOX, DUPLICATE_IOU, UNMATCHED"
        raise UserError(f"MODEL.PRN ({keys}): {error}") from None


def check_prn_config(cfg: CfgNode) -> None:
    """A UserError if a PRN is described that can't be."""
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        return
    node = cfg.MODEL.PRN
    grouping_settings(cfg)
    check_norm("MODEL.PRN.NORM", node.NORM)
    for key, allowed in (("ENCODER", ENCODERS), ("HEAD_CONV", HEAD_CONVS), ("FOREGROUND", FOREGROUNDS)):
        if node[key] not in allowed:
            raise UserError(f"MODEL.PRN.{key} is {node[key]!r}, expected one of {', '.join(allowed)}")
    if node.LOSS_STRIDE not in (1, 4):
        raise UserError(f"MODEL.PRN.LOSS_STRIDE is {node.LOSS_STRIDE}, expected 1 or 4")
    for key, (least, most) in _RANGES.items():
        if not least <= node[key] <= most:
            raise UserError(f"MODEL.PRN.{key} is {node[key]}, expected {least} to {most}")
    if cfg.INPUT.MIN_SIZE_TEST < 0 or cfg.INPUT.MAX_SIZE_TEST < 1:
        raise UserError(
            f"INPUT.MIN_SIZE_TEST is {cfg.INPUT.MIN_SIZE_TEST} and MAX_SIZE_TEST {cfg.INPUT.MAX_SIZE_TEST}, expected "
            "pixels, and 0 for no resizing in the first"
        )


def take_numbers_of_classes(cfg: CfgNode, metadata: Mapping[str, Any]) -> None:
    """Sets numbers of classes that were left at 0 to those of the data sets.

    Args:
        metadata: of each data set that is used.

    Raises:
        UserError: a data set without panoptic classes, or with other numbers of them.
    """
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        return
    node = cfg.MODEL.PRN
    for name, one in metadata.items():
        classes = classes_of(name, one)
        for key, number in (("NUM_THINGS", len(classes.things)), ("NUM_STUFF", len(classes.stuff))):
            if node[key] not in (0, number):
                raise UserError(f"MODEL.PRN.{key} is {node[key]}, but data set {name} has {number}: leave the key out")
            node[key] = number
