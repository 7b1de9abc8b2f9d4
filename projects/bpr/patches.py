"""The one place where patches are chosen and cut: training and inference see the same."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from pnm.boundary_patches.extraction import cut_patches, find_patches
from pnm.masks.crops import MaskCrop

from .config import PatchSettings


class Patches(NamedTuple):
    """N patches of one mask.

    Attributes:
        corners: (N, 2) int32, row and column of each box's first pixel, without padding.
        masks: (N, s, s) bool, the coarse mask in each box and its padding.
    """

    corners: np.ndarray
    masks: np.ndarray


def patches_of(crop: MaskCrop, height: int, width: int, settings: PatchSettings) -> Patches:
    """The patches of one coarse mask in an image of height x width."""
    corners = find_patches(crop, height, width, settings.size, settings.threshold, settings.ties)
    masks = cut_mask(crop, corners, settings)
    if settings.is_partition:
        has_boundary = has_background(masks, settings.padding, min(settings.size, height) * min(settings.size, width))
        corners, masks = corners[has_boundary], masks[has_boundary]
    return Patches(corners, masks)


def cut_mask(crop: MaskCrop, corners: np.ndarray, settings: PatchSettings) -> np.ndarray:
    """(N, s, s) bool: any mask of the image in the boxes and their padding."""
    return cut_patches(crop, corners, settings.size, settings.padding)


def cut_image(image: torch.Tensor, corners: np.ndarray, settings: PatchSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (N, 3, s, s) of an image (3, H, W), on its device, and where they lie in it, (N, s, s) bool.

    Outside the image a patch repeats its nearest pixel.
    """
    steps = torch.arange(-settings.padding, settings.size + settings.padding, device=image.device)
    first = torch.from_numpy(corners).to(image.device, torch.int64)
    rows, columns = first[:, :1] + steps, first[:, 1:] + steps
    height, width = image.shape[1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return image[:, rows[:, :, None], columns[:, None]].transpose(0, 1), inside


def network_input(
    images: torch.Tensor, inside: torch.Tensor, masks: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, side: int
) -> torch.Tensor:
    """(N, 4, side, side) float32, what networks see of patches.

    Outside the image a patch has the mean colour. The mask is +1 and -1 and keeps its sharp edge when resized.

    Args:
        images: (N, 3, s, s) uint8.
        inside: (N, s, s) bool, where they lie in the image.
        masks: (N, s, s) bool, coarse.
        mean, std: of the image's channels, (3, 1, 1).
    """
    colors = (images.float() - mean) / std * inside[:, None]
    colors = F.interpolate(colors, (side, side), mode="bilinear", align_corners=False)
    coarse = F.interpolate(masks[:, None].float() * 2 - 1, (side, side), mode="nearest")
    return torch.cat([colors, coarse], dim=1)


def has_background(masks: np.ndarray, pad: int, full: int) -> np.ndarray:
    """(N,) bool: patches of which, without their padding, not all ``full`` pixels of the image are foreground.

    Those that are lie along the image's frame inside of a segment and have no boundary to refine (section 3.3).
    """
    side = masks.shape[-1] - pad
    inner = masks[:, pad:side, pad:side]
    if full == inner[0:1].size:
        return np.asarray(~inner.all(axis=(1, 2)))
    return np.asarray(inner.sum(axis=(1, 2)) < full)
