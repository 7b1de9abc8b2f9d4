"""What every backbone promises."""

from abc import ABC, abstractmethod

import torch
from detectron2.layers import ShapeSpec
from torch import nn

__all__ = ["Backbone"]


class Backbone(nn.Module, ABC):
    """Maps a batch of images to a dict of feature maps.

    Subclasses set ``_out_features`` (names), ``_out_feature_channels`` and ``_out_feature_strides`` (dicts by name),
    or override :meth:`output_shape`.
    """

    def __init__(self):
        super().__init__()

    @abstractmethod
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to feature maps by name."""

    @property
    def size_divisibility(self) -> int:
        """Images must be padded to multiples of this; 0 where any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further demands on padding, as :meth:`detectron2.structures.ImageList.from_tensors` takes them."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map."""
        channels, strides = self._out_feature_channels, self._out_feature_strides
        return {name: ShapeSpec(channels=channels[name], stride=strides[name]) for name in self._out_features}
