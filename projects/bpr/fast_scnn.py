"""Fast-SCNN (Poudel et al., "Fast-SCNN: Fast Semantic Segmentation Network", BMVC 2019), trained from scratch.

Its features at an eighth of the input's resolution, and the classifier on them. Layers are those of the paper's Tables
1 to 3: batch norm before every ReLU, no ReLU between a depthwise and its pointwise convolution (section 3.2.1).
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..semantic_networks.blocks import conv_norm_relu, resize_like

LEVELS = (64, 128, 128)  # channels of the features: high resolution, global, fused
_EXPANSION = 6  # t of the bottlenecks
_BINS = (1, 2, 3, 6)  # sides that pyramid pooling pools to (Zhao et al., 2017)
_GLOBAL_STRIDE = 4  # of the global features to those of high resolution


def _depthwise(channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3 x 3, each channel by itself, BatchNorm."""
    conv = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def _separable(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """The paper's DSConv."""
    return nn.Sequential(_depthwise(channels, stride), conv_norm_relu(channels, width, 1))


class Bottleneck(nn.Module):
    """Inverted residual with a linear end (Sandler et al., "MobileNetV2", 2018; Table 2)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        inner = channels * _EXPANSION
        self.layers = nn.Sequential(
            conv_norm_relu(channels, inner, 1),
            _depthwise(inner, stride),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.is_residual = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to (N, width, H / stride, W / stride)."""
        return x + self.layers(x) if self.is_residual else self.layers(x)


class PyramidPooling(nn.Module):
    """The input beside its means over 1, 4, 9 and 36 parts, in as many channels as it has."""

    def __init__(self, channels: int):
        super().__init__()
        width = channels // len(_BINS)
        self.branches = nn.ModuleList([self._branch(channels, width, side) for side in _BINS])
        self.fuse = conv_norm_relu(2 * channels, channels, 1)

    @staticmethod
    def _branch(channels: int, width: int, side: int) -> nn.Sequential:
        pool = nn.AdaptiveAvgPool2d(side)
        if side == 1:
            # BatchNorm would see one value a patch here: none to learn from in a batch of one patch, which an image of
            # few boundaries gives at any time, and poor statistics in a batch of few.
            return nn.Sequential(pool, nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True))
        return nn.Sequential(pool, conv_norm_relu(channels, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) of both; H and W may be smaller than the bins."""
        return self.fuse(torch.cat([x, *(resize_like(branch(x), x) for branch in self.branches)], 1))


class FeatureFusion(nn.Module):
    """The sum of high-resolution and upsampled global features (Table 3)."""

    def __init__(self, high_channels: int, global_channels: int, width: int):
        super().__init__()
        # Dilated as the features are enlarged, so that its nine taps are of different coarse pixels.
        self.of_global = nn.Sequential(
            _depthwise(global_channels, dilation=_GLOBAL_STRIDE),
            nn.ReLU(inplace=True),
            nn.Conv2d(global_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.of_high = nn.Sequential(nn.Conv2d(high_channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, high: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W), of the size of ``high``."""
        return F.relu(self.of_high(high) + self.of_global(resize_like(coarse, high)))


class FastSCNNFeatures(nn.Module):
    """Learning to downsample, global feature extractor and feature fusion."""

    def __init__(self, channels: int):
        """
        Args:
            channels: of the input.
        """
        super().__init__()
        high, coarse, fused = LEVELS
        stem = nn.Sequential(nn.Conv2d(channels, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.downsample = nn.Sequential(stem, _separable(32, 48, 2), _separable(48, high, 2))
        blocks = []
        width = high
        for out, stride in ((64, 2), (96, 2), (coarse, 1)):
            for first in (True, False, False):
                blocks.append(Bottleneck(width, out, stride if first else 1))
                width = out
        self.extract = nn.Sequential(*blocks, PyramidPooling(coarse))
        self.fuse = FeatureFusion(high, coarse, fused)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, channels, s, s) to features of ``LEVELS`` channels: high resolution (s / 8), global (s / 32), fused
        (s / 8)."""
        high = self.downsample(x)
        coarse = self.extract(high)
        return [high, coarse, self.fuse(high, coarse)]


class FastSCNNHead(nn.Module):
    """The classifier, on the last level: two separable convolutions, dropout, one logit."""

    def __init__(self, channels: list[int], dropout: float):
        super().__init__()
        width = channels[-1]
        self.convs = nn.Sequential(_separable(width, width), _separable(width, width))
        self.predictor = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, 1, 1))

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return self.predictor(self.convs(levels[-1]))
