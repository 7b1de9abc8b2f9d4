"""What the whole image's outputs learn, from instances and stuff labels (SE-PSNet, section III-B)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Instances

from pnm.silhouettes.silhouettes import at_stride, union_of_silhouettes

from .basis_head import STRIDE

SEMANTIC_STRIDE = 8
IGNORED = -1  # among the semantics
OTHER = 0  # label of any thing among the stuff labels


class ImageTargets(NamedTuple):
    """Of N images that are padded to H x W; padding is ignored.

    Attributes:
        silhouettes, counted: (N, H / 4, W / 4) bool, silhouettes of things, and cells that are not ignored.
        semantics: (N, H / 8, W / 8) int64, 0 for no thing, 1 + class of things, -1 ignored.
    """

    silhouettes: torch.Tensor
    counted: torch.Tensor
    semantics: torch.Tensor


def image_targets(
    truths: Sequence[Instances], stuff_labels: Sequence[torch.Tensor] | None, size: tuple[int, int], ignore_label: int
) -> ImageTargets:
    """Targets of a batch.

    Args:
        truths: of each image, with ``gt_boxes``, ``gt_classes`` and ``gt_masks``.
        stuff_labels: of each image, (h, w) int64, 0 being any thing; None without a stuff head. What is thing but no
            instance's is a crowd, which is ignored.
        size: (H, W) of the batch.
    """
    silhouettes, counted, semantics = [], [], []
    for n, truth in enumerate(truths):
        masks = truth.gt_masks.tensor
        valid = _valid(masks, None if stuff_labels is None else stuff_labels[n], truth.image_size, ignore_label)
        line = union_of_silhouettes(masks, truth.gt_boxes.tensor, valid)
        silhouettes.append(_padded(line, size))
        counted.append(_padded(valid, size))
        semantics.append(_semantics(truth, valid, size))
    return ImageTargets(*at_stride(torch.stack(silhouettes), torch.stack(counted), STRIDE), torch.stack(semantics))


def _valid(
    masks: torch.Tensor, labels: torch.Tensor | None, image_size: tuple[int, int], ignore_label: int
) -> torch.Tensor:
    if labels is None:
        return torch.ones(image_size, dtype=torch.bool, device=masks.device)
    return (labels != ignore_label) & ((labels != OTHER) | masks.any(0))


def _padded(flags: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.pad(flags, (0, size[1] - flags.shape[1], 0, size[0] - flags.shape[0]))


def _semantics(truth: Instances, valid: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Labels at the centres of cells; where masks overlap, that of the smaller one."""
    masks = truth.gt_masks.tensor
    places = slice(SEMANTIC_STRIDE // 2, None, SEMANTIC_STRIDE)
    labels = torch.zeros_like(valid[places, places], dtype=torch.int64)
    # One by one: sums of bool go by copies of 8 bytes a pixel.
    areas = torch.stack([mask.sum() for mask in masks]) if len(masks) else labels.new_zeros(0)
    for n in areas.argsort(descending=True, stable=True).tolist():
        labels = torch.where(masks[n, places, places], truth.gt_classes[n] + 1, labels)
    labels = torch.where(valid[places, places], labels, IGNORED)
    height, width = (side // SEMANTIC_STRIDE for side in size)
    return F.pad(labels, (0, width - labels.shape[1], 0, height - labels.shape[0]), value=IGNORED)
