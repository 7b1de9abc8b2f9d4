"""GridMask (Chen et al., 2020): squares of a grid are taken out of images."""

import torch

_RATIO = 0.5  # side of a square to the grid's period
_LEAST_PX = 2


def grid_mask(height: int, width: int) -> torch.Tensor:
    """(height, width) bool, True where an image is hidden: a square in each cell of a grid.

    The period is drawn between 2 px and the shorter side, the grid's place within the period, from torch's generator.
    """
    period = int(torch.randint(_LEAST_PX, max(_LEAST_PX, min(height, width)) + 1, ()))
    side = max(1, round(_RATIO * period))
    top, left = torch.randint(period, (2,)).tolist()
    rows = (torch.arange(height) + top) % period < side
    columns = (torch.arange(width) + left) % period < side
    return rows[:, None] & columns


def hide_squares(images: torch.Tensor, sizes: list[tuple[int, int]], probability: float) -> torch.Tensor:
    """Images (N, C, H, W), normalised, some of them with squares of zeros.

    Args:
        sizes: (height, width) of each within the batch.
        probability: that an image is changed.
    """
    hidden = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.bool)
    for mask, size in zip(hidden, sizes, strict=True):
        if float(torch.rand(())) < probability:
            mask[0, : size[0], : size[1]] = grid_mask(*size)
    return images.masked_fill(hidden.to(images.device), 0)
