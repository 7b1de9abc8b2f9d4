"""Config keys that all refiners share."""

from detectron2.config import CfgNode

from pnm.errors import UserError

from .model import refiner_class, refiner_names


def add_refining_config(cfg: CfgNode) -> None:
    """Adds ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``."""
    # Result files that a refiner starts from, one for each data set in DATASETS.TRAIN and .TEST: COCO results JSON,
    # COCO panoptic JSON, sem_seg_predictions.json, a folder of label PNGs, or one of Cityscapes *_pred.txt.
    cfg.DATASETS.PREDICTIONS_TRAIN = ()
    cfg.DATASETS.PREDICTIONS_TEST = ()


def check_refining_config(cfg: CfgNode) -> None:
    """A UserError if predictions are named for a model that refines none."""
    named = [key for key in ("PREDICTIONS_TRAIN", "PREDICTIONS_TEST") if cfg.DATASETS[key]]
    if named and refiner_class(cfg) is None:
        raise UserError(
            f"DATASETS.{named[0]} is for refiners ({', '.join(refiner_names())}), but MODEL.META_ARCHITECTURE is "
            f"{cfg.MODEL.META_ARCHITECTURE}: leave it away, or give the config of a refiner"
        )
