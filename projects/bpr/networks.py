"""Refinement networks: four channels, the image patch and the coarse mask, to one logit of foreground a pixel.

Those of Table 6 of BPR (Hu et al., IJCV 2022) on timm's backbones, and two light ones. One logit and a sigmoid is what
the paper's two and a softmax come to.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..semantic_networks.blocks import FusedLevels, build_named, check_norm, conv_norm_relu
from ..semantic_networks.small_unet import SmallUNet

_DROPOUT = 0.1


class FusedLevelsHead(FusedLevels):
    """HRNetV2's head with its classifier."""

    def __init__(self, channels: list[int], width: int = 0):
        super().__init__(channels, width)
        self.predictor = nn.Conv2d(self.out_channels, 1, 1)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return self.predictor(super().forward(levels))


class FCNHead(nn.Module):
    """Two 3 x 3 convolutions on the last level, a third on both ends of them, and the classifier (Long et al., 2015,
    as it is built on dilated ResNets)."""

    def __init__(self, channels: list[int]):
        super().__init__()
        width = channels[-1] // 4
        self.convs = nn.Sequential(conv_norm_relu(channels[-1], width, 3), conv_norm_relu(width, width, 3))
        self.fuse = conv_norm_relu(channels[-1] + width, width, 3)
        self.predictor = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(width, 1, 1))

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return self.predictor(self.fuse(torch.cat([levels[-1], self.convs(levels[-1])], 1)))


class BackboneAndHead(nn.Module):
    """A backbone of timm that gives a list of levels, and a head on some of them."""

    def __init__(self, backbone: nn.Module, head: nn.Module, first_level: int):
        super().__init__()
        self.backbone, self.head, self.first_level = backbone, head, first_level

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, s, s) to (N, 1, s / stride, s / stride) logits."""
        return self.head(self.backbone(x)[self.first_level :])


class PatchUNet(SmallUNet):
    """The small U-Net of four channels with a classifier, logits at half of the input's resolution."""

    def __init__(self, width: int = 16):
        super().__init__(4, width)
        self.predictor = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, s, s) to (N, 1, s / 2, s / 2) logits."""
        return self.predictor(super().forward(x))


def widen_first_convolution(model: nn.Module, name: str) -> None:
    """Replaces the convolution ``name`` of three channels by one of four; pretrained filters stay for the first three.

    The sum over channels is the same as adding a second convolution of the mask alone, as the authors' HRNet does.
    """
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    old: Any = getattr(owner, leaf)
    new = nn.Conv2d(
        4, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, bias=old.bias is not None
    )
    with torch.no_grad():
        new.weight[:, :3] = old.weight
        if new.bias is not None:
            new.bias.copy_(old.bias)
    setattr(owner, leaf, new)


def _on_timm(name: str, pretrained: bool, head: Callable[[list[int]], nn.Module], first_level: int, **options):
    import timm

    backbone: Any = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    channels = backbone.feature_info.channels()
    config: Any = timm.get_pretrained_cfg(name)
    widen_first_convolution(backbone, config.first_conv)
    return BackboneAndHead(backbone, head(channels[first_level:]), first_level)


def _hrnet(name: str) -> Callable[[bool], nn.Module]:
    # Its own branches, strides 4 to 32, without those that the ImageNet classifier widens.
    return lambda pretrained: _on_timm(name, pretrained, FusedLevelsHead, 1, feature_location="")


def _dilated_resnet(name: str) -> Callable[[bool], nn.Module]:
    return lambda pretrained: _on_timm(name, pretrained, FCNHead, 1, output_stride=8)


def _deeplabv3plus(pretrained: bool) -> nn.Module:
    import segmentation_models_pytorch as smp

    weights = True if pretrained else None
    model = smp.DeepLabV3Plus("tu-resnet50", encoder_weights=weights, encoder_output_stride=16, classes=1)
    model.segmentation_head = nn.Sequential(model.segmentation_head[0])  # logits at stride 4, as the others'
    widen_first_convolution(model.encoder.model, "conv1")
    model.check_input_shape = lambda x: None  # the sizes are checked with the config
    return model


def _mobilenet(pretrained: bool) -> nn.Module:
    return _on_timm("mobilenetv3_large_100", pretrained, lambda channels: FusedLevelsHead(channels, 64), 1)


NETWORKS: dict[str, Callable[[bool], nn.Module]] = {
    "fcn_hrnet_w18s": _hrnet("hrnet_w18_small_v2"),
    "fcn_hrnet_w18": _hrnet("hrnet_w18"),
    "fcn_hrnet_w48": _hrnet("hrnet_w48"),
    "fcn_resnet18": _dilated_resnet("resnet18"),
    "fcn_resnet50": _dilated_resnet("resnet50"),
    "deeplabv3plus_resnet50": _deeplabv3plus,
    "fcn_mobilenetv3": _mobilenet,
    "patch_unet": lambda pretrained: PatchUNet(),
}


def build_network(name: str, pretrained: bool, norm: str = "BN") -> nn.Module:
    """A refinement network: (N, 4, s, s) float to (N, 1, s / k, s / k) logits of foreground, k = 2, 4 or 8.

    Args:
        name: one of ``NETWORKS``.
        pretrained: download ImageNet's weights of the backbone (``patch_unet`` has none).
        norm: "BN" or "SyncBN".

    Raises:
        UserError: unknown name or norm, or weights that cannot be had.
    """
    check_norm("MODEL.BPR.NORM", norm)
    network = build_named(NETWORKS, name, pretrained, "MODEL.BPR")
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if norm == "SyncBN" else network
