"""Config keys of SE-PSNet."""

import math
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.fcos.cells import check_ranges

from ..dataset_mappers.panoptic_classes import MOST_CLASSES, classes_of
from .basis_head import STRIDE
from .output_classes import OutputClasses

ARCHITECTURE = "SEPSNet"
NORMS = ("BN", "SyncBN", "GN", "FrozenBN", "")
_GROUPS = 32  # of "GN"
_RANGES: dict[str, tuple[float, float]] = {  # least and most of keys
    "NUM_THINGS": (0, 1e5),
    "NUM_STUFF": (0, MOST_CLASSES),
    **dict.fromkeys(("FCOS.FOCAL_GAMMA", "FCOS.BOX_BIAS"), (0, 100)),
    **dict.fromkeys(("ALPHA", "FCOS.FOCAL_ALPHA", "FCOS.SCORE_THRESH", "FCOS.NMS_THRESH"), (0, 1)),
    **dict.fromkeys(("FUSION.SCORE_THRESH", "FUSION.OVERLAP_THRESH", "FUSION.DUPLICATE_IOU"), (0, 1)),
    **dict.fromkeys(("FCOS.PRE_NMS_TOPK", "FCOS.DETECTIONS", "MAX_POSITIVES", "CONFIDENCE.MAX_REGIONS"), (1, 1e6)),
    **dict.fromkeys(("BASES.NUMBER", "BASES.WIDTH", "CONFIDENCE.WIDTH", "CONFIDENCE.FC_DIM"), (1, 4096)),
    **dict.fromkeys(("ATTENTION_SIZE", "MASK_SIZE"), (2, 256)),
    "FCOS.NUM_CONVS": (0, 16),
    "FCOS.RADIUS": (0.5, 100),
    "FCOS.PRIOR_PROB": (1e-6, 0.5),
    "FUSION.STUFF_AREA_LIMIT": (0, 1e12),
}


def add_se_psnet_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.SE_PSNET``."""
    node = cfg.MODEL.SE_PSNET = CfgNode()
    # Number of thing and of stuff classes; 0 takes those of the data sets.
    node.NUM_THINGS = 0
    node.NUM_STUFF = 0
    # False leaves the stuff head away: instances only.
    node.PANOPTIC = True

    # Table I's switches; all off is BlendMask with a stuff branch. IoU and silhouette loss of masks, beside BCE.
    node.MASK_LOSS = True
    # A head that says how good a mask is; Mask Scores in the place of FCOS's (Eq. 4).
    node.MASK_SCORE = True
    # A basis that is the silhouette of things.
    node.BASIS_SILHOUETTE = True
    # Silhouettes predicted from mask logits, and from the stuff head; in training only.
    node.MASK_AUX = True
    node.STUFF_SILHOUETTE = True

    # Whether the silhouette is one of the bases that masks are blended of (Eq. 3).
    node.BLEND_SILHOUETTE = False
    # alpha of the Mask Score: weight of FCOS's score, the rest being the predicted IoU's.
    node.ALPHA = 0.8
    # Side of a mask and of the attention that it is enlarged from.
    node.MASK_SIZE = 56
    node.ATTENTION_SIZE = 14
    # Cells of an image that learn masks at most, drawn at random; bounds the memory of crowded images.
    node.MAX_POSITIVES = 512

    fcos = node.FCOS = CfgNode()
    fcos.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # Largest distance from a side of the box, px, that each level but the last learns.
    fcos.SIZES_OF_INTEREST = [64, 128, 256, 512]
    # Half side of the square about a box's centre whose cells learn it, strides.
    fcos.RADIUS = 1.5
    # Convolutions of each tower, and their normalisation.
    fcos.NUM_CONVS = 4
    fcos.NORM = "GN"
    # Factor on the distances, learned for each level.
    fcos.SCALES = False
    # Probability of a class, and bias of the distances in strides, before training.
    fcos.PRIOR_PROB = 0.01
    fcos.BOX_BIAS = 0.0
    # alpha and gamma of the focal loss.
    fcos.FOCAL_ALPHA = 0.25
    fcos.FOCAL_GAMMA = 2.0
    # Least class probability x centre-ness, detections of a level before NMS, its IoU, detections of an image.
    fcos.SCORE_THRESH = 0.05
    fcos.PRE_NMS_TOPK = 1000
    fcos.NMS_THRESH = 0.6
    fcos.DETECTIONS = 100

    bases = node.BASES = CfgNode()
    # K, width and normalisation of the basis head.
    bases.NUMBER = 4
    bases.WIDTH = 128
    bases.NORM = "GN"
    # The auxiliary semantic output on P3: whether there is one, and its normalisation.
    bases.SEMANTIC_AUX = True
    bases.SEMANTIC_NORM = "GN"

    confidence = node.CONFIDENCE = CfgNode()
    # Width of the convolutions and of the first full layer; regions of an image that it learns from at most.
    confidence.WIDTH = 128
    confidence.FC_DIM = 1024
    confidence.MAX_REGIONS = 64

    # Weights of the losses, beside SEM_SEG_HEAD.LOSS_WEIGHT. The paper gives none: these are BlendMask's, and ours for
    # what is new.
    weights = node.LOSS_WEIGHTS = CfgNode()
    weights.CLASS = 1.0
    weights.BOX = 1.0
    weights.CENTERNESS = 1.0
    weights.MASK = 1.0
    weights.MASK_IOU = 1.0
    weights.SEMANTIC_AUX = 0.3
    weights.CONFIDENCE = 1.0
    # Of each silhouette: of masks, of the basis, auxiliary, of stuff.
    weights.SILHOUETTE = 0.5

    fusion = node.FUSION = CfgNode()
    # Instances below the score are left out of the panoptic map; so are those of which more than the share is hidden.
    fusion.SCORE_THRESH = 0.45
    fusion.OVERLAP_THRESH = 0.4
    # Stuff classes with fewer pixels of the image are left out.
    fusion.STUFF_AREA_LIMIT = 4096
    # Masks of one class with a higher IoU are one object, of which the best silhouette remains.
    fusion.DUPLICATE_IOU = 0.5


def check_se_psnet_config(cfg: CfgNode) -> None:
    """A UserError if an SE-PSNet is described that can't be."""
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        return
    node = cfg.MODEL.SE_PSNET
    for key, (least, most) in _RANGES.items():
        value = _value(node, key)
        if not least <= value <= most:
            raise UserError(f"MODEL.SE_PSNET.{key} is {value}, expected {least} to {most}")
    for key, weight in node.LOSS_WEIGHTS.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"MODEL.SE_PSNET.LOSS_WEIGHTS.{key} is {weight}, expected a number from 0 on")
    check_ranges(node.FCOS.SIZES_OF_INTEREST, len(node.FCOS.IN_FEATURES))
    widths = {"FCOS.NORM": ("MODEL.FPN.OUT_CHANNELS", cfg.MODEL.FPN.OUT_CHANNELS)}
    widths |= dict.fromkeys(("BASES.NORM", "BASES.SEMANTIC_NORM"), ("MODEL.SE_PSNET.BASES.WIDTH", node.BASES.WIDTH))
    for key, (name, width) in widths.items():
        _check_norm(f"MODEL.SE_PSNET.{key}", _value(node, key), name, width)
    head = cfg.MODEL.SEM_SEG_HEAD
    if node.PANOPTIC:
        _check_norm("MODEL.SEM_SEG_HEAD.NORM", head.NORM, "MODEL.SEM_SEG_HEAD.CONVS_DIM", head.CONVS_DIM)
        if head.COMMON_STRIDE != STRIDE:
            raise UserError(f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE is {head.COMMON_STRIDE}, expected {STRIDE}, that of P2")
    if cfg.INPUT.MASK_FORMAT != "bitmask":
        raise UserError(
            f"INPUT.MASK_FORMAT is {cfg.INPUT.MASK_FORMAT}, but silhouettes need masks that move as labels do: set "
            "INPUT.MASK_FORMAT bitmask"
        )
    if not cfg.MODEL.MASK_ON:
        raise UserError("MODEL.MASK_ON is False, but SE-PSNet predicts masks: set MODEL.MASK_ON True")
    if node.BLEND_SILHOUETTE and not node.BASIS_SILHOUETTE:
        raise UserError("MODEL.SE_PSNET.BLEND_SILHOUETTE needs BASIS_SILHOUETTE True")


def _value(node: CfgNode, key: str) -> Any:
    for part in key.split("."):
        node = node[part]
    return node


def _check_norm(key: str, norm: str, width_key: str, width: int) -> None:
    if norm not in NORMS:
        raise UserError(f"{key} is {norm!r}, expected one of {', '.join(NORMS[:-1])}, or an empty text for none")
    if norm == "GN" and (width % _GROUPS or width == _GROUPS):  # a level may have one cell
        raise UserError(
            f"{key} is GN, whose {_GROUPS} groups take two channels each or more, but {width_key} is {width}: take a "
            f"multiple of {_GROUPS} from {2 * _GROUPS} on, or another norm"
        )


def take_numbers_of_classes(cfg: CfgNode, metadata: Mapping[str, Any]) -> None:
    """Sets numbers of classes that were left at 0 to those of the data sets.

    Args:
        metadata: of each data set that is used.

    Raises:
        UserError: a data set without the classes that are needed, or with other ones.
    """
    if cfg.MODEL.META_ARCHITECTURE != ARCHITECTURE:
        return
    node, names_of = cfg.MODEL.SE_PSNET, dict[str, list[str]]()
    for name, one in metadata.items():
        numbers, names_of[name] = _classes(cfg, name, one)
        for key, number in numbers.items():
            if node[key] not in (0, number):
                raise UserError(
                    f"MODEL.SE_PSNET.{key} is {node[key]}, but data set {name} has {number}: leave the key out"
                )
            node[key] = number
    _check_equal(names_of, cfg, metadata)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = node.NUM_STUFF + 1
    ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if node.PANOPTIC and 0 <= ignored <= node.NUM_STUFF:
        raise UserError(f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignored}, which is a stuff label: leave it at 255")


def _classes(cfg: CfgNode, name: str, metadata: Any) -> tuple[dict[str, int], list[str]]:
    """Numbers of classes of a data set by key, and the names of its things, then of its stuff."""
    things = list(metadata.get("thing_classes", None) or ())
    is_panoptic = metadata.get("stuff_dataset_id_to_contiguous_id", None) is not None
    if is_panoptic and not cfg.MODEL.SE_PSNET.PANOPTIC:
        raise UserError(
            f"data set {name} is panoptic, but MODEL.SE_PSNET.PANOPTIC is False: set it True, or take a data set of "
            "instances"
        )
    if not is_panoptic and (name not in cfg.DATASETS.TRAIN or not cfg.MODEL.SE_PSNET.PANOPTIC):
        if not things:
            raise UserError(f"data set {name} has no things, which SE-PSNet learns")
        return {"NUM_THINGS": len(things)}, things
    classes = classes_of(name, metadata)
    stuff = list(metadata.get("stuff_classes", None) or ())
    names = [things[k] for _, k in classes.things] + [stuff[~k] for _, k in classes.stuff]
    return {"NUM_THINGS": len(classes.things), "NUM_STUFF": len(classes.stuff)}, names


def _check_equal(names_of: Mapping[str, list[str]], cfg: CfgNode, metadata: Mapping[str, Any]) -> None:
    """A UserError if data sets number other classes alike, or results would have to be numbered in two ways."""
    for (first, names), (other, others) in zip(names_of.items(), list(names_of.items())[1:]):
        for number, (a, b) in enumerate(zip(names, others)):
            if a != b:
                raise UserError(
                    f"data sets {first} and {other} number other classes alike: {number} is {a} in one and {b} in the "
                    "other; give both the same categories, with the same ids"
                )
    tested = [
        (name, OutputClasses.of_data(classes_of(name, metadata[name])))
        for name in dict.fromkeys(cfg.DATASETS.TEST)
        if name in metadata and metadata[name].get("stuff_dataset_id_to_contiguous_id", None) is not None
    ]
    for (first, classes), (other, others_classes) in zip(tested, tested[1:]):
        if classes != others_classes:
            raise UserError(
                f"{first} and {other} in DATASETS.TEST number their classes in two ways: evaluate them apart"
            )
