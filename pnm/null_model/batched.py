"""The pixel null model (Eq. 1-2 of Zhang et al., "PNM: Pixel Null Model for General Image Segmentation") in torch."""

import torch
import torch.nn.functional as F

from pnm.errors import UserError
from pnm.null_model.null_model import check_locality, pixel_null_model

LARGE_MAP = 128 * 128  # pixels from which a map on the CPU is left to pixel_null_model
ELEMENTS_AT_ONCE = 2**24  # of one-hot maps
NARROW_RANGE = 4096  # labels that are numbered without sorting


def pixel_null_model_torch(
    labels: torch.Tensor, locality: int, *, ignore_label: int | None = 255, border: str = "valid"
) -> torch.Tensor:
    """:func:`pnm.null_model.null_model.pixel_null_model` of a batch, with the same values to the bit.

    Args:
        labels: (N, H, W) integers or bool on any device.
        locality, ignore_label, border: as there.

    Returns:
        (N, H, W) float32 on the same device, without gradient.

    Raises:
        UserError: labels that are no (N, H, W) tensor of integers; a locality or border as there.
    """
    locality = check_locality(locality, border)
    if not isinstance(labels, torch.Tensor):
        raise UserError(f"labels are a {type(labels).__name__}, expected a tensor; NumPy arrays: pixel_null_model")
    if labels.dim() != 3 or labels.is_floating_point() or labels.is_complex():
        raise UserError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, expected (N, H, W) integers: "
            "add a batch axis with [None], convert with .long()"
        )
    if labels.numel() == 0:
        return torch.ones(labels.shape, device=labels.device)
    if labels.device.type == "cpu" and labels[0].numel() >= LARGE_MAP:
        maps = [pixel_null_model(m.numpy(), locality, ignore_label=ignore_label, border=border) for m in labels]
        return torch.stack([torch.from_numpy(m) for m in maps])
    return null_model_by_box_sums(labels, locality, ignore_label, border)


def null_model_by_box_sums(labels: torch.Tensor, locality: int, ignore_label: int | None, border: str) -> torch.Tensor:
    """The null model of a non-empty batch from running sums of one-hot maps; the cost grows with the labels per map."""
    labels = labels.long()
    ignored = torch.zeros_like(labels, dtype=torch.bool) if ignore_label is None else labels == ignore_label
    index, number = _number_labels(labels)
    counts = torch.zeros_like(index, dtype=torch.int32)
    step = max(1, ELEMENTS_AT_ONCE // index.numel())
    for first in range(0, number, step):
        numbers = torch.arange(first, min(first + step, number), device=index.device)
        boxes = _box_sums(index[:, None] == numbers[:, None, None], locality)
        own = (index - first).clamp(0, len(numbers) - 1)[:, None]
        in_step = (index >= first) & (index < first + len(numbers))
        counts = torch.where(in_step, boxes.gather(1, own)[:, 0], counts)
    height, width = labels.shape[1:]
    whole = locality**2 if border == "zero" else min(locality, height) * min(locality, width)
    exact = torch.float32 if whole <= 2**24 else torch.float64
    denominator = float(whole) if border == "zero" else _box_sums(~ignored, locality).to(exact)
    pnm = counts.to(exact) / denominator
    return pnm.masked_fill(ignored, 1).float()


def _number_labels(labels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Each map's labels as numbers from 0, and the most labels that a map has."""
    low, high = (int(limit) for limit in torch.aminmax(labels))
    if high - low < NARROW_RANGE:
        shared = labels - low
    else:
        values, shared = torch.unique(labels, return_inverse=True)
        low, high = 0, len(values) - 1
    flat = shared.flatten(1)
    present = torch.zeros(len(labels), high - low + 1, dtype=torch.bool, device=labels.device)
    present.scatter_(1, flat, True)
    ranks = present.cumsum(1)
    return (ranks - 1).gather(1, flat).view_as(labels), int(ranks[:, -1].max())


def _box_sums(mask: torch.Tensor, locality: int) -> torch.Tensor:
    """Sums (..., H, W) int32 over the d x d window around each pixel, outside the map zero."""
    sums = mask.to(torch.int32)
    for axis in (-1, -2):
        size, radius = mask.shape[axis], locality // 2
        at = torch.arange(size, device=mask.device)
        after, before = (at + radius + 1).clamp(max=size), (at - radius).clamp(min=0)
        running = F.pad(sums.cumsum(axis, dtype=torch.int32), (1, 0) if axis == -1 else (0, 0, 1, 0))
        sums = running.index_select(axis, after) - running.index_select(axis, before)
    return sums
