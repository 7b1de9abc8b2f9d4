"""The network of the universal refiner: a residual U-Net (Ronneberger et al., 2015; He et al., 2016) of five scales
that sees an image, a coarse mask, and how well the
image's colours tell the mask apart around each pixel.

It gives two maps, the logit of foreground for a pixel that the coarse mask has and for one that it has not. Where both
have the same sign the image decides; where the first is positive and the second negative the coarse mask is believed.
A mask that is right so stays as it is to the pixel, although the maps are of half the input's resolution.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from pnm.object_refinement.local_regression import CHANNELS, color_evidence

STRIDE = 32  # heights and widths of inputs are multiples of it


class Architecture(NamedTuple):
    """Channels and residual blocks of each scale, strides 2 to 32, and channels of the way back up."""

    widths: tuple[int, ...] = (16, 32, 48, 64, 96)
    blocks: tuple[int, ...] = (1, 1, 1, 2, 2)


ARCHITECTURES = {"universal_small": Architecture(), "universal": Architecture((24, 48, 64, 96, 128))}


def _convolution(channels: int, width: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions whose result is added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class UpBlock(nn.Module):
    """A coarser scale, resized, beside a finer one."""

    def __init__(self, coarser: int, width: int):
        super().__init__()
        self.reduce = nn.Conv2d(coarser, width, 1)
        self.fuse = nn.Sequential(_convolution(2 * width, width), _convolution(width, width))

    def forward(self, coarser: torch.Tensor, finer: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(self.reduce(coarser), finer.shape[2:], mode="bilinear", align_corners=False)
        return self.fuse(torch.cat([finer, resized], 1))


class RefinementNetwork(nn.Module):
    """See the module's head.

    Attributes:
        color_evidence: :func:`pnm.object_refinement.local_regression.color_evidence` or a faster function of its kind.
    """

    color_evidence: Callable[[torch.Tensor], torch.Tensor]

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.color_evidence = color_evidence
        widths, blocks = architecture
        self.stem = _convolution(4, widths[0], stride=2)
        self.mix = _convolution(widths[0] + CHANNELS, widths[0], side=1)
        self.down = nn.ModuleList()
        for n, (width, number) in enumerate(zip(widths, blocks)):
            shrink = [_convolution(widths[n - 1], width, stride=2)] if n else []
            self.down.append(nn.Sequential(*shrink, *(ResidualBlock(width) for _ in range(number))))
        pairs = list(zip(widths[1:], widths))[::-1]
        self.up = nn.ModuleList(UpBlock(coarser, width) for coarser, width in pairs)
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: (N, 4, H, W), normalized RGB and the coarse mask as +1 and -1; H and W multiples of ``STRIDE``.

        Returns:
            (N, 2, H / 2, W / 2) logits of foreground, if the coarse mask has a pixel and if not.
        """
        seen = self.stem(x)
        x, levels = self.mix(torch.cat([seen, self.color_evidence(x).to(seen.dtype)], 1)), []
        for scale in self.down:
            x = scale(x)
            levels.append(x)
        for block, finer in zip(self.up, levels[-2::-1]):
            x = block(x, finer)
        return self.head(x)


def foreground_logits(maps: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """(N, H, W) logits of foreground: maps (N, 2, h, w) resized and, by each pixel of ``coarse`` (N, H, W) bool, one
    of the two."""
    inside, outside = F.interpolate(maps, coarse.shape[1:], mode="bilinear", align_corners=False).unbind(1)
    return torch.where(coarse, inside, outside)
