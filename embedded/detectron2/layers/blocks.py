"""Building blocks of convolutional networks."""

from collections.abc import Callable

import torch
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from .batch_norm import FrozenBatchNorm2d, get_norm
from .wrappers import Conv2d


class CNNBlockBase(nn.Module):
    """A block that maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def freeze(self) -> "CNNBlockBase":
        """Stops the training of this block: no gradients, and frozen statistics in place of batch statistics."""
        self.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A convolution per channel (``depthwise``), then a 1×1 convolution across channels (``pointwise``).

    Args:
        norm1, activation1: for the depthwise layer.
        norm2, activation2: for the pointwise layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: str | Callable | None = None,
        activation1: Callable | None = None,
        norm2: str | Callable | None = None,
        activation2: Callable | None = None,
    ):
        super().__init__()
        spatial = {"kernel_size": kernel_size, "padding": padding, "dilation": dilation, "groups": in_channels}
        first, second = (
            {"bias": not norm, "norm": get_norm(norm, channels), "activation": activation}
            for norm, channels, activation in ((norm1, in_channels, activation1), (norm2, out_channels, activation2))
        )
        self.depthwise = Conv2d(in_channels, in_channels, **spatial, **first)
        self.pointwise = Conv2d(in_channels, out_channels, 1, **second)
        for layer in (self.depthwise, self.pointwise):
            c2_msra_fill(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))
