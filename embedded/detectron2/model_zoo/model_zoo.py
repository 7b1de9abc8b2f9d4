"""Published checkpoints by the path of their config.

Detectron2's config files are not part of this engine. ``DETECTRON2_CONFIGS`` may name a folder that has
them (such as ``configs/`` of a clone); it serves :func:`get_config_file` and what builds on it.
"""

import os
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

_SERVER = "https://dl.fbaipublicfiles.com/detectron2/"

# config without its ending -> (number of the training run, start of the file's digest)
_PUBLISHED = {
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": (137260431, "a54504"),
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": (137849600, "f10217"),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": (138205316, "a3ec72"),
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x": (139653917, "2d9806"),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x": (139514544, "dbfeb4"),
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x": (139514569, "c10459"),
    "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x": (139514519, "cafdb1"),
    "Cityscapes/mask_rcnn_R_50_FPN": (142423278, "af9cf5"),
    "Misc/mask_rcnn_R_50_FPN_3x_gn": (138602888, "dc5d9e"),
    "Misc/mask_rcnn_R_50_FPN_3x_syncbn": (169527823, "3b3c51"),
}


def get_checkpoint_url(config_path: str) -> str:
    """The address of the model trained with a config.

    Args:
        config_path: relative to Detectron2's ``configs/``, such as
            ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml``.

    Raises:
        RuntimeError: nothing in scope is published under that name; the message lists what is.
    """
    name = config_path.removesuffix(".yaml")
    if name not in _PUBLISHED:
        raise RuntimeError(f"no checkpoint is known for {config_path}; known are {', '.join(_PUBLISHED)}")
    run, digest = _PUBLISHED[name]
    return f"{_SERVER}{name}/{run}/model_final_{digest}.pkl"


def get_config_file(config_path: str) -> str:
    """The local path of one of Detectron2's config files.

    Raises:
        RuntimeError: ``DETECTRON2_CONFIGS`` is not set or lacks the file.
    """
    folder = os.environ.get("DETECTRON2_CONFIGS")
    file = Path(folder or "", config_path)
    if not folder or not file.is_file():
        raise RuntimeError(
            f"{config_path} is not part of the embedded engine: set DETECTRON2_CONFIGS to the configs/ folder of a "
            f"Detectron2 clone (now {folder!r}), or use this project's own configs/"
        )
    return str(file)


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """The settings of one of Detectron2's configs; ``trained`` points MODEL.WEIGHTS at its published model."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """The model of one of Detectron2's configs, with its weights loaded, in training mode.

    Args:
        device: where to put it; the config's GPU if there is one, else the CPU, if None.
    """
    cfg = get_config(config_path, trained)
    if device or not torch.cuda.is_available():
        cfg.MODEL.DEVICE = device or "cpu"
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return model
