"""Overlap of soft masks, as scores and losses: the silhouette score (SE-PSNet, Eq. 1 and 2) and the soft IoU.

Scores are those of single images or regions over their valid pixels, in float32: the sums of half-precision numbers
would overflow. EPSILON is 1: with less, an empty target gives a loss of 1 and no gradient.
"""

import torch

EPSILON = 1.0


def _flat(part: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """(R, pixels) float32, zero where invalid."""
    part = part.float() if valid is None else torch.where(valid, part.float(), 0)
    return part.flatten(1)


def silhouette_scores(
    probs: torch.Tensor, target: torch.Tensor, valid: torch.Tensor | None = None, epsilon: float = EPSILON
) -> torch.Tensor:
    """(R,) float32 similarities in [0, 1] of silhouettes (Eq. 1): (2 Σpg + ε) / (Σp² + Σg² + ε).

    Args:
        probs: (R, H, W) in [0, 1].
        target: (R, H, W) bool, or in [0, 1].
        valid: (R, H, W) bool; other pixels leave all sums. Without a valid pixel the score is 1 and has no gradient.
    """
    p, g = _flat(probs, valid), _flat(target, valid)
    return (2 * (p * g).sum(1) + epsilon) / ((p * p).sum(1) + (g * g).sum(1) + epsilon)


def soft_ious(
    probs: torch.Tensor, target: torch.Tensor, valid: torch.Tensor | None = None, epsilon: float = EPSILON
) -> torch.Tensor:
    """(R,) float32: (Σpg + ε) / (Σ(p + g - pg) + ε), of arguments as :func:`silhouette_scores` takes them."""
    p, g = _flat(probs, valid), _flat(target, valid)
    both = p * g
    return (both.sum(1) + epsilon) / ((p + g - both).sum(1) + epsilon)


def silhouette_loss(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over images of 1 - score (Eq. 2), of logits (N, H, W); images without a valid pixel give 0.

    It is the mean over this process's images, and 0, which can be differentiated, without one.
    """
    if valid is not None:
        logits = torch.where(valid, logits, 0)  # before the sigmoid, whose gradient is NaN at NaN, even times 0
    scores = silhouette_scores(logits.float().sigmoid(), target, valid)
    return (1 - scores).sum() / max(len(scores), 1)
