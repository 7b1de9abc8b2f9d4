"""Random boxes."""

import torch


def boxes_in(height: int, width: int, count: int, seed: int = 0) -> torch.Tensor:
    """``count`` boxes with sides of at least one pixel inside an image."""
    u = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    x0, y0 = u[:, 0] * (width - 2), u[:, 1] * (height - 2)
    return torch.stack([x0, y0, x0 + 1 + u[:, 2] * (width - 1 - x0), y0 + 1 + u[:, 3] * (height - 1 - y0)], dim=1)
