"""Mask heads of regions whose loss is weighted by the null model of the true mask in the region (Sec. V-D)."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY, StandardROIHeads
from detectron2.modeling.roi_heads import select_foreground_proposals
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from pnm.errors import UserError
from pnm.null_model.settings import PNMSettings
from pnm.null_model.weighted_losses import weighted_mean

from ..semantic_networks.weight_scalars import log_weights
from ..semantic_networks.weight_settings import mask_settings


def region_targets(instances: list[Instances], size: int, device: torch.device) -> torch.Tensor:
    """(B, size, size) float32: the true masks of all objects in their proposal boxes."""
    masks = [
        image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, size).to(device)
        for image in instances
        if len(image)
    ]
    return torch.cat(masks).float()


def weighted_mask_loss(
    pred_mask_logits: torch.Tensor, instances: list[Instances], pnm: PNMSettings, vis_period: int = 0
) -> torch.Tensor:
    """Detectron2's ``mask_rcnn_loss``, weighted by pixel; a mean over all pixels of all masks of this process.

    It logs what that function logs, too: the shares of wrong pixels, and every ``vis_period`` iterations the masks.

    Args:
        pred_mask_logits: (B, K, M, M), or (B, 1, M, M) when the classes share a mask.
        instances: B objects altogether, with ``proposal_boxes``, ``gt_classes`` and ``gt_masks``.
        pnm: how pixels are weighted.
        vis_period: 0 for never.

    Returns:
        A scalar; a differentiable 0 without objects.
    """
    if not len(pred_mask_logits):
        return pred_mask_logits.sum() * 0
    with torch.no_grad():
        targets = region_targets(instances, pred_mask_logits.shape[-1], pred_mask_logits.device)
        true_masks = targets > 0.5
        weights = pnm.weights(true_masks, ignore_label=None)
        everywhere = torch.ones_like(true_masks)
    classes = torch.cat([image.gt_classes for image in instances if len(image)])
    column = classes if pred_mask_logits.shape[1] > 1 else torch.zeros_like(classes)
    logits = pred_mask_logits[torch.arange(len(column), device=column.device), column]
    losses = nn.functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    loss = weighted_mean(losses, weights, everywhere)
    log_weights("mask", weights, everywhere, loss, weighted_mean(losses.detach(), None, everywhere))
    _log_masks(logits.detach(), true_masks, vis_period)
    return loss


def _log_masks(logits: torch.Tensor, true_masks: torch.Tensor, vis_period: int) -> None:
    """Shares of wrong pixels (of all, of the background, of the foreground) under Detectron2's names, and pictures."""
    storage = get_event_storage()
    wrong = (logits > 0) != true_masks
    pixels, foreground = true_masks.numel(), true_masks.sum()
    shares = {
        "accuracy": 1 - wrong.sum() / pixels,
        "false_positive": (wrong & ~true_masks).sum() / (pixels - foreground).clamp(min=1),
        "false_negative": (wrong & true_masks).sum() / foreground.clamp(min=1),
    }
    for name, share in zip(shares, torch.stack(list(shares.values())).tolist()):  # one synchronisation
        storage.put_scalar(f"mask_rcnn/{name}", share)
    if vis_period > 0 and storage.iter % vis_period == 0:
        beside = torch.cat([logits.float().sigmoid(), true_masks.float()], dim=2)
        for number, picture in enumerate(beside):
            storage.put_image(f"Left: mask prediction;   Right: mask GT ({number})", picture.expand(3, -1, -1))


@ROI_MASK_HEAD_REGISTRY.register()
class PNMMaskRCNNConvUpsampleHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's head with a weighted loss, for ROI heads other than :class:`PNMROIHeads`."""

    @configurable
    def __init__(self, *, pnm: PNMSettings | None, **kwargs):
        """
        Args:
            pnm: None gives ``MaskRCNNConvUpsampleHead``.
            kwargs: see ``MaskRCNNConvUpsampleHead``.
        """
        super().__init__(**kwargs)
        self.pnm = pnm

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        return {**super().from_config(cfg, input_shape), "pnm": mask_settings(cfg)}

    def forward(self, x, instances: list[Instances]):
        """As ``BaseMaskRCNNHead``."""
        if self.pnm is None or not self.training:
            return super().forward(x, instances)
        loss = weighted_mask_loss(self.layers(x), instances, self.pnm, self.vis_period)
        return {"loss_mask": loss * self.loss_weight}


@ROI_HEADS_REGISTRY.register()
class PNMROIHeads(StandardROIHeads):
    """``StandardROIHeads`` that weights the loss of its mask head, of whatever ``BaseMaskRCNNHead`` that is.

    The head gives the logits (its ``layers``), this class makes the loss of them.
    """

    @configurable
    def __init__(self, *, pnm: PNMSettings | None, **kwargs):
        """
        Args:
            pnm: None gives ``StandardROIHeads``.
            kwargs: see ``StandardROIHeads``.

        Raises:
            UserError: a mask head that makes its loss in a way of its own.
        """
        super().__init__(**kwargs)
        self.pnm = pnm
        if pnm is not None and self.mask_on:
            check_weightable(self.mask_head)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape) -> dict:
        return {**super().from_config(cfg, input_shape), "pnm": mask_settings(cfg)}

    def _forward_mask(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        """As ``StandardROIHeads``."""
        if self.pnm is None or not (self.training and self.mask_on):
            return super()._forward_mask(features, instances)
        objects, _ = select_foreground_proposals(instances, self.num_classes)
        regions = {name: features[name] for name in self.mask_in_features}
        if self.mask_pooler is not None:
            regions = self.mask_pooler(list(regions.values()), [image.proposal_boxes for image in objects])
        loss = weighted_mask_loss(self.mask_head.layers(regions), objects, self.pnm, self.mask_head.vis_period)
        return {"loss_mask": loss * self.mask_head.loss_weight}


def check_weightable(head: nn.Module) -> None:
    """A UserError unless a mask head's loss is Detectron2's, of the logits that ``layers`` gives."""
    own = (BaseMaskRCNNHead.forward, PNMMaskRCNNConvUpsampleHead.forward)
    if not isinstance(head, BaseMaskRCNNHead) or type(head).forward not in own:
        kind = "no BaseMaskRCNNHead" if not isinstance(head, BaseMaskRCNNHead) else "a head with a forward of its own"
        raise UserError(
            f"MODEL.PNM.MASK_LOSS: mask head {type(head).__name__} is {kind}, its loss cannot be weighted; set "
            "MODEL.PNM.MASK_LOSS False"
        )
