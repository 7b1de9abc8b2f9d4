"""Convolutions that see where they are (CoordConv, Liu et al., NeurIPS 2018)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Coordinates:
    """Normalised (y, x) of the pixels of feature maps, -1 to 1 over each image's own size, before batch padding.

    The coordinate of cell i of n at a stride is 2 (i + 1/2) stride / size - 1: those of an image do not depend on
    which images it shares a batch with.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]] | torch.Tensor, device: torch.device):
        """
        Args:
            sizes: (height, width) of each image, px; or (N, 2).
        """
        self._sizes = torch.as_tensor(sizes, dtype=torch.float32, device=device).view(-1, 2)

    def at(self, x: torch.Tensor, stride: int, first_row: int = 0) -> torch.Tensor:
        """(N, 2, h, w) for features (N, C, h, w) of a stride, of which ``first_row`` is the first row."""
        height, width = x.shape[-2:]
        rows = (torch.arange(height, device=x.device) + first_row + 0.5) * stride
        columns = (torch.arange(width, device=x.device) + 0.5) * stride
        ys = 2 * rows / self._sizes[:, :1] - 1
        xs = 2 * columns / self._sizes[:, 1:] - 1
        shape = (self._sizes.shape[0], height, width)  # len() is no symbol when the network is exported
        return torch.stack([ys[:, :, None].expand(shape), xs[:, None].expand(shape)], 1).to(x.dtype)


class CoordConv2d(nn.Conv2d):
    """A convolution whose input has two more channels, the coordinates.

    Their weights are apart, and begin at 0: those of a pretrained convolution load unchanged, and it computes at first
    what it did.
    """

    def __init__(self, channels: int, width: int, size: int, *, with_coords: bool, **options: Any):
        """
        Args:
            with_coords: False makes it an ordinary convolution.
            options: of ``nn.Conv2d``.
        """
        super().__init__(channels, width, size, **options)
        shape = (width, 2, *self.kernel_size)
        self.coord_weight = nn.Parameter(torch.zeros(shape)) if with_coords else None

    def forward(self, x: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            x: (N, C, H, W).
            coords: (N, 2, H, W), of :meth:`Coordinates.at`.
        """
        if self.coord_weight is None:
            return super().forward(x)
        weight = torch.cat([self.weight, self.coord_weight], 1)
        return F.conv2d(torch.cat([x, coords], 1), weight, self.bias, self.stride, self.padding)
