"""Anchor boxes (Ren et al., Faster R-CNN, 2015)."""

import math
from collections.abc import Iterator, Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes
from detectron2.utils.registry import Registry
from torch import nn

from .unsupported_settings import find_registered

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = "Callables (cfg, list of ShapeSpec) that return a module making anchors."


def build_anchor_generator(cfg, input_shape: list[ShapeSpec]) -> nn.Module:
    """The generator ``cfg.MODEL.ANCHOR_GENERATOR.NAME`` for features of these shapes."""
    name = cfg.MODEL.ANCHOR_GENERATOR.NAME
    return find_registered(ANCHOR_GENERATOR_REGISTRY, "MODEL.ANCHOR_GENERATOR.NAME", name)(cfg, input_shape)


class BufferList(nn.Module):
    """Tensors that move with the model and are not saved with it."""

    def __init__(self, buffers: Sequence[torch.Tensor]):
        super().__init__()
        for index, buffer in enumerate(buffers):
            self.register_buffer(str(index), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._buffers.values())


def _for_each_feature(values: Sequence, count: int, key: str) -> list[Sequence[float]]:
    """One list of numbers per feature map; a single list (nested or not) serves all of them."""
    if not values:
        raise ValueError(f"anchors need {key}, got an empty list")
    nested = [list(v) for v in values] if isinstance(values[0], Sequence) else [list(values)]
    if len(nested) not in (1, count):
        raise ValueError(f"anchors need 1 or {count} lists of {key} (one per feature map), got {len(nested)}")
    return nested * count if len(nested) == 1 else nested


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(nn.Module):
    """Anchors of given sizes and aspect ratios around the centre of every feature cell."""

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]] | Sequence[float],
        aspect_ratios: Sequence[Sequence[float]] | Sequence[float],
        strides: Sequence[int],
        offset: float = 0.5,
    ):
        """
        Args:
            sizes: square roots of anchor areas in input pixels, per feature map or for all.
            aspect_ratios: height over width, per feature map or for all.
            strides: of each feature map.
            offset: where in its cell an anchor is centred, in [0, 1).
        """
        super().__init__()
        if not 0 <= offset < 1:
            raise ValueError(f"the anchor offset is in [0, 1), got {offset}")
        self.strides, self.offset, self.num_features = strides, offset, len(strides)
        sizes = _for_each_feature(sizes, len(strides), "sizes")
        ratios = _for_each_feature(aspect_ratios, len(strides), "aspect ratios")
        self.cell_anchors = BufferList([self.generate_cell_anchors(*pair) for pair in zip(sizes, ratios)])

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        options = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": options.SIZES,
            "aspect_ratios": options.ASPECT_RATIOS,
            "offset": options.OFFSET,
            "strides": [shape.stride for shape in input_shape],
        }

    @property
    def num_anchors(self) -> list[int]:
        """Anchors per cell, for each feature map."""
        return [len(cell) for cell in self.cell_anchors]

    num_cell_anchors = num_anchors

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (32, 64, 128, 256, 512), aspect_ratios: Sequence[float] = (0.5, 1, 2)
    ) -> torch.Tensor:
        """(len(sizes) · len(aspect_ratios), 4) anchors around the origin; the ratio varies fastest."""
        corners = []
        for size in sizes:
            for ratio in aspect_ratios:
                half_width = math.sqrt(size**2.0 / ratio) / 2.0
                half_height = ratio * half_width
                corners.append((-half_width, -half_height, half_width, half_height))
        return torch.tensor(corners, dtype=torch.float32)

    def forward(self, features: list[torch.Tensor]) -> list[Boxes]:
        """Anchors of each feature map (N, C, H, W): H · W · A boxes, row by row, cell by cell."""
        return [
            Boxes(self._tile(cell, feature.shape[-2:], stride))
            for cell, feature, stride in zip(self.cell_anchors, features, self.strides)
        ]

    def _tile(self, cell: torch.Tensor, size: tuple[int, int], stride: int) -> torch.Tensor:
        rows, columns = (
            torch.arange(length, dtype=torch.float32, device=cell.device) * stride + self.offset * stride
            for length in size
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres = torch.stack((x, y, x, y), dim=-1)
        return (centres[:, :, None] + cell).reshape(-1, 4)
