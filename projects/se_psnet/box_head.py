"""The box head: FCOS's towers, what they say of each cell, and attention at the cells that are chosen."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import nn

from pnm.fcos.cell_convolution import convolution_at
from pnm.fcos.cells import Level

_STD = 0.01  # of the initial weights


class CellOutputs(NamedTuple):
    """What the box head says of N images' cells, L in all levels together, float32.

    Attributes:
        class_logits: (N, L, C).
        distances: (N, L, 4) px, >= 0, from the sides left, top, right, bottom of the box.
        centerness_logits: (N, L).
        towers: (N, C, h, w) of each level, the box tower's features, from which attention is computed.
        levels: of the pyramid.
    """

    class_logits: torch.Tensor
    distances: torch.Tensor
    centerness_logits: torch.Tensor
    towers: list[torch.Tensor]
    levels: list[Level]


class Scale(nn.Module):
    """A number to multiply with, learned."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def _tower(channels: int, convs: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers.append(_conv(channels, channels))
        layers += [layer for layer in (get_norm(norm, channels),) if layer is not None]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _conv(channels: int, width: int, bias: float = 0.0) -> nn.Conv2d:
    conv = nn.Conv2d(channels, width, 3, padding=1)
    nn.init.normal_(conv.weight, std=_STD)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv


class FCOSHead(nn.Module):
    """Two towers shared by the levels, with the names that FCOS's published models have."""

    def __init__(
        self,
        channels: int,
        classes: int,
        strides: Sequence[int],
        *,
        convs: int = 4,
        norm: str = "GN",
        prior_prob: float = 0.01,
        box_bias: float = 0.0,
        scales: bool = False,
    ):
        """
        Args:
            channels: of all levels.
            strides: of the levels in px.
            convs: of each tower.
            prior_prob: of a class before training.
            box_bias: initial bias of the distances, in strides.
            scales: whether each level has a factor on its distances.
        """
        super().__init__()
        self.strides = tuple(strides)
        self.cls_tower, self.bbox_tower = _tower(channels, convs, norm), _tower(channels, convs, norm)
        self.cls_logits = _conv(channels, classes, -math.log((1 - prior_prob) / prior_prob))
        self.bbox_pred = _conv(channels, 4, box_bias)
        self.ctrness = _conv(channels, 1)
        self.scales = nn.ModuleList([Scale() for _ in strides]) if scales else None

    def forward(self, features: Sequence[torch.Tensor]) -> CellOutputs:
        """Of the levels' features (N, C, h, w)."""
        classes, distances, centers, towers = [], [], [], []
        for k, (level, stride) in enumerate(zip(features, self.strides, strict=True)):
            classes.append(_flat(self.cls_logits(self.cls_tower(level))))
            tower = self.bbox_tower(level)
            sides = self.bbox_pred(tower)
            sides = sides if self.scales is None else self.scales[k](sides)
            distances.append(_flat(F.relu(sides.float())) * stride)
            centers.append(_flat(self.ctrness(tower))[..., 0])
            towers.append(tower)
        levels = [Level(level.shape[-2], level.shape[-1], stride) for level, stride in zip(features, self.strides)]
        return CellOutputs(
            torch.cat(classes, 1).float(), torch.cat(distances, 1), torch.cat(centers, 1).float(), towers, levels
        )


def _flat(x: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) to (N, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


class AttentionLayer(nn.Conv2d):
    """A 3 x 3 convolution of the box tower, computed at the cells that are asked for."""

    def __init__(self, channels: int, width: int):
        super().__init__(channels, width, 3, padding=1)
        nn.init.normal_(self.weight, std=_STD)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def at(self, outputs: CellOutputs, images: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """(R, width) of cells by their number in all levels together, (R,) int64, of images (R,)."""
        order, parts, first = [], [], 0
        for tower, level in zip(outputs.towers, outputs.levels, strict=True):
            rows = ((cells >= first) & (cells < first + level.size)).nonzero()[:, 0]
            parts.append(convolution_at(tower, self.weight, self.bias, images[rows], cells[rows] - first))
            order.append(rows)
            first += level.size
        return torch.cat(parts)[torch.cat(order).argsort()]
