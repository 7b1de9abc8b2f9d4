"""Config keys that all refiners share."""

from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.object_refinement.decision import decision_of

from .model import refiner_class, refiner_names


def add_refining_config(cfg: CfgNode) -> None:
    """Adds ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``, and ``MODEL.REFINING_STRENGTH``."""
    # How much a refiner changes, 0 (nothing) to 1 (all that it says): a pixel gets another label only if that is more
    # probable than 1 - strength / 2; of SegFix, if a boundary is that much more probable than its threshold.
    cfg.MODEL.REFINING_STRENGTH = 1.0
    # Result files that a refiner starts from, one for each data set in DATASETS.TRAIN and .TEST: COCO results JSON,
    # COCO panoptic JSON, sem_seg_predictions.json, a folder of label PNGs, or one of Cityscapes *_pred.txt.
    cfg.DATASETS.PREDICTIONS_TRAIN = ()
    cfg.DATASETS.PREDICTIONS_TEST = ()


def check_refining_config(cfg: CfgNode) -> None:
    """A UserError if predictions are named for a model that refines none."""
    decision_of(cfg.MODEL.REFINING_STRENGTH, "MODEL.REFINING_STRENGTH")
    refiner = refiner_class(cfg)
    if cfg.MODEL.REFINING_STRENGTH != 1 and not (refiner and refiner.has_strength):
        raise UserError(
            f"MODEL.REFINING_STRENGTH is {cfg.MODEL.REFINING_STRENGTH}, and {cfg.MODEL.META_ARCHITECTURE} has none: "
            "leave it at 1.0"
        )
    named = [key for key in ("PREDICTIONS_TRAIN", "PREDICTIONS_TEST") if cfg.DATASETS[key]]
    if named and refiner_class(cfg) is None:
        raise UserError(
            f"DATASETS.{named[0]} is for refiners ({', '.join(refiner_names())}), but MODEL.META_ARCHITECTURE is "
            f"{cfg.MODEL.META_ARCHITECTURE}: leave it away, or give the config of a refiner"
        )
