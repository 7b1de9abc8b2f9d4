"""How good a mask is: the Mask Score (SE-PSNet, Eq. 4), and what its two parts learn (section III-G)."""

import torch

from pnm.errors import UserError
from pnm.silhouettes.overlap_losses import silhouette_scores
from pnm.silhouettes.silhouettes import region_silhouettes


def mask_score(fcos_scores: torch.Tensor, iou_scores: torch.Tensor, alpha: float) -> torch.Tensor:
    """alpha x FCOS score + (1 - alpha) x IoU score (Eq. 4), (R,) in [0, 1].

    Raises:
        UserError: alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha of the Mask Score is {alpha}, expected 0 to 1")
    return alpha * fcos_scores + (1 - alpha) * iou_scores


def iou_targets(masks: torch.Tensor, targets: torch.Tensor, share_inside: torch.Tensor) -> torch.Tensor:
    """(R,) float32 IoU of predicted masks with their objects.

    The object's part outside of the region counts, as in Mask Scoring R-CNN.

    Args:
        masks, targets: (R, M, M) bool, prediction and truth within the predicted box.
        share_inside: (R,) in [0, 1], share of the object's area within the box.
    """
    both, mask, target = ((part.flatten(1)).sum(1).float() for part in (masks & targets, masks, targets))
    whole = target / share_inside.clamp(min=1e-6)
    union = mask + whole - both
    return torch.where(union > 0, both / union.clamp(min=1e-6), 0)


def silhouette_targets(masks: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(R,) float32 silhouette scores (Eq. 1) of predicted masks, (R, M, M) bool as in :func:`iou_targets`."""
    return silhouette_scores(region_silhouettes(masks), region_silhouettes(targets))
