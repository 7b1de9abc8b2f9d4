"""Masks blended of an image's bases by each object's attention (SE-PSNet, Eq. 3; BlendMask, section 3.1)."""

import torch
import torch.nn.functional as F

from pnm.errors import UserError


def blend(regions: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Mask logits (R, M, M): the bases in each region, weighted pixel by pixel.

    Args:
        regions: (R, K, M, M), bases within the objects' boxes.
        attention: (R, K * A * A), base by base, each a map of A x A; it is enlarged to M x M bilinearly, and then
            made to weights that sum to 1 over the bases.

    Raises:
        UserError: attention that is no K maps.
    """
    count, bases, side = regions.shape[:3]
    small = round((attention.shape[-1] / bases) ** 0.5)
    if not small or attention.shape != (count, bases * small * small):
        raise UserError(
            f"attention is {tuple(attention.shape)}, expected ({count}, {bases} A A): {bases} bases, {count} regions"
        )
    if not count:
        return regions.sum(1) + attention.sum() * 0  # F.interpolate refuses what is empty
    maps = F.interpolate(attention.view(count, bases, small, small), (side, side), mode="bilinear", align_corners=False)
    return (maps.softmax(1) * regions).sum(1)
