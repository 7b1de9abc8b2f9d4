"""Semantic heads whose loss is weighted by pixel. All of them share :meth:`PixelWeightedHead.pixel_loss`."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import nn

from pnm.null_model.batched import pixel_null_model_torch
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.weighted_losses import weighted_cross_entropy

from .config import PNMSettings
from .weight_scalars import log_weights


class PixelWeightedHead(nn.Module):
    """Mixin of semantic heads, to be named before the head's own class.

    A head calls ``self.pixel_loss(logits, targets)`` in place of its cross-entropy and sets ``self.pnm``; the rest of
    what is used, ``ignore_value``, every semantic head of Detectron2 has.

    Attributes:
        pnm: how pixels are weighted; None leaves the loss unweighted.
        pixel_weights: (N, H, W) weights of the present batch, put here by :class:`.meta_arch.PassesPixelWeights`;
            None makes the head compute them from the targets.
    """

    pnm: PNMSettings | None = None
    pixel_weights: torch.Tensor | None = None
    ignore_value: int

    def pixel_loss(self, logits: torch.Tensor, targets: torch.Tensor, hard_pixel_share: float = 1.0) -> torch.Tensor:
        """Cross-entropy weighted by pixel (Eq. 6), a mean over the valid pixels of this process.

        Args:
            logits: (N, K, H, W), at the size of the targets.
            targets: (N, H, W) int64.
            hard_pixel_share: see :func:`pnm.null_model.weighted_losses.weighted_cross_entropy`.
        """
        arguments = {"ignore_label": self.ignore_value, "hard_pixel_share": hard_pixel_share}
        unit = torch.ones_like(targets, dtype=torch.float32)
        if self.pnm is None:
            return weighted_cross_entropy(logits, targets, unit, **arguments)
        weights = self._weights(targets)
        loss = weighted_cross_entropy(logits, targets, weights, **arguments)
        with torch.no_grad():
            unweighted = weighted_cross_entropy(logits, targets, unit, **arguments)
        log_weights("sem_seg", weights, targets != self.ignore_value, loss, unweighted)
        return loss

    def _weights(self, targets: torch.Tensor) -> torch.Tensor:
        if self.pixel_weights is not None:
            return self.pixel_weights
        assert self.pnm is not None
        null_model = pixel_null_model_torch(
            targets, self.pnm.locality, ignore_label=self.ignore_value, border=self.pnm.border
        )
        return pixel_weights(null_model, self.pnm.transform)


@SEM_SEG_HEADS_REGISTRY.register()
class PNMSemSegFPNHead(PixelWeightedHead, SemSegFPNHead):
    """Semantic FPN's head, weighted."""

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
        return {**super().from_config(cfg, input_shape), "pnm": PNMSettings.semantic(cfg)}

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss_sem_seg`` at full resolution."""
        if self.pnm is None:
            return super().losses(predictions, targets)
        logits = F.interpolate(
            predictions.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )
        return {"loss_sem_seg": self.pixel_loss(logits, targets) * self.loss_weight}
