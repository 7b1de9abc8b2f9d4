"""The losses of boxes and masks. Those of cells are sums over the batch of all processes, divided by what is said."""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.utils import comm
from fvcore.nn import giou_loss, sigmoid_focal_loss

from pnm.fcos.cells import boxes_of_distances, centerness, distances_of_boxes
from pnm.null_model.settings import PNMSettings
from pnm.silhouettes.overlap_losses import silhouette_scores, soft_ious
from pnm.silhouettes.silhouettes import region_silhouettes, soft_region_silhouettes


def mean_over_processes(*sums: torch.Tensor) -> list[torch.Tensor]:
    """Each scalar's mean over all processes: gradients, too, are averaged over them."""
    together = torch.stack([one.detach().float() for one in sums])
    if comm.get_world_size() > 1:
        dist.all_reduce(together)
        together = together / comm.get_world_size()
    return list(together.unbind())


class Positives(NamedTuple):
    """The P cells of a batch that learn an object.

    Attributes:
        images, cells: (P,) int64: image, and cell by its number in all levels together.
        objects: (P,) int64 number of the object in the batch.
        positions: (P, 2) px.
        centerness: (P,) of the true box, weight of the box's and the mask's loss.
    """

    images: torch.Tensor
    cells: torch.Tensor
    objects: torch.Tensor
    positions: torch.Tensor
    centerness: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Positives":
        return Positives(*(part[rows] for part in self))


def positives_of(owners: torch.Tensor, positions: torch.Tensor, boxes_xyxy: torch.Tensor) -> Positives:
    """The cells with an object.

    Args:
        owners: (N, L) int64 number of the object in the batch, -1 for background.
        positions: (L, 2) px.
        boxes_xyxy: (M, 4) of all objects.
    """
    images, cells = (owners >= 0).nonzero().unbind(1)
    objects = owners[images, cells]
    return Positives(
        images, cells, objects, positions[cells], centerness(distances_of_boxes(positions[cells], boxes_xyxy[objects]))
    )


def class_loss(
    logits: torch.Tensor, positives: Positives, classes: torch.Tensor, alpha: float, gamma: float
) -> torch.Tensor:
    """Sum of the focal losses of (N, L, C) logits.

    Args:
        classes: (M,) int64 of all objects; all other cells are background.
    """
    targets = torch.zeros_like(logits)
    targets[positives.images, positives.cells, classes[positives.objects]] = 1
    return sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="sum")


def box_loss(distances: torch.Tensor, positives: Positives, boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """Sum of centre-ness x (1 - GIoU) of the positives' (P, 4) distances."""
    predicted = boxes_of_distances(positives.positions, distances)
    return (giou_loss(predicted, boxes_xyxy[positives.objects], reduction="none") * positives.centerness).sum()


def centerness_loss(logits: torch.Tensor, positives: Positives) -> torch.Tensor:
    """Sum of the binary cross-entropies of the positives' (P,) logits; at best the targets' entropy."""
    return F.binary_cross_entropy_with_logits(logits, positives.centerness, reduction="sum")


def mask_bce(logits: torch.Tensor, targets: torch.Tensor, pixel_weights: torch.Tensor | None) -> torch.Tensor:
    """(P,) mean of the binary cross-entropies of each mask's pixels, weighted as PNM's Eq. 6 says.

    Args:
        logits, targets: (P, M, M) floating and bool.
        pixel_weights: (P, M, M), None for 1.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return (losses if pixel_weights is None else losses * pixel_weights).flatten(1).mean(1)


class MaskTargets(NamedTuple):
    """Of each object within its true box, (M, S, S): the mask, its silhouette, and weights of pixels or None."""

    masks: torch.Tensor
    silhouettes: torch.Tensor
    weights: torch.Tensor | None


def mask_targets(masks: torch.Tensor, pnm: PNMSettings | None) -> MaskTargets:
    """Of masks (M, S, S) bool."""
    return MaskTargets(masks, region_silhouettes(masks), None if pnm is None else pnm.weights(masks, ignore_label=None))


def mask_losses(
    logits: torch.Tensor, targets: MaskTargets, objects: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(P,) binary cross-entropy, 1 - soft IoU, and 1 - silhouette score of masks (P, S, S) float32.

    Args:
        objects: (P,) row of the targets.
    """
    masks = targets.masks[objects]
    probs = logits.sigmoid()
    weights = None if targets.weights is None else targets.weights[objects]
    return (
        mask_bce(logits, masks, weights),
        1 - soft_ious(probs, masks),
        1 - silhouette_scores(soft_region_silhouettes(probs), targets.silhouettes[objects]),
    )
