"""Mask heads of regions whose loss is weighted by the null model of the true mask in the region (Sec. V-D)."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY, StandardROIHeads
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, MaskRCNNConvUpsampleHead, mask_rcnn_loss
from detectron2.structures import Instances
from torch import nn

from pnm.errors import UserError
from pnm.null_model.batched import pixel_null_model_torch
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.weighted_losses import weighted_bce_with_logits

from .config import PNMSettings
from .weight_scalars import log_weights


class _CroppedMasks:
    """Masks of one image, already cropped to their regions: what ``mask_rcnn_loss`` asks of ground-truth masks."""

    def __init__(self, masks: torch.Tensor):
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        return self.masks


def _cropped(instances: list[Instances], size: int) -> list[Instances]:
    """The instances with masks of ``size`` x ``size`` px in their proposal boxes; images without any are left out."""
    found = []
    for image in instances:
        if len(image):
            masks = image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, size).to(image.gt_classes.device)
            fields = {"proposal_boxes": image.proposal_boxes, "gt_classes": image.gt_classes}
            found.append(Instances(image.image_size, **fields, gt_masks=_CroppedMasks(masks)))
    return found


def weighted_mask_loss(
    pred_mask_logits: torch.Tensor, instances: list[Instances], pnm: PNMSettings, vis_period: int = 0
) -> torch.Tensor:
    """Detectron2's ``mask_rcnn_loss``, weighted by pixel; a mean over all pixels of all masks of this process.

    Args:
        pred_mask_logits: (B, K, M, M), or (B, 1, M, M) when the classes share a mask.
        instances: B objects altogether, with ``proposal_boxes``, ``gt_classes`` and ``gt_masks``.
        pnm: how pixels are weighted.
        vis_period: every so many iterations the masks are logged as images; 0 never.

    Returns:
        A scalar; a differentiable 0 without objects.
    """
    with torch.no_grad():
        cropped = _cropped(instances, pred_mask_logits.shape[-1])
    if not cropped:
        return pred_mask_logits.sum() * 0
    with torch.no_grad():  # also logs the accuracy of the masks, and the images
        unweighted = mask_rcnn_loss(pred_mask_logits.detach(), cropped, vis_period)
        masks = torch.cat([image.gt_masks.masks for image in cropped])
        labels = (masks if masks.dtype == torch.bool else masks > 0.5).long()
        null_model = pixel_null_model_torch(labels, pnm.locality, ignore_label=None, border=pnm.border)
        weights = pixel_weights(null_model, pnm.transform)
    classes = torch.cat([image.gt_classes for image in cropped])
    column = classes if pred_mask_logits.shape[1] > 1 else torch.zeros_like(classes)
    logits = pred_mask_logits[torch.arange(len(column), device=column.device), column]
    loss = weighted_bce_with_logits(logits, masks.to(logits.dtype), weights, ignore_label=None)
    log_weights("mask", weights, torch.ones_like(weights, dtype=torch.bool), loss, unweighted)
    return loss


class PixelWeightedMaskLoss(nn.Module):
    """Mixin of ``BaseMaskRCNNHead`` and its subclasses, to be named before them; ``pnm`` None leaves the loss as is."""

    pnm: PNMSettings | None = None

    def forward(self, x, instances: list[Instances]):
        """As ``BaseMaskRCNNHead``."""
        if self.pnm is None or not self.training:
            return super().forward(x, instances)
        loss = weighted_mask_loss(self.layers(x), instances, self.pnm, self.vis_period)
        return {"loss_mask": loss * self.loss_weight}


@ROI_MASK_HEAD_REGISTRY.register()
class PNMMaskRCNNConvUpsampleHead(PixelWeightedMaskLoss, MaskRCNNConvUpsampleHead):
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
        return {**super().from_config(cfg, input_shape), "pnm": PNMSettings.mask(cfg)}


def weight_mask_head(head: nn.Module, pnm: PNMSettings) -> nn.Module:
    """Turns a mask head, of whatever subclass of ``BaseMaskRCNNHead``, into one with a weighted loss; returns it.

    Raises:
        UserError: a head of another kind.
    """
    if not isinstance(head, BaseMaskRCNNHead):
        raise UserError(
            f"MODEL.PNM.MASK_LOSS: mask head {type(head).__name__} is no BaseMaskRCNNHead, its loss cannot be "
            "weighted; set MODEL.PNM.MASK_LOSS False"
        )
    if not isinstance(head, PixelWeightedMaskLoss):
        head.__class__ = type(f"PixelWeighted{type(head).__name__}", (PixelWeightedMaskLoss, type(head)), {})
    head.pnm = pnm
    return head


@ROI_HEADS_REGISTRY.register()
class PNMROIHeads(StandardROIHeads):
    """``StandardROIHeads`` that weights the loss of its mask head, of whatever class that is."""

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape) -> dict:
        arguments, pnm = super()._init_mask_head(cfg, input_shape), PNMSettings.mask(cfg)
        if pnm is not None and "mask_head" in arguments:
            weight_mask_head(arguments["mask_head"], pnm)
        return arguments
