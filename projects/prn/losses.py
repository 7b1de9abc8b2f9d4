"""The losses of PRN (section 3.4, Eq. 1). Each is a mean over the pixels of this process that count, and a zero that
can be differentiated if none does."""

import torch
import torch.nn.functional as F

from pnm.null_model.weighted_losses import weighted_mean


def _mean(losses: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean over the counted pixels of (N, h, w) losses, of which others may be anything."""
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp(min=1)


def center_loss(heat: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean squared error of heat maps (N, h, w) over counted pixels, (N, h, w) bool, those of stuff included."""
    return _mean((heat - target) ** 2, counted)


def distance_loss(distances: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean L1 of offsets or box sides (N, C, h, w), px, over channels and pixels of instances, (N, h, w) bool."""
    return _mean((distances - target).abs().mean(1), inside)


def foreground_loss(
    logits: torch.Tensor, foreground: torch.Tensor, counted: torch.Tensor, pixel_weights: torch.Tensor | None
) -> torch.Tensor:
    """Binary cross-entropy of (N, h, w) logits and bool over counted pixels, weighted as PNM's Eq. 6 says."""
    losses = F.binary_cross_entropy_with_logits(logits, foreground.to(logits.dtype), reduction="none")
    return weighted_mean(losses, pixel_weights, counted, 1.0)
