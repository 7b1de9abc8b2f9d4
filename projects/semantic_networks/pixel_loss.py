"""The loss that all semantic heads of this project share: cross-entropy, weighted by pixel if that is asked for."""

import torch
from torch import nn

from pnm.null_model.settings import PNMSettings
from pnm.null_model.weighted_losses import pixel_cross_entropy, weighted_mean

from .weight_scalars import log_weights


class PixelWeightedHead(nn.Module):
    """Mixin of semantic heads, to be named before the head's own class.

    A head takes the batch's weights as third argument of ``forward(features, targets, pixel_weights)``, calls
    ``self.pixel_loss(logits, targets, pixel_weights)`` in place of its cross-entropy, and sets ``self.pnm``. The rest
    of what is used, ``ignore_value``, every semantic head of Detectron2 has.

    Attributes:
        pnm: how pixels are weighted; None leaves the loss unweighted.
    """

    pnm: PNMSettings | None = None
    ignore_value: int

    def pixel_loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        pixel_weights: torch.Tensor | None = None,
        hard_pixel_share: float = 1.0,
    ) -> torch.Tensor:
        """Cross-entropy weighted by pixel (PNM, Eq. 6), a mean over the valid pixels of this process.

        Args:
            logits: (N, K, H, W), at the size of the targets.
            targets: (N, H, W) int64.
            pixel_weights: (N, H, W) weights of the batch; None computes them from the targets.
            hard_pixel_share: see :func:`pnm.null_model.weighted_losses.weighted_cross_entropy`.
        """
        losses, valid = pixel_cross_entropy(logits, targets, ignore_label=self.ignore_value)
        weights = self.weights_of(targets, pixel_weights)
        if weights is None:
            return weighted_mean(losses, None, valid, hard_pixel_share)
        loss = weighted_mean(losses, weights, valid, hard_pixel_share)
        log_weights("sem_seg", weights, valid, loss, weighted_mean(losses.detach(), None, valid, hard_pixel_share))
        return loss

    def weights_of(self, targets: torch.Tensor, pixel_weights: torch.Tensor | None) -> torch.Tensor | None:
        """The weights that the loss takes: the batch's own, else those of its targets; None without weighting."""
        if self.pnm is None:
            return None
        return self.pnm.weights(targets, self.ignore_value) if pixel_weights is None else pixel_weights
