"""Box heads: features of a region before classification and regression."""

import math
from collections.abc import Callable, Sequence

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import nn

from ..unsupported_settings import find_registered

__all__ = ["ROI_BOX_HEAD_REGISTRY", "FastRCNNConvFCHead", "build_box_head"]

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_BOX_HEAD_REGISTRY.__doc__ = "Callables (cfg, ShapeSpec of pooled features) that return a box head."


def build_box_head(cfg, input_shape: ShapeSpec) -> nn.Module:
    """The head ``cfg.MODEL.ROI_BOX_HEAD.NAME``."""
    name = cfg.MODEL.ROI_BOX_HEAD.NAME
    return find_registered(ROI_BOX_HEAD_REGISTRY, "MODEL.ROI_BOX_HEAD.NAME", name)(cfg, input_shape)


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3×3 convolutions, then fully connected layers, each followed by ReLU."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str | Callable = "",
    ):
        """
        Args:
            input_shape: channels, height and width of the pooled features.
            conv_dims, fc_dims: widths of the layers; at least one altogether.
        """
        super().__init__()
        if not conv_dims and not fc_dims:
            raise ValueError("a box head needs a layer: set MODEL.ROI_BOX_HEAD.NUM_CONV or NUM_FC above 0")
        width, area = input_shape.channels, (input_shape.height, input_shape.width)
        convs, fcs = [], []
        for dim in conv_dims:
            norm = get_norm(conv_norm, dim)
            convs.append(Conv2d(width, dim, 3, padding=1, bias=not conv_norm, norm=norm, activation=nn.ReLU()))
            self.add_module(f"conv{len(convs)}", convs[-1])
            width = dim
        self._output_shape = ShapeSpec(channels=width, height=area[0], width=area[1])
        for dim in fc_dims:
            if not fcs:
                self.add_module("flatten", nn.Flatten())
                width *= math.prod(area)
            fcs.append(nn.Linear(width, dim))
            self.add_module(f"fc{len(fcs)}", fcs[-1])
            self.add_module(f"fc_relu{len(fcs)}", nn.ReLU())
            width, self._output_shape = dim, ShapeSpec(channels=dim)
        for conv in convs:
            c2_msra_fill(conv)
        for fc in fcs:
            c2_xavier_fill(fc)
        self.conv_norm_relus, self.fcs = convs, fcs

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    @property
    def output_shape(self) -> ShapeSpec:
        """Channels alone after fully connected layers, otherwise with height and width."""
        return self._output_shape
