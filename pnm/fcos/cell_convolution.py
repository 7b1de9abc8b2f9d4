"""A convolution whose result is wanted at a few cells only.

BlendMask's attention layer has hundreds of output channels, of which a few hundred cells are used: their neighbourhoods
are gathered and multiplied with the weights, which gives the values and the gradients of the whole convolution.
"""

import torch
import torch.nn.functional as F


def convolution_at(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, images: torch.Tensor, cells: torch.Tensor
) -> torch.Tensor:
    """``F.conv2d(features, weight, bias, padding=k // 2)`` at R places.

    Args:
        features: (N, C, H, W).
        weight: (O, C, k, k), k odd.
        images, cells: (R,) int64: image, and cell as row x W + column.

    Returns:
        (R, O). For R = 0 it still depends on ``features``, ``weight`` and ``bias``, whose gradients are then zeros.
    """
    size, width = weight.shape[-1], features.shape[-1]
    padded = F.pad(features, [size // 2] * 4).permute(0, 2, 3, 1)
    near = torch.arange(size, device=cells.device)
    rows, columns = (cells // width)[:, None] + near, (cells % width)[:, None] + near
    patches = padded[images[:, None, None], rows[:, :, None], columns[:, None, :]]
    return F.linear(patches.flatten(1), weight.permute(0, 2, 3, 1).flatten(1), bias)
