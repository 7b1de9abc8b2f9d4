"""Detectron2's function that makes a panoptic map of its ``Instances`` and semantic labels, done by :mod:`.fusion`.

Masks of the whole image are cut to the rectangle that holds them: a row is empty if the OR of its bytes is 0, and only
rows that aren't are searched for their first and last pixel, outside of the columns known already. An example::

    >>> mask_extent(np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]], np.uint8))  # top, left, bottom, right
    (1, 1, 3, 3)
"""

from typing import Any

import numpy as np
import torch

from pnm.kernels import entry_kernel
from pnm.masks.crops import EMPTY, MaskCrop
from pnm.panoptic_fusion.fusion import FusedSegment, FusionSettings, fuse


@entry_kernel
def mask_extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Rectangle that holds a mask: (top, left, bottom, right), all 0 of an empty one.

    Args:
        mask: (H, W) uint8, C-contiguous.
    """
    height, width = mask.shape
    top, left, bottom, right = -1, width, 0, 0
    for y in range(height):
        row = mask[y]
        union = np.uint8(0)
        for x in range(width):
            union |= row[x]
        if union:
            top, bottom = y if top < 0 else top, y + 1
            x = 0
            while x < left and row[x] == 0:
                x += 1
            left = x
            x = width
            while x > right and row[x - 1] == 0:
                x -= 1
            right = x
    return (top, left, bottom, right) if right else (0, 0, 0, 0)


def _cropped(mask: torch.Tensor) -> MaskCrop:
    """Of an (H, W) mask, of which no copy is made if it is bool and on the CPU."""
    pixels = mask.to("cpu", torch.bool).contiguous().numpy()
    top, left, bottom, right = mask_extent(pixels.view(np.uint8))
    return MaskCrop(pixels[top:bottom, left:right], top, left) if bottom else EMPTY


def _record(segment: FusedSegment) -> dict[str, Any]:
    """As Detectron2 has it."""
    start = {"id": segment.id, "isthing": segment.isthing}
    if segment.isthing:
        more = {"score": segment.score, "category_id": segment.category, "instance_id": segment.row}
    else:
        more = {"category_id": segment.category, "area": segment.area}
    return {**start, **more}


def combine_semantic_and_instance_outputs(
    instance_results: Any,
    semantic_results: torch.Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The same as Detectron2's function of this name; of equal scores and empty segments see :func:`.fusion.fuse`.

    Args:
        instance_results: has ``scores`` (N,), ``pred_classes`` (N,) and ``pred_masks`` (N, H, W), as ``Instances`` do.
        semantic_results: (H, W) int64 labels; 0 stands for things and is left empty.
        overlap_threshold, stuff_area_thresh, instances_score_thresh: see :class:`FusionSettings`.

    Returns:
        (H, W) int32 segment ids, 0 for none, on the device of ``semantic_results``; and per segment ``id``,
        ``isthing``, ``category_id``, and ``score`` and ``instance_id`` (row) for things, ``area`` for stuff.
    """
    settings = FusionSettings(instances_score_thresh, overlap_threshold, stuff_area_thresh)
    scores = instance_results.scores.detach()
    rows = torch.nonzero(scores >= settings.min_score)[:, 0]
    indices, masks = rows.tolist(), instance_results.pred_masks.detach()
    crops = [_cropped(masks[n]) for n in indices]  # the others need not even be looked at
    classes = instance_results.pred_classes[rows].tolist()
    fused = fuse(crops, scores[rows].tolist(), classes, semantic_results.cpu().numpy(), settings)
    segments = [s._replace(row=indices[s.row]) if s.row is not None else s for s in fused.segments]
    return torch.from_numpy(fused.ids).to(semantic_results.device), [_record(segment) for segment in segments]
