"""The network of PRN (sections 3.2 to 3.4): an image and a panoptic map to the fields of another one."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..semantic_networks.blocks import conv_norm_relu, resize_like
from .coord_conv import CoordConv2d, Coordinates
from .encoder import FIRST_STRIDE, STRIDES, CoordResNet

SIZE_DIVISIBILITY = 32  # of the input, px
INSTANCE_CHANNELS = 7  # heat, offsets, boxes
HEAD_CONVS = ("light", "separable", "full")
_HALO = 2  # rows around a row that a 5 x 5 convolution sees


class Fields(NamedTuple):
    """What the full-size heads predict, offsets and boxes in px of the input.

    Attributes:
        heat: (N, h, w), of centres.
        offsets: (N, 6, h, w): (dy, dx) to the centre, then distances to top, bottom, left and right of the box.
        foreground_logits: (N, h, w).
    """

    heat: torch.Tensor
    offsets: torch.Tensor
    foreground_logits: torch.Tensor


class NetworkInput(NamedTuple):
    """A batch, all sides multiples of 32.

    Attributes:
        images: (N, 3, h, w), normalised.
        instances: (N, 7, h, w) heat, offsets and boxes of the map that is refined, px.
        classes: (N, K, h / 4, w / 4), the share of each class in each cell of 4 x 4 px.
        sizes: (height, width) of each image in the batch.
    """

    images: torch.Tensor
    instances: torch.Tensor
    classes: torch.Tensor
    sizes: Sequence[tuple[int, int]]


def _strided(channels: int, width: int) -> nn.Sequential:
    """Two 5 x 5 convolutions of stride 2."""
    layers: list[nn.Module] = []
    for inputs in (channels, width):
        conv = nn.Conv2d(inputs, width, 5, 2, 2, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _predictor(channels: int, outputs: int) -> nn.Conv2d:
    """A 1 x 1 convolution that begins near 0."""
    predictor = nn.Conv2d(channels, outputs, 1)
    nn.init.normal_(predictor.weight, std=0.05)
    torch.nn.init.constant_(predictor.bias, 0.0)  # type: ignore[arg-type]
    return predictor


class CoordConvNormReLU(nn.Module):
    """size x size convolution that keeps the resolution and may see coordinates, BatchNorm, ReLU."""

    def __init__(self, channels: int, width: int, size: int, with_coords: bool):
        super().__init__()
        self.conv = CoordConv2d(channels, width, size, with_coords=with_coords, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv(x, coords)), inplace=True)


class Decoder(nn.Module):
    """One decoder for all tasks: from stride 32 up to 4, with a projected skip at each."""

    def __init__(self, channels: Sequence[int], width: int, skip_width: int, with_coords: bool):
        super().__init__()
        *skips, top = channels
        self.top = CoordConvNormReLU(top, width, 3, with_coords)
        self.skips = nn.ModuleList([conv_norm_relu(inputs, skip_width, 1) for inputs in skips])
        self.fuse = nn.ModuleList([CoordConvNormReLU(width + skip_width, width, 3, with_coords) for _ in skips])

    def forward(self, levels: Sequence[torch.Tensor], coordinates: Coordinates) -> torch.Tensor:
        """Features of strides 4 to 32 to (N, width, h / 4, w / 4)."""
        y = self.top(levels[-1], coordinates.at(levels[-1], STRIDES[-1]))
        for number in range(len(self.skips) - 1, -1, -1):
            skip = self.skips[number](levels[number])
            both = torch.cat([resize_like(y, skip), skip], 1)
            y = self.fuse[number](both, coordinates.at(both, STRIDES[number]))
        return y


def _depthwise(channels: int) -> nn.Sequential:
    """5 x 5 convolution of each channel alone."""
    conv = nn.Conv2d(channels, channels, 2 * _HALO + 1, padding=_HALO, groups=channels, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class FullSizeHead(nn.Module):
    """A 5 x 5 convolution and a 1 x 1 one at the input's resolution, in one of three makes:

    - "light": channels are mixed, and made few, before the features are enlarged; then 5 x 5, each channel alone;
    - "separable": 5 x 5, each channel alone, and then mixed (Panoptic-DeepLab's);
    - "full": 5 x 5 of all channels (the paper's letter).
    """

    def __init__(self, channels: int, width: int, outputs: int, conv: str, with_coords: bool):
        super().__init__()
        self.before = CoordConvNormReLU(channels, width, 1, with_coords) if conv == "light" else None
        self.spatial = {"light": _depthwise(width), "separable": _depthwise(channels)}.get(conv)
        size = {"separable": 1, "full": 2 * _HALO + 1}.get(conv)
        self.mix = CoordConvNormReLU(channels, width, size, with_coords) if size else None
        self.predictor = _predictor(width, outputs)

    def narrowed(self, features: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
        """What is enlarged, at a quarter of the resolution."""
        return features if self.before is None else self.before(features, coords)

    def forward(self, x: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
        """Of what was enlarged, (N, C, h, w)."""
        x = x if self.spatial is None else self.spatial(x)
        return self.predictor(x if self.mix is None else self.mix(x, coords))


class PanopticRefinementNetwork(nn.Module):
    """See Fig. 2 of the paper; what of it is asked for is called one by one."""

    def __init__(
        self,
        encoder: str,
        classes: int,
        *,
        encoder_width: int = 64,
        input_width: int = 64,
        decoder_width: int = 128,
        head_width: int = 32,
        head_conv: str = "light",
        coord_encoder: bool = True,
        coord_decoder: bool = True,
        unit_px: float = 64.0,
    ):
        """
        Args:
            encoder: one of ``encoder.ENCODERS``.
            classes: K, things and stuff.
            input_width: N_en, channels of each input branch.
            decoder_width: C_de.
            head_width: channels of the full-size heads.
            head_conv: one of ``HEAD_CONVS``, see :class:`FullSizeHead`.
            coord_encoder, coord_decoder: whether their layers see coordinates; the heads' do as the decoder's.
            unit_px: of offsets and boxes inside of the network: the same for all images, so that copying the input to
                the output is the same map for all.
        """
        super().__init__()
        self.classes, self.unit_px, self.coord_encoder = classes, unit_px, coord_encoder
        self.image_branch = _strided(3, input_width)
        self.instance_branch = _strided(INSTANCE_CHANNELS, input_width)
        self.class_branch = conv_norm_relu(classes, input_width, 5)
        inputs = 3 * input_width + (2 if coord_encoder else 0)
        self.encoder = CoordResNet(encoder, inputs, with_coords=coord_encoder, width=encoder_width)
        skip_width = max(decoder_width // 2, 32)
        self.decoder = Decoder(self.encoder.out_channels, decoder_width, skip_width, coord_decoder)
        self.heat_head = FullSizeHead(decoder_width, head_width, 1, head_conv, coord_decoder)
        self.offset_head = FullSizeHead(decoder_width, head_width, 6, head_conv, coord_decoder)
        self.foreground_head = FullSizeHead(decoder_width, head_width, 1, head_conv, coord_decoder)
        self.class_head = nn.Sequential(
            conv_norm_relu(decoder_width, decoder_width, 3), _predictor(decoder_width, classes)
        )

    def features(self, batch: NetworkInput) -> tuple[torch.Tensor, Coordinates]:
        """The decoder's output Y, (N, C_de, h / 4, w / 4), and the coordinates that the heads see."""
        coordinates = Coordinates(batch.sizes, batch.images.device)
        scale = batch.instances.new_tensor([1.0] + [1 / self.unit_px] * (INSTANCE_CHANNELS - 1)).view(1, -1, 1, 1)
        parts = [
            self.image_branch(batch.images),
            self.instance_branch(batch.instances * scale),
            self.class_branch(batch.classes),
        ]
        if self.coord_encoder:
            parts.append(coordinates.at(parts[0], FIRST_STRIDE))
        return self.decoder(self.encoder(torch.cat(parts, 1), coordinates), coordinates), coordinates

    def class_logits(self, features: torch.Tensor) -> torch.Tensor:
        """(N, K, h / 4, w / 4)."""
        return self.class_head(features)

    def fields(self, features: torch.Tensor, coordinates: Coordinates, rows: int = 0) -> Fields:
        """The full-size heads.

        Args:
            rows: of the output that are computed at once, which bounds the memory; 0 for all. The result is the same
                (BatchNorm in evaluation mode).
        """
        height = features.shape[-2] * FIRST_STRIDE
        coords = coordinates.at(features, FIRST_STRIDE)
        heads = (self.heat_head, self.offset_head, self.foreground_head)
        pairs = [(head, head.narrowed(features, coords)) for head in heads]
        # In one piece there is no loop: an exported network's height is no number.
        ends = [(top, min(top + rows, height)) for top in range(0, height, rows)] if rows else [(0, height)]
        strips = [[_head_rows(head, narrow, coordinates, *end) for head, narrow in pairs] for end in ends]
        heat, offsets, foreground = (torch.cat(parts, -2) for parts in zip(*strips, strict=True))
        return Fields(heat[:, 0], offsets * self.unit_px, foreground[:, 0])


def _head_rows(
    head: FullSizeHead, narrow: torch.Tensor, coordinates: Coordinates, top: int, bottom: int
) -> torch.Tensor:
    """Rows ``top`` to ``bottom`` of a head's output, float32, computed with the rows around that they depend on."""
    height = narrow.shape[-2] * FIRST_STRIDE
    first, last = max(0, top - _HALO), min(height, bottom + _HALO)
    x = upsampled_rows(narrow, first, last)
    return head(x, coordinates.at(x, 1, first))[..., top - first : bottom - first, :].float()


def upsampled_rows(x: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Rows ``first`` to ``last`` of ``x`` enlarged four times, bilinearly, as enlarging all of it gives them."""
    top, bottom = max(0, first // FIRST_STRIDE - 1), min(x.shape[-2], -(-last // FIRST_STRIDE) + 1)
    part = F.interpolate(x[..., top:bottom, :], scale_factor=FIRST_STRIDE, mode="bilinear", align_corners=False)
    return part[..., first - top * FIRST_STRIDE : last - top * FIRST_STRIDE, :]


def resized_strips(
    logits: torch.Tensor, scale: tuple[float, float], size: tuple[int, int], rows: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Logits (K, h, w) enlarged bilinearly, strip by strip: (first row, (K, rows, width)).

    Args:
        scale: rows and columns of ``logits`` for each row and column of the result, pixel centres on pixel centres.
        size: (height, width) of the result.
        rows: of a strip.
    """
    height, width = size
    xs = (torch.arange(width, device=logits.device) + 0.5) * scale[1]
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        ys = (torch.arange(top, bottom, device=logits.device) + 0.5) * scale[0]
        # grid_sample's own coordinates: -1 and 1 are the outer edges of the first and last pixel.
        grid = torch.stack(
            [
                (2 * xs / logits.shape[2] - 1).expand(bottom - top, width),
                (2 * ys / logits.shape[1] - 1)[:, None].expand(bottom - top, width),
            ],
            -1,
        )
        strip = F.grid_sample(
            logits[None], grid[None].to(logits.dtype), mode="bilinear", padding_mode="border", align_corners=False
        )
        yield top, strip[0]
