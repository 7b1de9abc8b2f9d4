"""Refinement networks: four channels, the image patch and the coarse mask, to one logit of foreground a pixel.

Those of Table 6 of BPR (Hu et al., IJCV 2022), most on timm's backbones, two light ones, and those of the universal
refiner, whose weights (``pnm://universal-small``) fit them as they are. One logit and a sigmoid is
what the paper's two and a softmax come to. Some have inner features for auxiliary heads, which belong to training and
not to the network.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from pnm.errors import UserError
from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork, foreground_logits

from ..semantic_networks.blocks import FusedLevels, build_named, check_norm, conv_norm_relu
from ..semantic_networks.small_unet import SmallUNet
from .fast_scnn import LEVELS, FastSCNNFeatures, FastSCNNHead

_DROPOUT = 0.1
_RES4 = -2  # place of the third stage in the levels of a ResNet


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


class AuxiliaryHead(nn.Sequential):
    """An FCN head on an inner feature: a 3 x 3 convolution to a quarter of its channels, dropout and the classifier."""

    def __init__(self, channels: int):
        width = channels // 4
        super().__init__(conv_norm_relu(channels, width, 3), nn.Dropout2d(_DROPOUT), nn.Conv2d(width, 1, 1))


class LayeredNetwork(nn.Module):
    """A network that can also give inner features, of ``auxiliary_channels`` each; none if that is empty."""

    auxiliary_channels: Sequence[int] = ()

    def logits_and_features(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(N, 4, s, s) to (N, 1, s / stride, s / stride) logits, and the features that auxiliary heads are put on."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, s, s) to (N, 1, s / stride, s / stride) logits."""
        return self.logits_and_features(x)[0]


class BackboneAndHead(LayeredNetwork):
    """A backbone that gives a list of levels, and a head on some of them."""

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        first_level: int,
        auxiliary_levels: Sequence[int] = (),
        auxiliary_channels: Sequence[int] = (),
    ):
        """
        Args:
            first_level: from which on the head sees them.
            auxiliary_levels: that auxiliary heads can be put on, counted among all levels.
            auxiliary_channels: of each of these.
        """
        super().__init__()
        self.backbone, self.head, self.first_level = backbone, head, first_level
        self.auxiliary_levels, self.auxiliary_channels = auxiliary_levels, auxiliary_channels

    def logits_and_features(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        levels = self.backbone(x)
        return self.head(levels[self.first_level :]), [levels[k] for k in self.auxiliary_levels]


class DeepLabV3Plus(LayeredNetwork):
    """Parts of segmentation-models-pytorch's network of this name (Chen et al., 2018), logits at stride 4."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, segmentation_head: nn.Module, res4_channels: int):
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = encoder, decoder, segmentation_head
        self.auxiliary_channels = [res4_channels]

    def logits_and_features(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        levels = self.encoder(x)
        return self.segmentation_head(self.decoder(levels)), [levels[_RES4]]


class PatchUNet(SmallUNet):
    """The small U-Net of four channels with a classifier, logits at half of the input's resolution."""

    def __init__(self, width: int = 16):
        super().__init__(4, width)
        self.predictor = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, s, s) to (N, 1, s / 2, s / 2) logits."""
        return self.predictor(super().forward(x))


class ObjectNetwork(RefinementNetwork):
    """The universal refiner's network on patches: each pixel takes the map of its coarse label."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 4, s, s) to (N, 1, s, s) logits."""
        return foreground_logits(super().forward(x), x[:, 3] > 0)[:, None]


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


def _on_timm(
    name: str,
    pretrained: bool,
    head: Callable[[list[int]], nn.Module],
    auxiliary_levels: Sequence[int] = (),
    **options,
) -> nn.Module:
    import timm

    backbone: Any = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    channels = backbone.feature_info.channels()
    config: Any = timm.get_pretrained_cfg(name)
    widen_first_convolution(backbone, config.first_conv)
    # The first level is the stem's, at stride 2.
    return BackboneAndHead(backbone, head(channels[1:]), 1, auxiliary_levels, [channels[k] for k in auxiliary_levels])


def _hrnet(name: str) -> Callable[[bool], nn.Module]:
    # Its own branches, strides 4 to 32, without those that the ImageNet classifier widens.
    return lambda pretrained: _on_timm(name, pretrained, FusedLevelsHead, feature_location="")


def _dilated_resnet(name: str) -> Callable[[bool], nn.Module]:
    return lambda pretrained: _on_timm(name, pretrained, FCNHead, [_RES4], output_stride=8)


def _deeplabv3plus(pretrained: bool) -> nn.Module:
    import segmentation_models_pytorch as smp

    weights = True if pretrained else None
    model = smp.DeepLabV3Plus("tu-resnet50", encoder_weights=weights, encoder_output_stride=16, classes=1)
    widen_first_convolution(model.encoder.model, "conv1")
    head = nn.Sequential(model.segmentation_head[0])  # without its upsampling: logits at stride 4, as the others'
    return DeepLabV3Plus(model.encoder, model.decoder, head, model.encoder.out_channels[_RES4])


def _mobilenet(pretrained: bool) -> nn.Module:
    return _on_timm("mobilenetv3_large_100", pretrained, lambda channels: FusedLevelsHead(channels, 64))


def _fast_scnn() -> nn.Module:
    # Its authors train it with heads at the ends of learning to downsample and of the global feature extractor.
    return BackboneAndHead(FastSCNNFeatures(4), FastSCNNHead(list(LEVELS), _DROPOUT), 0, [0, 1], LEVELS[:2])


def _object_network(name: str, pretrained: bool) -> nn.Module:
    return ObjectNetwork(ARCHITECTURES[name])


NETWORKS: dict[str, Callable[[bool], nn.Module]] = {
    "fcn_hrnet_w18s": _hrnet("hrnet_w18_small_v2"),
    "fcn_hrnet_w18": _hrnet("hrnet_w18"),
    "fcn_hrnet_w48": _hrnet("hrnet_w48"),
    "fcn_resnet18": _dilated_resnet("resnet18"),
    "fcn_resnet50": _dilated_resnet("resnet50"),
    "deeplabv3plus_resnet50": _deeplabv3plus,
    "fast_scnn": lambda pretrained: _fast_scnn(),
    "fcn_mobilenetv3": _mobilenet,
    "patch_unet": lambda pretrained: PatchUNet(),
    **{name: partial(_object_network, name) for name in ARCHITECTURES},
}
WITH_AUXILIARY_HEADS = ("fcn_resnet18", "fcn_resnet50", "deeplabv3plus_resnet50", "fast_scnn")


def build_network(name: str, pretrained: bool, norm: str = "BN") -> nn.Module:
    """A refinement network: (N, 4, s, s) float to (N, 1, s / k, s / k) logits of foreground, k = 1, 2, 4 or 8.

    Args:
        name: one of ``NETWORKS``.
        pretrained: download ImageNet's weights of the backbone (there are none for ``fast_scnn``, ``patch_unet`` and
            the universal refiner's networks).
        norm: "BN" or "SyncBN".

    Raises:
        UserError: unknown name or norm, or weights that cannot be had.
    """
    check_norm("MODEL.BPR.NORM", norm)
    return _with_norm(build_named(NETWORKS, name, pretrained, "MODEL.BPR"), norm)


def check_auxiliary(name: str, loss_weight: float) -> None:
    """A UserError unless the network ``name`` can be trained with ``loss_weight`` of auxiliary heads; 0 is without."""
    if not 0 <= loss_weight < math.inf:
        raise UserError(f"MODEL.BPR.AUX_LOSS_WEIGHT is {loss_weight}, expected 0 (no auxiliary heads) or more")
    if loss_weight and name in NETWORKS and name not in WITH_AUXILIARY_HEADS:
        raise UserError(
            f"MODEL.BPR.AUX_LOSS_WEIGHT is {loss_weight}, and MODEL.BPR.NETWORK {name} has no third stage of its own "
            f"for an auxiliary head, as {', '.join(WITH_AUXILIARY_HEADS)} have: set MODEL.BPR.AUX_LOSS_WEIGHT 0"
        )


def build_auxiliary_heads(network: nn.Module, norm: str = "BN") -> nn.ModuleList:
    """A head for each inner feature of a network of ``WITH_AUXILIARY_HEADS``; none for another network."""
    channels = network.auxiliary_channels if isinstance(network, LayeredNetwork) else ()
    heads: Any = _with_norm(nn.ModuleList([AuxiliaryHead(width) for width in channels]), norm)
    return heads


def _with_norm(module: nn.Module, norm: str) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(module) if norm == "SyncBN" else module
