"""Attention between the pixels of a feature map, as it is put into a segmentation head: non-local and criss-cross.

Both are plain torch. Non-local attention runs through torch's fused kernels, which never hold the matrix of all pairs
of pixels; criss-cross attention holds H + W weights a pixel.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def precise_softmax(products: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension, in single precision at least, whatever autocast has made of the products."""
    return products.softmax(dim=-1, dtype=torch.promote_types(products.dtype, torch.float32))


def non_local_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Every pixel's mean of all pixels' values, weighted by the softmax of query times key.

    That is the embedded Gaussian of Wang et al., "Non-local Neural Networks" (CVPR 2018), Eq. 4: without a scale.

    Args:
        query, key: (N, c, H, W).
        value: (N, C, H, W).

    Returns:
        (N, C, H, W).
    """
    # The fused kernels want a dimension of heads, and channels that lie side by side; without, torch builds the matrix.
    of_query, of_key, of_value = (x.flatten(2).transpose(1, 2)[:, None].contiguous() for x in (query, key, value))
    mean = F.scaled_dot_product_attention(of_query, of_key, of_value, scale=1.0)
    return mean[:, 0].transpose(1, 2).reshape(value.shape)


def criss_cross_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Every pixel's mean of the values in its row and its column, weighted by the softmax of query times key.

    Huang et al., "CCNet: Criss-Cross Attention for Semantic Segmentation" (ICCV 2019), Sec. 3.2. The pixel itself,
    where row and column cross, counts once.

    Args:
        query, key: (N, c, H, W).
        value: (N, C, H, W).

    Returns:
        (N, C, H, W).
    """
    height = query.shape[2]
    of_column = torch.einsum("nchw,ncgw->nhwg", query, key)
    itself = torch.eye(height, dtype=torch.bool, device=query.device)[:, None]
    of_column = of_column.masked_fill(itself, -torch.inf)
    of_row = torch.einsum("nchw,nchv->nhwv", query, key)
    weights = precise_softmax(torch.cat([of_column, of_row], dim=-1)).to(value.dtype)
    column, row = weights[..., :height], weights[..., height:]
    return torch.einsum("nhwg,ncgw->nchw", column, value) + torch.einsum("nhwv,nchv->nchw", row, value)


class NonLocalBlock(nn.Module):
    """Non-local block with a residual path, which starts as the identity (Wang et al., Sec. 3.3 and 4.1)."""

    def __init__(self, channels: int):
        super().__init__()
        width = max(channels // 2, 1)
        self.query, self.key, self.value = (nn.Conv2d(channels, width, 1) for _ in range(3))
        self.project = nn.Conv2d(width, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        # Small weights, as its authors have them: products of two large ones would let one pixel take all the weight.
        for conv in (self.query, self.key, self.value, self.project):
            nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same."""
        return x + self.norm(self.project(non_local_attention(self.query(x), self.key(x), self.value(x))))


class CrissCrossBlock(nn.Module):
    """Criss-cross attention with a residual path, which starts as the identity.

    Applied twice in a row with the same weights (Huang et al.'s recurrence R = 2) every pixel hears of every other.
    """

    gain: Any

    def __init__(self, channels: int, passes: int = 2):
        super().__init__()
        width = max(channels // 8, 1)
        self.query, self.key = (nn.Conv2d(channels, width, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))
        self.passes = passes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same."""
        for _ in range(self.passes):
            x = x + self.gain * criss_cross_attention(self.query(x), self.key(x), self.value(x))
        return x
