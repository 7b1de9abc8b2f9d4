"""Masks of regions (He et al., Mask R-CNN, 2017)."""

from collections.abc import Callable, Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, get_norm
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn
from torch.nn import functional as F

from ..unsupported_settings import find_registered

__all__ = ["ROI_MASK_HEAD_REGISTRY", "BaseMaskRCNNHead", "MaskRCNNConvUpsampleHead", "build_mask_head"]

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = "Callables (cfg, ShapeSpec of pooled features) that return a mask head."


def build_mask_head(cfg, input_shape: ShapeSpec | dict[str, ShapeSpec]) -> nn.Module:
    """The head ``cfg.MODEL.ROI_MASK_HEAD.NAME``."""
    name = cfg.MODEL.ROI_MASK_HEAD.NAME
    return find_registered(ROI_MASK_HEAD_REGISTRY, "MODEL.ROI_MASK_HEAD.NAME", name)(cfg, input_shape)


def _of_class(logits: torch.Tensor, classes: list[torch.Tensor]) -> torch.Tensor:
    """(B, M, M) of the given class of each mask among (B, K, M, M); with K = 1 of the only one."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(logits), device=logits.device), cat(classes).long()]


def mask_rcnn_loss(pred_mask_logits: torch.Tensor, instances: list[Instances], vis_period: int = 0) -> torch.Tensor:
    """Binary cross-entropy of the true class's mask: mean over all pixels of all masks of this process.

    Args:
        pred_mask_logits: (B, K, M, M), or (B, 1, M, M) when the classes share a mask.
        instances: B objects altogether, with ``proposal_boxes``, ``gt_classes`` and ``gt_masks``.
        vis_period: every so many iterations the masks are logged as images; 0 never.

    Returns:
        A scalar; a differentiable 0 without objects.
    """
    size, device = pred_mask_logits.shape[-1], pred_mask_logits.device
    present = [image for image in instances if len(image)]
    if not present:
        return pred_mask_logits.sum() * 0
    with torch.no_grad():
        targets = [image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, size).to(device) for image in present]
        targets = cat(targets)
    logits = _of_class(pred_mask_logits, [image.gt_classes for image in present])
    _log_mask_accuracy(logits, targets if targets.dtype == torch.bool else targets > 0.5)
    targets = targets.float()
    storage = get_event_storage()
    if vis_period > 0 and storage.iter % vis_period == 0:
        for index, pair in enumerate(torch.cat([logits.detach().sigmoid(), targets], dim=2)):
            storage.put_image(f"Left: mask prediction;   Right: mask GT ({index})", pair.expand(3, -1, -1))
    return F.binary_cross_entropy_with_logits(logits, targets)


def _log_mask_accuracy(logits: torch.Tensor, truth: torch.Tensor) -> None:
    """Logs the share of wrong pixels: in all, outside the objects, and inside."""
    wrong = (logits > 0) != truth
    num_wrong, num_inside, num_missed = torch.stack([x.sum() for x in (wrong, truth, wrong & truth)]).tolist()
    rates = {
        "accuracy": 1 - num_wrong / max(truth.numel(), 1),
        "false_positive": (num_wrong - num_missed) / max(truth.numel() - num_inside, 1),
        "false_negative": num_missed / max(num_inside, 1),
    }
    for name, rate in rates.items():
        get_event_storage().put_scalar(f"mask_rcnn/{name}", rate)


def mask_rcnn_inference(pred_mask_logits: torch.Tensor, pred_instances: list[Instances]) -> None:
    """Adds to each image's instances the field ``pred_masks``: (Ni, 1, M, M) probabilities of the predicted class.

    Args:
        pred_mask_logits: (B, K, M, M) or (B, 1, M, M), for the instances of all images.
        pred_instances: with ``pred_classes``.
    """
    probs = _of_class(pred_mask_logits, [image.pred_classes for image in pred_instances])[:, None].sigmoid()
    for image, masks in zip(pred_instances, probs.split([len(image) for image in pred_instances])):
        image.pred_masks = masks


class BaseMaskRCNNHead(nn.Module):
    """Loss and inference of a mask head; subclasses define :meth:`layers`."""

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0):
        """
        Args:
            loss_weight: factor on ``loss_mask``.
            vis_period: see :func:`mask_rcnn_loss`.
        """
        super().__init__()
        self.loss_weight, self.vis_period = loss_weight, vis_period

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x, instances: list[Instances]) -> dict[str, torch.Tensor] | list[Instances]:
        """
        Args:
            x: pooled features of all instances, or whatever :meth:`layers` takes.
            instances: objects with ground truth in training, detections in inference.

        Returns:
            ``loss_mask`` in training; in inference the same instances with ``pred_masks``.
        """
        logits = self.layers(x)
        if self.training:
            loss = mask_rcnn_loss(logits, instances, self.vis_period)
            return {"loss_mask": loss * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def layers(self, x) -> torch.Tensor:
        """Mask logits (B, K, M, M) from the features of B regions."""
        raise NotImplementedError(f"{type(self).__name__} must define layers()")


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):
    """3×3 convolutions, a transposed convolution that doubles the resolution, and a 1×1 predictor."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str | Callable = "",
        **kwargs,
    ):
        """
        Args:
            num_classes: masks per region; 1 when the classes share a mask.
            conv_dims: widths of the convolutions and, last, of the transposed one.
            kwargs: see :class:`BaseMaskRCNNHead`.
        """
        super().__init__(**kwargs)
        if not conv_dims:
            raise ValueError("a mask head needs conv_dims with at least one width, for the transposed convolution")
        *widths, last = conv_dims
        self.conv_norm_relus, channels = [], input_shape.channels
        for number, width in enumerate(widths, 1):
            norm = get_norm(conv_norm, width)
            conv = Conv2d(channels, width, 3, padding=1, bias=not conv_norm, norm=norm, activation=nn.ReLU())
            self.add_module(f"mask_fcn{number}", conv)
            self.conv_norm_relus.append(conv)
            channels = width
        self.deconv = ConvTranspose2d(channels, last, kernel_size=2, stride=2)
        self.deconv_relu = nn.ReLU()
        self.predictor = Conv2d(last, num_classes, 1)
        for layer in (*self.conv_norm_relus, self.deconv):
            c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg, input_shape) -> dict:
        head = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
        }

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        return nn.Sequential.forward(self, x)
