"""Semantic heads whose loss ``MODEL.PNM`` weights by pixel."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from pnm.null_model.settings import PNMSettings

from ..semantic_networks import DeepLabV3Head, DeepLabV3PlusHead, PixelWeightedHead
from ..semantic_networks.weight_settings import semantic_settings


@SEM_SEG_HEADS_REGISTRY.register()
class PNMSemSegFPNHead(PixelWeightedHead, SemSegFPNHead):
    """Semantic FPN's head, weighted."""

    common_stride: int
    loss_weight: float
    layers: Any

    @configurable
    def __init__(self, *, pnm: PNMSettings | None, **kwargs):
        """
        Args:
            pnm: None gives ``SemSegFPNHead``.
            kwargs: see ``SemSegFPNHead``.
        """
        super().__init__(**kwargs)
        self.pnm = pnm

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        return {**super().from_config(cfg, input_shape), "pnm": semantic_settings(cfg)}

    def forward(
        self,
        features: dict[str, torch.Tensor],
        targets: torch.Tensor | None = None,
        pixel_weights: torch.Tensor | None = None,
    ):
        """(None, losses) in training; ((N, K, H, W) logits at the images' resolution, {}) in inference."""
        if not self.training or self.pnm is None:
            return super().forward(features, targets)
        assert targets is not None
        logits = F.interpolate(
            self.layers(features).float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )
        return None, {"loss_sem_seg": self.pixel_loss(logits, targets, pixel_weights) * self.loss_weight}


@SEM_SEG_HEADS_REGISTRY.register()
class PNMDeepLabV3Head(DeepLabV3Head):
    """DeepLabV3's head, weighted with ``MODEL.PNM.ENABLED``."""

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        return {**super().from_config(cfg, input_shape), "pnm": semantic_settings(cfg)}


@SEM_SEG_HEADS_REGISTRY.register()
class PNMDeepLabV3PlusHead(DeepLabV3PlusHead):
    """DeepLabV3+'s head, weighted with ``MODEL.PNM.ENABLED``."""

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        return {**super().from_config(cfg, input_shape), "pnm": semantic_settings(cfg)}
