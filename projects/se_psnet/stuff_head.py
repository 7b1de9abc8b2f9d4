"""The stuff head: Semantic FPN's, with an auxiliary silhouette of stuff (SE-PSNet, section III-C)."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from pnm.null_model.settings import PNMSettings
from pnm.silhouettes.overlap_losses import silhouette_loss
from pnm.silhouettes.silhouettes import label_silhouettes

from ..semantic_networks import PixelWeightedHead
from ..semantic_networks.weight_settings import semantic_settings


@SEM_SEG_HEADS_REGISTRY.register()
class SilhouetteStuffHead(PixelWeightedHead, SemSegFPNHead):
    """Classes are "other" (any thing), then stuff. The silhouette is learned in training only."""

    common_stride: int
    loss_weight: float
    predictor: Any
    scale_heads: Any
    in_features: Any

    @configurable
    def __init__(self, *, silhouette: bool, silhouette_weight: float, pnm: PNMSettings | None, **kwargs):
        """
        Args:
            silhouette: whether there is the auxiliary output.
            silhouette_weight: of its loss.
            pnm: how pixels are weighted, None for no weighting.
            kwargs: see ``SemSegFPNHead``.
        """
        super().__init__(**kwargs)
        self.pnm, self.silhouette_weight = pnm, silhouette_weight
        self.silhouette_predictor = Conv2d(self.predictor.in_channels, 1, 1) if silhouette else None

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        node = cfg.MODEL.SE_PSNET
        return {
            **super().from_config(cfg, input_shape),
            "num_classes": node.NUM_STUFF + 1,
            "silhouette": node.STUFF_SILHOUETTE,
            "silhouette_weight": node.LOSS_WEIGHTS.SILHOUETTE,
            "pnm": semantic_settings(cfg),
        }

    def summed(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, C, H / 4, W / 4), what is predicted from."""
        first, *rest = (head(features[name]) for head, name in zip(self.scale_heads, self.in_features))
        for level in rest:
            first = first + level
        return first

    def _enlarged(self, logits: torch.Tensor) -> torch.Tensor:
        return F.interpolate(logits.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False)

    def forward(
        self,
        features: dict[str, torch.Tensor],
        targets: torch.Tensor | None = None,
        pixel_weights: torch.Tensor | None = None,
    ):
        """(None, losses) in training; ((N, K, H / 4, W / 4) logits, {}) in inference."""
        summed = self.summed(features)
        logits = self.predictor(summed)
        if not self.training:
            return logits, {}
        assert targets is not None
        losses = {"loss_sem_seg": self.pixel_loss(self._enlarged(logits), targets, pixel_weights) * self.loss_weight}
        if self.silhouette_predictor is not None:
            valid = targets != self.ignore_value
            silhouettes = self._enlarged(self.silhouette_predictor(summed))[:, 0]
            loss = silhouette_loss(silhouettes, label_silhouettes(targets, valid), valid)
            losses["loss_sem_seg_silhouette"] = loss * self.silhouette_weight
        return None, losses
