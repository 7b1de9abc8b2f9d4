"""Feature pyramid network (Lin et al., 2017)."""

import math
from collections.abc import Sequence

import torch
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_xavier_fill
from torch import nn
from torch.nn import functional as F

from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .resnet import build_resnet_backbone

__all__ = [
    "FPN",
    "LastLevelMaxPool",
    "LastLevelP6P7",
    "build_resnet_fpn_backbone",
]


class FPN(Backbone):
    """Top-down pyramid on a bottom-up backbone; outputs ``p<k>`` have stride 2^k."""

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ):
        """
        Args:
            in_features: names of bottom-up features from fine to coarse, each of twice the stride of the one before.
            top_block: makes ``num_levels`` further levels from its ``in_feature``, a feature of either backbone.
            fuse_type: ``sum`` or ``avg`` of lateral and top-down features.
            square_pad: images must be padded to squares of this side; 0 for no such demand.

        Raises:
            ValueError: for other strides or another fuse type.
        """
        super().__init__()
        shapes = bottom_up.output_shape()
        strides = [shapes[name].stride for name in in_features]
        if not strides or any(coarse != 2 * fine for fine, coarse in zip(strides, strides[1:])):
            raise ValueError(f"FPN needs features whose strides double, got {dict(zip(in_features, strides))}")
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"FPN fuses by 'sum' or 'avg', got {fuse_type!r}")
        self._levels = [int(math.log2(stride)) for stride in strides]
        for name, level in zip(in_features, self._levels):
            # Both layers exist before either is filled: a seed then gives the same weights on both engines.
            pair = []
            for channels, size in ((shapes[name].channels, 1), (out_channels, 3)):
                options = {"padding": size // 2, "bias": not norm, "norm": get_norm(norm, out_channels)}
                pair.append(Conv2d(channels, out_channels, size, **options))
            for role, conv in zip(("lateral", "output"), pair):
                c2_xavier_fill(conv)
                self.add_module(f"fpn_{role}{level}", conv)
        self.top_block, self.bottom_up = top_block, bottom_up
        self.in_features, self._fuse_type, self._square_pad = tuple(in_features), fuse_type, square_pad
        self._size_divisibility = strides[-1]
        top = range(self._levels[-1] + 1, self._levels[-1] + 1 + getattr(top_block, "num_levels", 0))
        self._out_feature_strides = {f"p{level}": 2**level for level in (*self._levels, *top)}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self._square_pad}

    def _conv(self, role: str, level: int) -> Conv2d:
        return self._modules[f"fpn_{role}{level}"]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to pyramid features by name, fine to coarse."""
        bottom_up = self.bottom_up(x)
        outputs, above = {}, None
        for name, level in reversed(list(zip(self.in_features, self._levels))):
            merged = self._conv("lateral", level)(bottom_up[name])
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    merged = merged / 2
            outputs[f"p{level}"] = self._conv("output", level)(merged)
            above = merged
        levels = [outputs[f"p{level}"] for level in self._levels]
        if self.top_block is not None:
            levels += self.top_block({**outputs, **bottom_up}[self.top_block.in_feature])
        return dict(zip(self._out_features, levels, strict=True))


class LastLevelMaxPool(nn.Module):
    """p6 as every second cell of p5."""

    num_levels = 1
    in_feature = "p5"

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


class LastLevelP6P7(nn.Module):
    """p6 and p7 by strided convolutions, as in RetinaNet."""

    num_levels = 2

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5"):
        super().__init__()
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        c2_xavier_fill(self.p6)
        c2_xavier_fill(self.p7)

    def forward(self, c5: torch.Tensor) -> list[torch.Tensor]:
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


def _fpn_on(bottom_up: Backbone, cfg, top_block: nn.Module) -> FPN:
    options = cfg.MODEL.FPN
    return FPN(
        bottom_up, options.IN_FEATURES, options.OUT_CHANNELS, options.NORM, top_block, fuse_type=options.FUSE_TYPE
    )


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """FPN on a ResNet, with p6 pooled from p5 (for R-CNN models)."""
    return _fpn_on(build_resnet_backbone(cfg, input_shape), cfg, LastLevelMaxPool())
