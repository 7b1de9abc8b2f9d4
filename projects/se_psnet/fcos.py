"""FCOS in a model: what its cells learn, and detections from what they say."""

from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.layers import batched_nms
from torch import nn

from pnm.fcos.assignment import assign_objects
from pnm.fcos.cells import boxes_of_distances, cell_positions

from .box_head import CellOutputs, FCOSHead
from .losses import (
    Positives,
    box_loss,
    centerness_loss,
    class_loss,
    mean_over_processes,
    positives_of,
)
from .pooling import Objects, Regions


class Detections(NamedTuple):
    """R detections of a batch, those of an image one after the other, by descending score.

    Attributes:
        regions: images and boxes, inside of the images.
        cells: (R,) int64, by their number in all levels together.
        classes: (R,) int64.
        scores: (R,) float32, square roots of class probability x centre-ness.
    """

    regions: Regions
    cells: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor


class FCOS(nn.Module):
    """The box head with its losses and its detections; ``cfg`` is ``MODEL.SE_PSNET``'s node FCOS and weights."""

    def __init__(self, fcos_head: FCOSHead, node: CfgNode, loss_weights: CfgNode):
        super().__init__()
        self.fcos_head, self.node, self.loss_weights = fcos_head, node, loss_weights

    def positives(self, outputs: CellOutputs, objects: Objects) -> Positives:
        """The cells of a batch that learn an object."""
        boxes, owners = objects.regions.boxes_xyxy, []
        for first, end in zip(objects.firsts, objects.firsts[1:]):
            owner = assign_objects(boxes[first:end], outputs.levels, self.node.SIZES_OF_INTEREST, self.node.RADIUS)
            owners.append(torch.where(owner >= 0, owner + first, owner))
        positions = cell_positions(outputs.levels, boxes.device)
        return positives_of(torch.stack(owners), positions, boxes)

    def losses(
        self, outputs: CellOutputs, positives: Positives, objects: Objects, classes: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """``loss_fcos_class`` and ``loss_fcos_centerness`` are divided by the number of positives, at least 1,
        ``loss_fcos_box`` by the sum of their centre-ness; both are those of the batch of all processes.

        Args:
            classes: (M,) int64 of the objects.
        """
        node, weights = self.node, self.loss_weights
        count = positives.centerness.new_tensor(len(positives.cells))
        number, total = mean_over_processes(count, positives.centerness.sum())
        at = positives.images, positives.cells
        return {
            "loss_fcos_class": class_loss(outputs.class_logits, positives, classes, node.FOCAL_ALPHA, node.FOCAL_GAMMA)
            / number.clamp(min=1)
            * weights.CLASS,
            "loss_fcos_box": box_loss(outputs.distances[at], positives, objects.regions.boxes_xyxy)
            / total.clamp(min=1e-6)
            * weights.BOX,
            "loss_fcos_centerness": centerness_loss(outputs.centerness_logits[at], positives)
            / number.clamp(min=1)
            * weights.CENTERNESS,
        }

    def detections(self, outputs: CellOutputs, image_sizes: list[tuple[int, int]]) -> Detections:
        """The best boxes of each image, after suppression within each class."""
        positions = cell_positions(outputs.levels, outputs.distances.device)
        parts = []
        for image, size in enumerate(image_sizes):
            probs = outputs.class_logits[image].sigmoid() * outputs.centerness_logits[image].sigmoid()[:, None]
            scores, cells, classes = self._candidates(probs, outputs)
            boxes = boxes_of_distances(positions[cells], outputs.distances[image, cells])
            # Clipped first: a mask is cut off at the frame, not squeezed into it.
            boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([size[1], size[0]] * 2))
            kept = ((boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)).nonzero()[:, 0]
            kept = kept[batched_nms(boxes[kept], scores[kept], classes[kept], self.node.NMS_THRESH)]
            kept = kept[: self.node.DETECTIONS]
            parts.append((torch.full_like(kept, image), boxes[kept], cells[kept], classes[kept], scores[kept].sqrt()))
        images, boxes, cells, classes, scores = (torch.cat(column) for column in zip(*parts, strict=True))
        return Detections(Regions(images, boxes), cells, classes, scores)

    def _candidates(self, probs: torch.Tensor, outputs: CellOutputs) -> tuple[torch.Tensor, ...]:
        """Scores, cells and classes of the best of each level, of (L, C) probabilities."""
        count, first, parts = probs.shape[1], 0, []
        for level in outputs.levels:
            flat = probs[first : first + level.size].flatten()
            best, places = flat.topk(min(self.node.PRE_NMS_TOPK, len(flat)))
            parts.append((best, places + first * count))
            first += level.size
        scores, places = (torch.cat(column) for column in zip(*parts, strict=True))
        good = scores > self.node.SCORE_THRESH
        scores, places = scores[good], places[good]
        return scores, places.div(count, rounding_mode="floor"), places % count
