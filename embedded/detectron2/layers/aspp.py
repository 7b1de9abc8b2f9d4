"""Atrous spatial pyramid pooling (Chen et al., DeepLabv3, 2017)."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from fvcore.nn.weight_init import c2_xavier_fill
from torch import nn
from torch.nn import functional as F

from .batch_norm import get_norm
from .blocks import DepthwiseSeparableConv2d
from .wrappers import Conv2d


class ASPP(nn.Module):
    """Five parallel views of a feature map (1×1, three dilated 3×3, pooled image), projected to one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int],
        *,
        norm: str | Callable,
        activation: Callable,
        pool_kernel_size: tuple[int, int] | None = None,
        dropout: float = 0.0,
        use_depthwise_separable_conv: bool = False,
    ):
        """
        Args:
            dilations: three rates of the 3×3 convolutions.
            norm: for all convolutions but the one after pooling, whose input is a single pixel.
            pool_kernel_size: window of the image pooling; None pools over everything.
            dropout: rate on the result, in training.
        """
        super().__init__()
        if len(dilations) != 3:
            raise ValueError(f"ASPP needs 3 dilations, got {list(dilations)}")
        self.pool_kernel_size, self.dropout = pool_kernel_size, dropout

        def conv(channels: int, size: int = 1, rate: int = 1, normed: bool = True) -> Conv2d:
            layer = Conv2d(
                channels,
                out_channels,
                size,
                padding=rate * (size // 2),
                dilation=rate,
                bias=not normed or norm == "",
                norm=get_norm(norm, out_channels) if normed else None,
                activation=deepcopy(activation),
            )
            c2_xavier_fill(layer)
            return layer

        def separable(rate: int) -> DepthwiseSeparableConv2d:
            first, second = deepcopy(activation), deepcopy(activation)
            options = {"norm1": norm, "activation1": first, "norm2": norm, "activation2": second}
            return DepthwiseSeparableConv2d(in_channels, out_channels, 3, rate, rate, **options)

        pool = nn.AdaptiveAvgPool2d(1) if pool_kernel_size is None else nn.AvgPool2d(pool_kernel_size, stride=1)
        views = [conv(in_channels)]
        views += [separable(rate) if use_depthwise_separable_conv else conv(in_channels, 3, rate) for rate in dilations]
        views.append(nn.Sequential(pool, conv(in_channels, normed=False)))
        self.convs = nn.ModuleList(views)
        self.project = conv(5 * out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W).

        Raises:
            ValueError: when H, W are no multiples of ``pool_kernel_size``.
        """
        size = x.shape[-2:]
        if self.pool_kernel_size and any(side % window for side, window in zip(size, self.pool_kernel_size)):
            raise ValueError(f"features of {tuple(size)} are no multiple of pool_kernel_size {self.pool_kernel_size}")
        *local, pooled = (view(x) for view in self.convs)
        pooled = F.interpolate(pooled, size=size, mode="bilinear", align_corners=False)
        return F.dropout(self.project(torch.cat([*local, pooled], dim=1)), self.dropout, training=self.training)
