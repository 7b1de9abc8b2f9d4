"""The mask branch: masks blended of bases, what they learn, and how good they are (SE-PSNet, sections III-F and G)."""

from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import nn

from pnm.fcos.cells import boxes_of_distances
from pnm.null_model.settings import PNMSettings
from pnm.silhouettes.blending import blend
from pnm.silhouettes.mask_scores import iou_targets, silhouette_targets
from pnm.silhouettes.overlap_losses import silhouette_scores

from .basis_head import STRIDE, Bases
from .box_head import AttentionLayer, CellOutputs
from .confidence_head import ConfidenceHead
from .losses import MaskTargets, Positives, mask_losses, mask_targets, mean_over_processes
from .pooling import Objects, Regions, masks_in_boxes, pooled, shares_inside


class MaskAux(nn.Sequential):
    """Silhouettes from mask logits, in training only. No normalisation: it would take each mask's contrast away."""

    def __init__(self, width: int = 32):
        convs = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)
        super().__init__(convs[0], nn.ReLU(inplace=True), convs[1])
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


class Masks(NamedTuple):
    """Of R regions: (R, M, M) float32 mask logits, and IoU and silhouette scores, (R,) or None."""

    logits: torch.Tensor
    iou_scores: torch.Tensor | None
    silhouette_scores: torch.Tensor | None


class MaskBranch(nn.Module):
    """Has the parts of SE-PSNet that BlendMask lacks, and functions of those that it has, which keep its names."""

    def __init__(self, node: CfgNode, confidence: ConfidenceHead | None, pnm: PNMSettings | None):
        """
        Args:
            node: ``MODEL.SE_PSNET``.
            pnm: how the pixels of the binary cross-entropy are weighted; None for no weighting.
        """
        super().__init__()
        self.node, self.pnm, self.confidence = node, pnm, confidence
        self.auxiliary = MaskAux() if node.MASK_AUX else None

    def logits(self, bases: Bases, regions: Regions, attention: torch.Tensor) -> torch.Tensor:
        """(R, M, M) float32 mask logits in regions (Eq. 3)."""
        return blend(self._regions(bases, regions), attention).float()

    def _regions(self, bases: Bases, regions: Regions) -> torch.Tensor:
        maps = bases.bases
        if self.node.BLEND_SILHOUETTE:
            assert bases.silhouettes is not None
            maps = torch.cat([maps, bases.silhouettes], 1)
        return pooled(maps, regions, self.node.MASK_SIZE, STRIDE)

    def predict(self, p3: torch.Tensor, bases: Bases, regions: Regions, attention: torch.Tensor) -> Masks:
        """Masks in predicted boxes."""
        logits = self.logits(bases, regions, attention)
        if self.confidence is None:
            return Masks(logits, None, None)
        return Masks(logits, *self.confidence(p3, bases, regions, logits))

    def losses(
        self,
        p3: torch.Tensor,
        bases: Bases,
        outputs: CellOutputs,
        attention_layer: AttentionLayer,
        positives: Positives,
        objects: Objects,
        image_sizes: list[tuple[int, int]],
    ) -> dict[str, torch.Tensor]:
        """Every positive learns its object's mask in the object's true box, weighted by its centre-ness; sums are
        divided by the sum of that of the batch of all processes."""
        chosen = positives.take(_at_most(positives.images, self.node.MAX_POSITIVES))
        attention = attention_layer.at(outputs, chosen.images, chosen.cells)
        rows = torch.arange(len(objects.regions.images), device=p3.device)
        true_masks = masks_in_boxes(objects, rows, objects.regions.boxes_xyxy, self.node.MASK_SIZE)
        targets = mask_targets(true_masks, self.pnm)
        regions = self._regions(bases, objects.regions)
        logits = blend(regions[chosen.objects], attention).float()
        losses = self._losses_of_masks(logits, targets, chosen)
        if self.confidence is not None:
            losses |= self._losses_of_scores(p3, bases, outputs, attention, chosen, objects, image_sizes)
        return losses

    def _losses_of_masks(
        self, logits: torch.Tensor, targets: MaskTargets, chosen: Positives
    ) -> dict[str, torch.Tensor]:
        weights = self.node.LOSS_WEIGHTS
        (total,) = mean_over_processes(chosen.centerness.sum())

        def mean(each: torch.Tensor) -> torch.Tensor:
            return (each * chosen.centerness).sum() / total.clamp(min=1e-6)

        bce, iou, silhouette = mask_losses(logits, targets, chosen.objects)
        losses = {"loss_mask": mean(bce) * weights.MASK}
        if self.node.MASK_LOSS:
            losses["loss_mask_iou"] = mean(iou) * weights.MASK_IOU
            losses["loss_mask_silhouette"] = mean(silhouette) * weights.SILHOUETTE
        if self.auxiliary is not None:
            lines = self.auxiliary(logits[:, None])[:, 0].float().sigmoid()
            each = 1 - silhouette_scores(lines, targets.silhouettes[chosen.objects])
            losses["loss_mask_auxiliary"] = mean(each) * weights.SILHOUETTE
        return losses

    def _losses_of_scores(
        self,
        p3: torch.Tensor,
        bases: Bases,
        outputs: CellOutputs,
        attention: torch.Tensor,
        chosen: Positives,
        objects: Objects,
        image_sizes: list[tuple[int, int]],
    ) -> dict[str, torch.Tensor]:
        """Squared errors of both scores, of masks in *predicted* boxes: in true ones all would be too good."""
        assert self.confidence is not None
        with torch.no_grad():
            rows = _at_most(chosen.images, self.node.CONFIDENCE.MAX_REGIONS)
            some = chosen.take(rows)
            limits = torch.tensor(image_sizes, device=p3.device)[some.images].flip(1).repeat(1, 2).float()
            boxes = boxes_of_distances(some.positions, outputs.distances[some.images, some.cells])
            boxes = torch.minimum(boxes.clamp(min=0), limits)
            kept = (boxes[:, 2:] - boxes[:, :2] > 1).all(1).nonzero()[:, 0]
            some, regions = some.take(kept), Regions(some.images[kept], boxes[kept])
            logits = self.logits(bases, regions, attention[rows[kept]])
            masks, truth = logits > 0, masks_in_boxes(objects, some.objects, regions.boxes_xyxy, self.node.MASK_SIZE)
            shares = shares_inside(objects, some.objects, regions.boxes_xyxy)
            wanted = iou_targets(masks, truth, shares), silhouette_targets(masks, truth)
        said = self.confidence(p3, bases, regions, logits)
        (count,) = mean_over_processes(boxes.new_tensor(len(kept)))
        weight = self.node.LOSS_WEIGHTS.CONFIDENCE / count.clamp(min=1)
        return {
            f"loss_confidence_{name}": ((one - target) ** 2).sum() * weight
            for name, one, target in zip(("iou", "silhouette"), said, wanted, strict=True)
        }


def _at_most(images: torch.Tensor, most: int) -> torch.Tensor:
    """Rows of (P,) images, of which each occurs at most so many times, drawn at random and in their order."""
    if not len(images):
        return images
    shuffled = torch.randperm(len(images), device=images.device)
    by_image = shuffled[images[shuffled].sort(stable=True).indices]
    counts = images.bincount()
    place = torch.arange(len(images), device=images.device) - (counts.cumsum(0) - counts)[images[by_image]]
    return by_image[place < most].sort().values
