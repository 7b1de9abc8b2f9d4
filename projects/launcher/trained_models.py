"""A trained model for images without annotations, with its weights, and labels from the scores that it gives."""

import logging
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from pnm.errors import UserError

from ..semantic_networks.multi_scale_testing import SemanticSegmentorWithTTA
from .checkpoint import SafeCheckpointer
from .cpu_training import to_fast_format

logger = logging.getLogger(__name__)

MOST_CLASSES = 1 << 16  # that a PNG of 16 bits can tell apart
_MOST_IN_8_BITS = 255  # classes; 255 is left for pixels to ignore


def check_weights_file(weights: str, use: str) -> None:
    """A UserError unless ``MODEL.WEIGHTS`` names a file, or an address, which is seen to when it is loaded.

    Args:
        use: what they are needed for, as a sentence has it: "labels are made by a trained model".
    """
    if not weights:
        raise UserError(f"{use}; add: MODEL.WEIGHTS path/to/model_final.pth")
    if "://" not in weights and not Path(weights.partition("?")[0]).is_file():
        raise UserError(f"MODEL.WEIGHTS {weights} does not exist; check the path")


def as_tested(cfg: CfgNode, model: torch.nn.Module) -> tuple[CfgNode, torch.nn.Module]:
    """Config and model to evaluate.

    With ``TEST.AUG.ENABLED`` the model averages its predictions over scales and mirror images, and takes images as they
    are stored, so that they are resized once.
    """
    options = cfg.TEST.AUG
    if not options.ENABLED:
        return cfg, model
    augmented = SemanticSegmentorWithTTA(model, options.MIN_SIZES, options.MAX_SIZE, options.FLIP)
    sizes, mirrored = ", ".join(map(str, options.MIN_SIZES)), " and mirrored" if options.FLIP else ""
    logger.info(
        "test-time augmentation: %d passes an image, shortest edges %s px%s", augmented.num_passes, sizes, mirrored
    )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.freeze()
    return cfg, augmented


def trained_model(cfg: CfgNode) -> tuple[CfgNode, torch.nn.Module]:
    """The model with its weights, in eval mode and augmented as ``TEST.AUG`` says, and the config of its mapper.

    Raises:
        CheckpointError: the weights cannot be had or don't fit.
    """
    model = to_fast_format(build_model(cfg)).eval()
    SafeCheckpointer(model, strict=not cfg.TEST.ALLOW_PARTIAL_WEIGHTS).load(cfg.MODEL.WEIGHTS)
    return as_tested(cfg, model)


def label_map(scores: torch.Tensor) -> np.ndarray:
    """Classes of pixels from (K, H, W) scores: (H, W) uint8, or uint16 of more than 255 classes."""
    assert len(scores) <= MOST_CLASSES
    dtype = np.uint8 if len(scores) <= _MOST_IN_8_BITS else np.uint16
    return scores.argmax(dim=0).cpu().numpy().astype(dtype)
