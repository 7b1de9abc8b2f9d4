"""Semantic segmentation: one label for every pixel."""

import math
from collections.abc import Callable, Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn
from torch.nn import functional as F

from ..backbone import Backbone, build_backbone
from ..postprocessing import sem_seg_postprocess
from ..unsupported_settings import find_registered
from .build import META_ARCH_REGISTRY
from .image_model import ImageModel, output_size, pixel_statistics

__all__ = ["SEM_SEG_HEADS_REGISTRY", "SemSegFPNHead", "SemanticSegmentor", "build_sem_seg_head"]

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = "Callables (cfg, ShapeSpecs by feature name) that return a semantic head."


def build_sem_seg_head(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The head ``cfg.MODEL.SEM_SEG_HEAD.NAME``."""
    name = cfg.MODEL.SEM_SEG_HEAD.NAME
    return find_registered(SEM_SEG_HEADS_REGISTRY, "MODEL.SEM_SEG_HEAD.NAME", name)(cfg, input_shape)


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(ImageModel):
    """A backbone and a semantic head.

    Input dicts have ``image``; in training ``sem_seg``, an (H, W) int64 tensor of labels; and optionally ``height``
    and ``width``, the size that results are wanted in.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__(backbone, pixel_mean, pixel_std)
        self.sem_seg_head = sem_seg_head

    @classmethod
    def from_config(cls, cfg) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            **pixel_statistics(cfg),
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Losses by name in training; in inference per image ``{"sem_seg": (K, H, W) logits}``."""
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        labels = self._field(batched_inputs, "sem_seg")
        if labels is not None:
            labels = self._batch(labels, self.sem_seg_head.ignore_value).tensor
        logits, losses = self.sem_seg_head(features, labels)
        if self.training:
            return losses
        triples = zip(logits, batched_inputs, images.image_sizes)
        return [{"sem_seg": sem_seg_postprocess(x, size, *output_size(inputs, size))} for x, inputs, size in triples]


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegFPNHead(nn.Module):
    """Semantic FPN (Kirillov et al., Panoptic FPN, 2019): every level upsampled to one stride, summed, classified."""

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        norm: str | Callable | None = None,
        common_stride: int,
        ignore_value: int = -1,
        loss_weight: float = 1.0,
    ):
        """
        Args:
            input_shape: channels and stride of each feature used.
            conv_dims: width of the head.
            common_stride: that the levels are summed at; the logits are upsampled from there.
            ignore_value: label of pixels that the loss leaves out.

        Raises:
            ValueError: without input features.
        """
        super().__init__()
        if not input_shape:
            raise ValueError("SemSegFPNHead needs features: check MODEL.SEM_SEG_HEAD.IN_FEATURES")
        levels = sorted(input_shape.items(), key=lambda item: item[1].stride)
        self.in_features = [name for name, _ in levels]
        self.ignore_value, self.common_stride, self.loss_weight = ignore_value, common_stride, loss_weight
        self.scale_heads = [self._scale_head(shape, conv_dims, norm) for _, shape in levels]
        for name, head in zip(self.in_features, self.scale_heads):
            self.add_module(name, head)
        self.predictor = Conv2d(conv_dims, num_classes, 1)
        c2_msra_fill(self.predictor)

    def _scale_head(self, shape: ShapeSpec, width: int, norm: str | Callable | None) -> nn.Sequential:
        """3×3 convolutions, each followed by a doubling of the resolution until the common stride is reached."""
        doublings = int(math.log2(shape.stride) - math.log2(self.common_stride))
        layers, channels = [], shape.channels
        for _ in range(max(1, doublings)):
            normalisation = get_norm(norm, width)
            conv = Conv2d(channels, width, 3, padding=1, bias=not norm, norm=normalisation, activation=F.relu)
            c2_msra_fill(conv)
            layers.append(conv)
            if shape.stride != self.common_stride:
                layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            channels = width
        return nn.Sequential(*layers)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: shape for name, shape in input_shape.items() if name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "conv_dims": head.CONVS_DIM,
            "common_stride": head.COMMON_STRIDE,
            "loss_weight": head.LOSS_WEIGHT,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
        }

    def forward(self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None):
        """(None, losses) in training; ((N, K, H, W) logits at the images' resolution, {}) in inference."""
        logits = self.layers(features)
        return (None, self.losses(logits, targets)) if self.training else (self._upsample(logits), {})

    def layers(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H / common_stride, W / common_stride) logits."""
        first, *rest = (head(features[name]) for head, name in zip(self.scale_heads, self.in_features))
        for level in rest:
            first = first + level
        return self.predictor(first)

    def _upsample(self, logits: torch.Tensor) -> torch.Tensor:
        return F.interpolate(logits, scale_factor=self.common_stride, mode="bilinear", align_corners=False)

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss_sem_seg``: cross-entropy at full resolution, mean over the labelled pixels of this process.

        No labelled pixel gives a differentiable 0.

        Args:
            predictions: logits from :meth:`layers`.
            targets: (N, H, W) labels.
        """
        logits = self._upsample(predictions.float())
        total = F.cross_entropy(logits, targets, reduction="sum", ignore_index=self.ignore_value)
        count = (targets != self.ignore_value).sum().clamp(min=1)
        return {"loss_sem_seg": total / count * self.loss_weight}
