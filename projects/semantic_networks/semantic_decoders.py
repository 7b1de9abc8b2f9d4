"""Decoders of semantic networks: those of segmentation-models-pytorch, FCN's, and FCN's with attention.

Every decoder takes a list of six feature maps, of which it reads the last four (res2 to res5), and returns one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pnm.errors import UserError

from .attention import CrissCrossBlock, NonLocalBlock
from .blocks import FusedLevels, conv_norm_relu
from .encoder_backbone import NODE, STAGES
from .object_context import RegionFeatures


@dataclass(frozen=True)
class Decoder:
    """One architecture's decoder.

    Attributes:
        build: makes it from (channels of res2 to res5, width, output stride).
        output_strides: those of the encoder that it takes.
    """

    build: Callable[[list[int], int, int], nn.Module]
    output_strides: tuple[int, ...]


def _padded(channels: list[int]) -> list[int]:
    """Channels as the library counts them: image and stem, of which no decoder here reads anything, come first."""
    return [3, 0, *channels]


def _rates(output_stride: int) -> tuple[int, int, int]:
    """Dilations of ASPP; they see the same part of the image at stride 8 and 16."""
    return (12, 24, 36) if output_stride == 8 else (6, 12, 18)


class DilatedFCN(nn.Module):
    """FCN on a dilated encoder: 3x3 convolutions over the last of the features."""

    def __init__(self, channels: int, width: int, convs: int = 2):
        super().__init__()
        layers = [conv_norm_relu(channels if index == 0 else width, width, 3) for index in range(convs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """(N, width, H, W) of the last feature map's size."""
        return self.layers(features[-1])


class AttentionFCN(nn.Module):
    """CCNet's and NLNet's head without its classifier: attention between two convolutions over the last of the
    features, and a third over what went in and what came out (Huang et al., 2019, Fig. 2)."""

    def __init__(self, channels: int, width: int, attention: nn.Module):
        super().__init__()
        self.before, self.attention = conv_norm_relu(channels, width, 3), attention
        self.after, self.fuse = conv_norm_relu(width, width, 3), conv_norm_relu(channels + width, width, 3)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """(N, width, H, W) of the last feature map's size."""
        last = features[-1]
        return self.fuse(torch.cat([last, self.after(self.attention(self.before(last)))], 1))


class MultiResolutionFCN(FusedLevels):
    """FCN on HRNet: :class:`.blocks.FusedLevels` of the four stages."""

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """(N, sum of the stages' channels, H / 4, W / 4)."""
        return super().forward(features[-len(STAGES) :])


def _pspnet(channels: list[int], width: int, output_stride: int) -> nn.Module:
    from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder

    return PSPDecoder(_padded(channels), out_channels=width, dropout=0.0)


def _nlnet(channels: list[int], width: int, output_stride: int) -> nn.Module:
    return AttentionFCN(channels[-1], width, NonLocalBlock(width))


def _ccnet(channels: list[int], width: int, output_stride: int) -> nn.Module:
    return AttentionFCN(channels[-1], width, CrissCrossBlock(width))


def _ocrnet(channels: list[int], width: int, output_stride: int) -> nn.Module:
    return RegionFeatures(channels, width)


def _deeplabv3(channels: list[int], width: int, output_stride: int) -> nn.Module:
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder

    return DeepLabV3Decoder(channels[-1], width, _rates(output_stride), aspp_separable=False, aspp_dropout=0.0)


def _deeplabv3plus(channels: list[int], width: int, output_stride: int) -> nn.Module:
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

    rates = _rates(output_stride)
    return DeepLabV3PlusDecoder(
        _padded(channels), 5, width, rates, output_stride=output_stride, aspp_separable=True, aspp_dropout=0.0
    )


def _upernet(channels: list[int], width: int, output_stride: int) -> nn.Module:
    from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

    return UPerNetDecoder(_padded(channels), encoder_depth=5, decoder_channels=width)


def _segformer(channels: list[int], width: int, output_stride: int) -> nn.Module:
    from .segformer_decoder import SegFormerDecoder

    return SegFormerDecoder(_padded(channels), encoder_depth=5, segmentation_channels=width)


DECODERS = {
    "fcn": Decoder(lambda channels, width, _: DilatedFCN(channels[-1], width), (8, 16, 32)),
    "nlnet": Decoder(_nlnet, (8, 16, 32)),
    "ccnet": Decoder(_ccnet, (8, 16, 32)),
    "ocrnet": Decoder(_ocrnet, (8, 16, 32)),
    "pspnet": Decoder(_pspnet, (8, 16, 32)),
    "deeplabv3": Decoder(_deeplabv3, (8, 16, 32)),
    "deeplabv3plus": Decoder(_deeplabv3plus, (8, 16)),
    "upernet": Decoder(_upernet, (32,)),
    "segformer": Decoder(_segformer, (32,)),
}


def find_decoder(arch: str, output_stride: int) -> Decoder:
    """The architecture's decoder.

    Raises:
        UserError: no such architecture, or an output stride that it does not take.
    """
    if arch not in DECODERS:
        raise UserError(f"{NODE}.ARCH is {arch!r}, expected one of {', '.join(DECODERS)}")
    if output_stride not in DECODERS[arch].output_strides:
        expected = " or ".join(map(str, DECODERS[arch].output_strides))
        raise UserError(f"{NODE}.OUTPUT_STRIDE is {output_stride}, {arch} takes {expected}")
    return DECODERS[arch]
