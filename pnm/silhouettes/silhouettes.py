"""Silhouettes (SE-PSNet, section III-B): the pixels of which one of the 4 neighbours has another label.

The line is 2 px wide, one on each side of a border, whatever the labels are. (The paper filters label images by a
Laplacian, whose response depends on the numbers that objects happen to have.) The image's frame is no border. Ignored
pixels are none and make none.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F

Place = tuple[Any, ...]


def _pairs(axis: int) -> tuple[Place, Place]:
    """Where the two pixels of all neighbouring pairs along the last axis (-1) or the one before (-2) are."""
    first, second = slice(None, -1), slice(1, None)
    return ((..., first), (..., second)) if axis == -1 else ((..., first, slice(None)), (..., second, slice(None)))


def label_silhouettes(labels: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """(..., H, W) bool silhouettes of (..., H, W) label maps or masks.

    Args:
        labels: integers or bool.
        valid: (..., H, W) bool, pixels that are not ignored; None for all.
    """
    silhouettes = torch.zeros_like(labels, dtype=torch.bool)
    for axis in (-1, -2):
        here, there = _pairs(axis)
        border = labels[here] != labels[there]
        if valid is not None:
            border &= valid[here] & valid[there]
        silhouettes[here] |= border
        silhouettes[there] |= border
    return silhouettes


def soft_silhouettes(probs: torch.Tensor) -> torch.Tensor:
    """(..., H, W) silhouettes of probabilities: the largest difference from one of the 4 neighbours.

    It equals :func:`label_silhouettes` on zeros and ones. A ramp has one, too, which a Laplacian would not see.
    """
    differences = torch.zeros_like(probs)
    for axis in (-1, -2):
        here, there = _pairs(axis)
        step = (probs[there] - probs[here]).abs()
        before, after = ((1, 0), (0, 1)) if axis == -1 else ((0, 0, 1, 0), (0, 0, 0, 1))
        for padding in (before, after):
            differences = torch.maximum(differences, F.pad(step, padding))
    return differences


def region_silhouettes(masks: torch.Tensor) -> torch.Tensor:
    """(R, M, M) bool silhouettes of masks within boxes, outside of which is background: a tight box touches its
    object's contour."""
    return label_silhouettes(F.pad(masks, (1, 1, 1, 1)))[..., 1:-1, 1:-1]


def soft_region_silhouettes(probs: torch.Tensor) -> torch.Tensor:
    """(R, M, M): as :func:`region_silhouettes`, of probabilities."""
    return soft_silhouettes(F.pad(probs, (1, 1, 1, 1)))[..., 1:-1, 1:-1]


def union_of_silhouettes(
    masks: torch.Tensor, boxes_xyxy: torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """(H, W) bool: the pixels that are in the silhouette of some mask, whatever the order of the masks.

    Args:
        masks: (N, H, W) bool.
        boxes_xyxy: (N, 4) in px, in which the masks lie.
        valid: (H, W) bool, pixels that are not ignored; None for all.
    """
    height, width = masks.shape[-2:]
    union = torch.zeros(height, width, dtype=torch.bool, device=masks.device)
    for mask, window in zip(masks, _windows(boxes_xyxy, height, width), strict=True):
        union[window] |= label_silhouettes(mask[window], None if valid is None else valid[window])
    return union


def _windows(boxes_xyxy: torch.Tensor, height: int, width: int) -> Iterable[tuple[slice, slice]]:
    """The rows and columns of each box, one pixel wider on all sides: silhouettes are outside of their masks, too."""
    low = (boxes_xyxy[:, :2].floor() - 1).clamp(min=0).long().tolist()
    high = (boxes_xyxy[:, 2:].ceil() + 1).long().tolist()
    for (left, top), (right, bottom) in zip(low, high, strict=True):
        yield slice(min(top, height), min(bottom, height)), slice(min(left, width), min(right, width))


def at_stride(silhouettes: torch.Tensor, valid: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Silhouettes (N, H, W) bool and their valid pixels at a coarser grid, (N, ceil(H / s), ceil(W / s)) bool each.

    A cell is silhouette if one of its pixels is, and valid if one of them is: sampling would lose the line.
    """
    found, counted = (_any_in_cell(part, stride) for part in (silhouettes & valid, valid))
    return found, counted


def _any_in_cell(flags: torch.Tensor, stride: int) -> torch.Tensor:
    pooled = F.max_pool2d(flags[:, None].to(torch.float32), stride, ceil_mode=True)
    return pooled[:, 0] > 0
