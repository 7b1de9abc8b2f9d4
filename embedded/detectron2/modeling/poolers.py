"""Region features from one or several feature maps."""

import math
from collections.abc import Sequence

import torch
from detectron2.layers import ROIAlign, cat
from detectron2.structures import Boxes
from torch import nn
from torchvision.ops import RoIPool

from .unsupported_settings import reject_setting

__all__ = ["ROIPooler"]


def assign_boxes_to_levels(
    box_lists: Sequence[Boxes], min_level: int, max_level: int, canonical_box_size: int, canonical_level: int
) -> torch.Tensor:
    """Feature level of each box by its size (Eq. 1 of the FPN paper), counted from ``min_level``.

    A box of area ``canonical_box_size``² belongs to ``canonical_level``, one of twice that side to the next.
    Returns (M,) int64 for the M boxes of all images.
    """
    sides = cat([boxes.area() for boxes in box_lists]).sqrt()
    # The tiny summand keeps empty boxes away from log 0.
    levels = torch.floor(canonical_level + torch.log2(sides / canonical_box_size + 1e-8))
    return levels.clamp(min_level, max_level).long() - min_level


def convert_boxes_to_pooler_format(box_lists: Sequence[Boxes]) -> torch.Tensor:
    """(M, 5) rows (image index, x0, y0, x1, y1) for the boxes of all images."""
    rows = [nn.functional.pad(boxes.tensor, (1, 0), value=index) for index, boxes in enumerate(box_lists)]
    return torch.cat(rows)


def _make_pooler(kind: str, output_size: tuple[int, int], scale: float, sampling_ratio: int) -> nn.Module:
    if kind in ("ROIAlign", "ROIAlignV2"):
        return ROIAlign(output_size, scale, sampling_ratio, aligned=kind == "ROIAlignV2")
    if kind == "ROIPool":
        return RoIPool(output_size, scale)
    if kind == "ROIAlignRotated":
        reject_setting(f"POOLER_TYPE {kind}")
    raise ValueError(f"unknown POOLER_TYPE {kind!r}: choose from ROIAlignV2, ROIAlign, ROIPool")


class ROIPooler(nn.Module):
    """Pools each box from the feature map that suits its size."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ):
        """
        Args:
            output_size: cells of the result, (height, width) or one number for both.
            scales: 1 / stride of each feature map, each half of the one before; strides are powers of 2.
            sampling_ratio: see :class:`detectron2.layers.ROIAlign`.
            pooler_type: ROIAlignV2, ROIAlign (without the half-pixel shift) or ROIPool.
            canonical_box_size, canonical_level: see :func:`assign_boxes_to_levels`.

        Raises:
            ValueError: for other scales or an unknown type.
        """
        super().__init__()
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        levels = [-math.log2(scale) for scale in scales]
        self.min_level, self.max_level = round(levels[0]), round(levels[-1])
        if any(not math.isclose(level, self.min_level + k, abs_tol=1e-9) for k, level in enumerate(levels)):
            raise ValueError(f"ROIPooler needs strides that are successive powers of 2, got scales {scales}")
        self.level_poolers = nn.ModuleList(
            _make_pooler(pooler_type, self.output_size, scale, sampling_ratio) for scale in scales
        )
        self.canonical_box_size, self.canonical_level = canonical_box_size, canonical_level

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """
        Args:
            x: one (N, C, H, W) feature map for each scale.
            box_lists: boxes of N images, in input pixels.

        Returns:
            (M, C, *output_size) for the M boxes of all images.

        Raises:
            ValueError: when counts do not fit.
        """
        if len(x) != len(self.level_poolers) or len(box_lists) != len(x[0]):
            raise ValueError(
                f"ROIPooler has {len(self.level_poolers)} scales; got {len(x)} feature maps of {len(x[0])} images "
                f"and boxes of {len(box_lists)} images"
            )
        if not box_lists:
            return x[0].new_zeros(0, x[0].shape[1], *self.output_size)
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(x) == 1:
            return self.level_poolers[0](x[0], rois)
        levels = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        pooled = x[0].new_zeros(len(rois), x[0].shape[1], *self.output_size)
        # Levels without boxes are pooled too: all features stay on the graph, as distributed training needs.
        for level, (feature, pooler) in enumerate(zip(x, self.level_poolers)):
            rows = (levels == level).nonzero()[:, 0]
            pooled.index_put_((rows,), pooler(feature, rois[rows]))
        return pooled
