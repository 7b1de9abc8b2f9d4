"""A small U-Net (Ronneberger et al., 2015) that trains from scratch in minutes, without its classifier."""

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import conv_norm_relu, resize_like


class SmallUNet(nn.Module):
    """Three scales, two convolutions each, features at half of the input's resolution."""

    def __init__(self, channels: int, width: int = 16):
        """
        Args:
            channels: of the input.
            width: of the output, and of the finest scale.
        """
        super().__init__()
        self.out_channels = width
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList([self._block(a, b) for a, b in zip([width, *widths], widths)])
        self.up = nn.ModuleList([self._block(a + b, a) for a, b in zip(widths[:-1], widths[1:])])

    @staticmethod
    def _block(channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(conv_norm_relu(channels, width, 3), conv_norm_relu(width, width, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to (N, width, H / 2, W / 2)."""
        x, levels = self.stem(x), []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            levels.append(x)
        for skip, block in zip(levels[-2::-1], reversed(self.up)):
            x = block(torch.cat([skip, resize_like(x, skip)], 1))
        return x
