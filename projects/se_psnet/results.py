"""From what the network says of an image to instances, a semantic and a panoptic map (SE-PSNet, sections III-F and G).

Results of an image:

- "instances": ``pred_boxes``, ``pred_classes``, ``pred_masks`` (R, H, W) bool, and ``scores``, which are Mask Scores,
  with their parts ``fcos_scores``, ``mask_iou_scores`` and ``silhouette_scores``; without
  ``MODEL.SE_PSNET.MASK_SCORE``, FCOS's scores alone.
- "sem_seg": (K, H, W) uint8, 1 at each pixel's label: the stuff head's, "other" being 0, or where the data set's
  semantic labels are other ones, those of the panoptic map, filled with stuff.
- "panoptic_seg": (H, W) int32 ids, and the segments, as of Detectron2's Panoptic FPN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from pnm.masks.crops import MaskCrop
from pnm.panoptic_fusion.duplicates import without_duplicates
from pnm.panoptic_fusion.fusion import FusedMap, FusionSettings, fuse
from pnm.panoptic_fusion.pasting import paste_in_boxes
from pnm.panoptic_fusion.stuff import resized_argmax

from .basis_head import STRIDE
from .output_classes import OutputClasses


class ImageOutputs(NamedTuple):
    """What the network says of one image.

    Attributes:
        size: (height, width) of the image as the network saw it, without padding.
        boxes_xyxy: (R, 4) px of it.
        classes: (R,) int64.
        mask_probs: (R, M, M) within the boxes.
        scores: (R,) that decide: Mask Scores, or FCOS's.
        fcos_scores: (R,).
        iou_scores, silhouette_scores: (R,), None without a confidence head.
        stuff_logits: (S + 1, h, w) at stride 4, padded; None without a stuff head.
    """

    size: tuple[int, int]
    boxes_xyxy: torch.Tensor
    classes: torch.Tensor
    mask_probs: torch.Tensor
    scores: torch.Tensor
    fcos_scores: torch.Tensor
    iou_scores: torch.Tensor | None
    silhouette_scores: torch.Tensor | None
    stuff_logits: torch.Tensor | None


@dataclass(frozen=True)
class ResultSettings:
    """How instances and stuff become a panoptic map, and from which IoU on two masks are of one object."""

    fusion: FusionSettings
    duplicate_iou: float

    @classmethod
    def from_node(cls, node: CfgNode) -> "ResultSettings":
        """Of ``MODEL.SE_PSNET``."""
        fusion = node.FUSION
        settings = FusionSettings(fusion.SCORE_THRESH, fusion.OVERLAP_THRESH, fusion.STUFF_AREA_LIMIT)
        return cls(settings, fusion.DUPLICATE_IOU)


def results_of(
    outputs: Sequence[ImageOutputs], batched_inputs: Sequence[dict], classes: OutputClasses, settings: ResultSettings
) -> list[dict[str, Any]]:
    """Results of each image, at the size that its input asks for."""
    results = []
    for output, given in zip(outputs, batched_inputs, strict=True):
        size = given.get("height", output.size[0]), given.get("width", output.size[1])
        results.append(image_results(output, size, classes, settings))
    return results


def image_results(
    output: ImageOutputs, size: tuple[int, int], classes: OutputClasses, settings: ResultSettings
) -> dict[str, Any]:
    """Results of one image at the size (height, width)."""
    scale = output.boxes_xyxy.new_tensor([size[1] / output.size[1], size[0] / output.size[0]] * 2)
    boxes = (output.boxes_xyxy * scale).cpu()
    crops = paste_in_boxes(output.mask_probs.float().cpu().numpy(), boxes.float().numpy(), size)
    results: dict[str, Any] = {"instances": _instances(output, boxes, crops, size, classes)}
    if output.stuff_logits is None:
        return results
    logits = output.stuff_logits.float().cpu().numpy()
    source = output.size[0] / STRIDE, output.size[1] / STRIDE
    labels = resized_argmax(logits, source, size)
    fused = _fused(output, crops, labels, settings)
    results["panoptic_seg"] = torch.from_numpy(fused.ids), _segments(fused, classes)
    if classes.semantic_classes:
        labels = _semantic_labels(fused, resized_argmax(logits[1:], source, size), classes)
    results["sem_seg"] = _one_hot(labels, classes.semantic_classes or len(classes.stuff))
    return results


def _instances(
    output: ImageOutputs, boxes: torch.Tensor, crops: Sequence[MaskCrop], size: tuple[int, int], classes: OutputClasses
) -> Instances:
    masks = np.zeros((len(crops), *size), np.bool_)
    for mask, (pixels, top, left) in zip(masks, crops, strict=True):
        mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    instances = Instances(size)
    instances.pred_boxes, instances.pred_masks = Boxes(boxes), torch.from_numpy(masks)
    instances.pred_classes = torch.tensor(classes.things)[output.classes.cpu()]
    instances.scores = output.scores.cpu()
    if output.iou_scores is not None and output.silhouette_scores is not None:
        instances.fcos_scores, instances.mask_iou_scores = output.fcos_scores.cpu(), output.iou_scores.cpu()
        instances.silhouette_scores = output.silhouette_scores.cpu()
    return instances


def _fused(
    output: ImageOutputs, crops: Sequence[MaskCrop], stuff_labels: np.ndarray, settings: ResultSettings
) -> FusedMap:
    """Of several masks of one object, that of the best silhouette takes part, in the place of the first."""
    scores, classes = output.scores.cpu().numpy(), output.classes.cpu().numpy()
    rows = np.flatnonzero(scores >= settings.fusion.min_score).tolist()
    ranks, candidates = scores[rows].astype(np.float64), [crops[n] for n in rows]
    if output.silhouette_scores is not None:
        silhouettes = output.silhouette_scores.cpu().numpy()[rows]
        kept = without_duplicates(candidates, classes[rows], ranks, silhouettes, settings.duplicate_iou)
        rows, ranks, candidates = [rows[n] for n in kept.rows], kept.scores, [candidates[n] for n in kept.rows]
    fused = fuse(candidates, ranks, classes[rows], stuff_labels, settings.fusion)
    return FusedMap(fused.ids, tuple(s._replace(row=rows[s.row]) if s.isthing else s for s in fused.segments))


def _segments(fused: FusedMap, classes: OutputClasses) -> list[dict[str, Any]]:
    """As Detectron2 describes them."""
    segments: list[dict[str, Any]] = []
    for one in fused.segments:
        category = (classes.things if one.isthing else classes.stuff)[one.category]
        segment = {"id": one.id, "isthing": one.isthing, "category_id": category}
        own = {"score": one.score, "instance_id": one.row} if one.isthing else {"area": one.area}
        segments.append(segment | own)
    return segments


def _semantic_labels(fused: FusedMap, best_stuff: np.ndarray, classes: OutputClasses) -> np.ndarray:
    """(H, W) uint8 semantic labels of a data set in which things have some: where no segment is, the best stuff's.

    Args:
        best_stuff: (H, W), stuff classes from 0 on.
    """
    of_segment = np.zeros(len(fused.segments) + 1, np.uint8)
    for one in fused.segments:
        of_segment[one.id] = (classes.things if one.isthing else classes.stuff)[one.category]
    of_stuff = np.array(classes.stuff[1:], np.uint8)
    return np.where(fused.ids > 0, of_segment[fused.ids], of_stuff[best_stuff])


def _one_hot(labels: np.ndarray, count: int) -> torch.Tensor:
    """(K, H, W) uint8, whose argmax the labels (H, W) are."""
    return (torch.from_numpy(labels)[None] == torch.arange(count, dtype=torch.uint8)[:, None, None]).view(torch.uint8)
