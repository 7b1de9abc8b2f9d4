"""The one place where patches are chosen and cut: training and inference see the same."""

from typing import NamedTuple

import numpy as np
import torch

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


def has_background(masks: np.ndarray, pad: int, full: int) -> np.ndarray:
    """(N,) bool: patches of which, without their padding, not all ``full`` pixels of the image are foreground.

    Those that are lie along the image's frame inside of a segment and have no boundary to refine (section 3.3).
    """
    side = masks.shape[-1] - pad
    inner = masks[:, pad:side, pad:side]
    if full == inner[0:1].size:
        return np.asarray(~inner.all(axis=(1, 2)))
    return np.asarray(inner.sum(axis=(1, 2)) < full)
