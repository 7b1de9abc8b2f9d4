"""The losses of SegFix: cross-entropies whose classes weigh 1 minus their frequency in the batch."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.utils import comm


def rare_class_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, ignored: int) -> torch.Tensor:
    """Mean cross-entropy of the counted pixels, each weighted by 1 - (frequency of its class).

    Frequencies and the denominator, the sum of the weights, are those of the whole batch over all processes; what the
    processes return has that loss as its mean, so that their number changes nothing. If no pixel counts, or all are of
    one class, the loss is a zero that can be differentiated.

    Args:
        logits: (N, K, H, W) float32.
        targets: (N, H, W) int64, classes or ``ignored``.
    """
    classes = logits.shape[1]
    counted = targets != ignored
    counts = torch.bincount(targets[counted], minlength=classes).to(logits.dtype)
    processes = comm.get_world_size()
    if processes > 1:
        dist.all_reduce(counts)
    weights = 1 - counts / counts.sum().clamp(min=1)
    total = (counts * weights).sum()
    losses = F.cross_entropy(logits, targets, weights, ignore_index=ignored, reduction="sum")
    return losses * processes / total.clamp(min=1)
