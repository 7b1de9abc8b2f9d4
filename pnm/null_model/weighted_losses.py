"""Pixel-weighted losses (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation", Eq. 6).

A loss is the sum of weight x pixel loss over the valid pixels of the batch, divided by their *number*: unit weights
give torch's own mean and gradient. Ignored pixels enter neither, whatever their loss or weight. Without a valid pixel
the loss is a zero that can be differentiated. Sums and numbers are those of this process; nothing is reduced over
processes.
"""

import torch
import torch.nn.functional as F

from pnm.errors import UserError


def weighted_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    *,
    ignore_label: int = 255,
    hard_pixel_share: float = 1.0,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Softmax cross-entropy weighted by pixel.

    Args:
        logits: (N, C, ...) floating, usually (N, C, H, W).
        labels: (N, ...) integers in 0..C - 1 or ``ignore_label``.
        weights: (N, ...) floating, for example ``pixel_weights(pixel_null_model_torch(labels, 35))``.
        ignore_label: label of pixels that are left out.
        hard_pixel_share: in (0, 1]; below 1 only this share of the valid pixels, those with the largest weighted loss,
            is summed, and divided by *their* number (the hard-pixel mining of DeepLab's heads, where it is 0.2 and
            counts ignored pixels as well). At least one pixel is kept.
        label_smoothing: as in ``torch.nn.functional.cross_entropy``.

    Returns:
        Scalar.

    Raises:
        UserError: shapes that don't fit, labels or weights of the wrong kind, a share outside (0, 1].
    """
    if logits.dim() < 2 or labels.shape != (len(logits), *logits.shape[2:]):
        raise UserError(
            f"logits are {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected (N, C, ...) and (N, ...): "
            "resize the logits to the labels first"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"labels are {labels.dtype}, expected integers: convert them with .long()")
    _check_weights(weights, labels.shape)
    losses, valid = pixel_cross_entropy(logits, labels, ignore_label=ignore_label, label_smoothing=label_smoothing)
    return weighted_mean(losses, weights, valid, hard_pixel_share)


def pixel_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, *, ignore_label: int = 255, label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax cross-entropy of each pixel (N, ...), and which pixels are valid (N, ...), for :func:`weighted_mean`.

    Arguments as in :func:`weighted_cross_entropy`, whose parts these two functions are: losses that are computed once
    can be averaged with several weights.
    """
    labels = labels.long()
    losses = F.cross_entropy(
        logits, labels, reduction="none", ignore_index=ignore_label, label_smoothing=label_smoothing
    )
    return losses, labels != ignore_label


def weighted_bce_with_logits(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    ignore_label: int | None = 255,
    hard_pixel_share: float = 1.0,
) -> torch.Tensor:
    """Binary cross-entropy of logits weighted by pixel.

    Args:
        logits: floating, any shape, for example (R, 28, 28) mask logits of R regions.
        targets: as logits; bool, integers 0 and 1, or probabilities.
        weights: floating, as logits.
        ignore_label: target of pixels that are left out; None if there are none.
        hard_pixel_share: as in :func:`weighted_cross_entropy`.

    Returns:
        Scalar.

    Raises:
        UserError: shapes that don't fit, weights that are not floating, a share outside (0, 1].
    """
    if targets.shape != logits.shape:
        raise UserError(
            f"logits are {tuple(logits.shape)} and targets {tuple(targets.shape)}, expected the same shape: "
            "pick the logits of the target's class first"
        )
    _check_weights(weights, logits.shape)
    targets = targets.to(logits.dtype)
    valid = torch.ones_like(targets, dtype=torch.bool) if ignore_label is None else targets != ignore_label
    losses = F.binary_cross_entropy_with_logits(logits, targets.where(valid, 0), reduction="none")
    return weighted_mean(losses, weights, valid, hard_pixel_share)


def _check_weights(weights: torch.Tensor, shape: torch.Size) -> None:
    if weights.shape != shape or not weights.is_floating_point():
        raise UserError(
            f"weights are {tuple(weights.shape)} {weights.dtype}, expected {tuple(shape)} floating: "
            "one weight a pixel, as pixel_weights gives"
        )


def weighted_mean(
    losses: torch.Tensor, weights: torch.Tensor | None, valid: torch.Tensor, hard_pixel_share: float = 1.0
) -> torch.Tensor:
    """Sum of weight x loss over the valid pixels, divided by their number (Eq. 6); 0 where there is none.

    Args:
        losses: of each pixel, any shape.
        weights: floating, as ``losses``; None for weight 1.
        valid: bool, as ``losses``.
        hard_pixel_share: as in :func:`weighted_cross_entropy`.

    Returns:
        Scalar of the losses' type.

    Raises:
        UserError: a share outside (0, 1].
    """
    if not 0 < hard_pixel_share <= 1:
        raise UserError(f"hard_pixel_share is {hard_pixel_share}, expected a share in (0, 1]; 1 takes every pixel")
    dtype = torch.promote_types(losses.dtype, torch.float32)  # a sum in half precision would overflow
    weighted = losses.to(dtype).where(valid, 0)
    if weights is not None:
        weighted = weighted * weights.to(dtype).where(valid, 0)
    if hard_pixel_share == 1:
        return (weighted.sum() / valid.sum().clamp(min=1)).to(losses.dtype)
    number = int(valid.sum())
    kept = min(max(int(hard_pixel_share * number), 1), weighted.numel())
    # Ignored pixels come last: they are kept only where there is nothing else, and then the sum is zero.
    hardness = weighted.detach().masked_fill(~valid, -torch.inf).flatten()
    return (weighted.flatten()[hardness.topk(kept).indices].sum() / max(kept, 1)).to(losses.dtype)
