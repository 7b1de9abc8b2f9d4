"""Non-maximum suppression."""

import torch
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

__all__ = ["batched_nms", "nms"]


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Suppression within each group of boxes that share an index.

    Args:
        boxes: (N, 4) corners. Half precision cannot hold the offsets between groups, so it runs in float32.
        scores, idxs: (N,) scores and group indices.
        iou_threshold: a box is dropped when a better one of its group overlaps it by more than this.

    Returns:
        Indices of the boxes kept, best score first.
    """
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)
