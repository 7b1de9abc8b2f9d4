"""Networks of SegFix: an image to logits of boundary and of direction, at a half or a quarter of its resolution."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from ..semantic_networks.blocks import build_named, check_norm, conv_norm_relu, resize_like
from ..semantic_networks.small_unet import SmallUNet

_FPN_CHANNELS = 128


class FinestLevels(nn.Module):
    """A backbone of timm, all of whose levels are brought to the finest one's resolution and concatenated (HRNetV2,
    Wang et al., 2020)."""

    def __init__(self, backbone: nn.Module, channels: list[int]):
        super().__init__()
        self.backbone, self.out_channels = backbone, sum(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, channels, h, w)."""
        levels = self.backbone(x)
        return torch.cat([levels[0], *(resize_like(level, levels[0]) for level in levels[1:])], 1)


class FeaturePyramid(nn.Module):
    """A backbone of timm with a feature pyramid (Lin et al., CVPR 2017), whose levels are added up at the finest."""

    def __init__(self, backbone: nn.Module, channels: list[int]):
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.backbone, self.out_channels = backbone, _FPN_CHANNELS
        self.pyramid = FeaturePyramidNetwork(channels, _FPN_CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, channels, H / 4, W / 4)."""
        named = OrderedDict((str(k), level) for k, level in enumerate(self.backbone(x)))
        finest, *others = self.pyramid(named).values()
        return finest + sum(resize_like(level, finest) for level in others)


class OffsetLogits(NamedTuple):
    """Logits (N, 2, h, w) of interior and boundary, and (N, m, h, w) of the directions."""

    boundary: torch.Tensor
    direction: torch.Tensor


class OffsetNetwork(nn.Module):
    """A backbone with one map of features, and the two heads of SegFix on it."""

    def __init__(self, backbone: Any, bins: int, head_channels: int = 256):
        super().__init__()
        self.backbone = backbone
        self.boundary_head = self._head(backbone.out_channels, head_channels, 2)
        self.direction_head = self._head(backbone.out_channels, head_channels, bins)

    @staticmethod
    def _head(channels: int, width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(conv_norm_relu(channels, width, 1), nn.Conv2d(width, outputs, 1))

    def forward(self, x: torch.Tensor) -> OffsetLogits:
        features = self.backbone(x)
        return OffsetLogits(self.boundary_head(features), self.direction_head(features))


def _on_timm(name: str, pretrained: bool, **options: Any) -> tuple[Any, list[int]]:
    """A backbone without its stem's features, and the channels of its levels from stride 4 on."""
    import timm

    backbone: Any = timm.create_model(
        name, pretrained=pretrained, features_only=True, out_indices=(1, 2, 3, 4), **options
    )
    return backbone, backbone.feature_info.channels()


def _hrnet(name: str, stride: int) -> Callable[[bool], nn.Module]:
    def build(pretrained: bool) -> nn.Module:
        # Its own branches, without those that the ImageNet classifier widens.
        backbone, channels = _on_timm(name, pretrained, feature_location="")
        if stride == 2:
            backbone.conv2.stride = (1, 1)  # the second convolution of the stem
        return FinestLevels(backbone, channels)

    return build


def _resnet_fpn(name: str) -> Callable[[bool], nn.Module]:
    return lambda pretrained: FeaturePyramid(*_on_timm(name, pretrained))


NETWORKS: dict[str, Callable[[bool], nn.Module]] = {
    "hrnet_w18": _hrnet("hrnet_w18", 4),
    "hrnet_w32": _hrnet("hrnet_w32", 4),
    "hrnet_w48": _hrnet("hrnet_w48", 4),
    "hrnet_w18_stride2": _hrnet("hrnet_w18", 2),
    "hrnet_w32_stride2": _hrnet("hrnet_w32", 2),
    "hrnet_w48_stride2": _hrnet("hrnet_w48", 2),
    "resnet18_fpn": _resnet_fpn("resnet18"),
    "resnet50_fpn": _resnet_fpn("resnet50"),
    "small_unet": lambda pretrained: SmallUNet(3, 24),
}
SIZE_DIVISIBILITY = 32  # of the input, px


def build_network(
    name: str, bins: int, *, pretrained: bool = False, head_channels: int = 256, norm: str = "BN"
) -> OffsetNetwork:
    """A network for (N, 3, H, W) float images, H and W multiples of 32.

    Args:
        name: one of ``NETWORKS``.
        bins: m, the number of directions.
        pretrained: download ImageNet's weights of the backbone (``small_unet`` has none).
        norm: "BN" or "SyncBN".

    Raises:
        UserError: unknown name or norm, or weights that cannot be had.
    """
    check_norm("MODEL.SEGFIX.NORM", norm)
    backbone = build_named(NETWORKS, name, pretrained, "MODEL.SEGFIX")
    network = OffsetNetwork(backbone, bins, head_channels)
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if norm == "SyncBN" else network
