"""ResNet's stages (He et al., CVPR 2016) with CoordConv in every block; what comes before them is PRN's own."""

from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

from pnm.errors import UserError

from ..semantic_networks.blocks import pretrained_weights_error
from .coord_conv import CoordConv2d, Coordinates

FIRST_STRIDE = 4  # of the input
STRIDES = (4, 8, 16, 32)  # of the stages


def _with_coords(conv: nn.Conv2d, with_coords: bool) -> CoordConv2d:
    options: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "bias": False}
    return CoordConv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0], with_coords=with_coords, **options)


class CoordBottleneck(Bottleneck):
    """torchvision's, whose first convolution sees coordinates; names of parameters are torchvision's."""

    def __init__(self, channels: int, width: int, stride: int, downsample: nn.Module | None, with_coords: bool):
        super().__init__(channels, width, stride, downsample)
        self.conv1: CoordConv2d = _with_coords(self.conv1, with_coords)  # type: ignore[has-type]

    def forward(self, x: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        y = self.relu(self.bn1(self.conv1(x, coords)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class CoordBasicBlock(BasicBlock):
    """torchvision's, whose first convolution sees coordinates; names of parameters are torchvision's."""

    def __init__(self, channels: int, width: int, stride: int, downsample: nn.Module | None, with_coords: bool):
        super().__init__(channels, width, stride, downsample)
        self.conv1: CoordConv2d = _with_coords(self.conv1, with_coords)  # type: ignore[has-type]

    def forward(self, x: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        y = self.relu(self.bn1(self.conv1(x, coords)))
        return self.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


_DEPTHS: dict[str, tuple[Any, tuple[int, ...]]] = {  # block, blocks of each stage
    "resnet10": (CoordBasicBlock, (1, 1, 1, 1)),
    "resnet18": (CoordBasicBlock, (2, 2, 2, 2)),
    "resnet34": (CoordBasicBlock, (3, 4, 6, 3)),
    "resnet50": (CoordBottleneck, (3, 4, 6, 3)),
    "resnet101": (CoordBottleneck, (3, 4, 23, 3)),
}
ENCODERS = tuple(_DEPTHS)


class CoordResNet(nn.Module):
    """Stages ``layer1`` to ``layer4``; features of strides 4 to 32."""

    def __init__(self, name: str, channels: int, *, with_coords: bool, width: int = 64):
        """
        Args:
            name: one of ``ENCODERS``.
            channels: of the input, which is at stride 4 already.
            width: of the first stage; ResNet's is 64.
        """
        super().__init__()
        block, depths = _DEPTHS[name]
        self.out_channels = []
        for number, depth in enumerate(depths):
            stage_width, blocks = width << number, []
            for k in range(depth):
                stride = 2 if number and k == 0 else 1
                outputs = stage_width * block.expansion
                changes = stride != 1 or channels != outputs
                shortcut = (
                    nn.Sequential(conv1x1(channels, outputs, stride), nn.BatchNorm2d(outputs)) if changes else None
                )
                blocks.append(block(channels, stage_width, stride, shortcut, with_coords))
                channels = outputs
            self.add_module(f"layer{number + 1}", nn.ModuleList(blocks))
            self.out_channels.append(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor, coordinates: Coordinates) -> list[torch.Tensor]:
        """(N, channels, h, w) at stride 4 to features of strides 4, 8, 16 and 32."""
        levels, stride = [], FIRST_STRIDE
        for number in range(len(STRIDES)):
            for block in getattr(self, f"layer{number + 1}"):
                x = block(x, coordinates.at(x, stride))
                stride = STRIDES[number]
            levels.append(x)
        return levels


def load_imagenet(encoder: CoordResNet, name: str) -> None:
    """Loads ImageNet's weights, downloaded, into all that they fit: everything but what the first block's input meets.

    Raises:
        UserError: there are none of that name, or they cannot be had.
    """
    import timm

    try:
        weights = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub's transport raises
        what = f"ImageNet weights of MODEL.PRN.ENCODER {name}"
        raise pretrained_weights_error(what, error, "MODEL.PRN.PRETRAINED False") from error
    own = encoder.state_dict()
    fitting = {key: value for key, value in weights.items() if key in own and value.shape == own[key].shape}
    if len(fitting) < len(own) // 2:
        raise UserError(
            f"ImageNet's weights of {name} fit {len(fitting)} of {len(own)} parameters only: set "
            "MODEL.PRN.PRETRAINED False, or MODEL.PRN.ENCODER_WIDTH 64"
        )
    encoder.load_state_dict(fitting, strict=False)
