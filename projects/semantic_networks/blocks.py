"""Blocks of which networks of several rooms are built, and the words for a backbone that can't be had."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pnm.errors import UserError

NORMS = ("BN", "SyncBN")


def conv_norm_relu(channels: int, width: int, size: int) -> nn.Sequential:
    """size x size convolution that keeps the resolution, BatchNorm, ReLU."""
    conv = nn.Conv2d(channels, width, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def resize_like(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Bilinear, to the height and width of ``other``."""
    return F.interpolate(x, other.shape[-2:], mode="bilinear", align_corners=False)


def convolved_levels(convolution: nn.Conv2d, levels: list[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """A 1 x 1 convolution of levels that are resized and concatenated, in less time than these take.

    Each level is convolved with its part of the weights and resized then, which is the same up to rounding, as both are
    linear.

    Args:
        convolution: over the channels of all levels, in their order.
        levels: (N, C, h, w) each.
        size: height and width of the result.
    """
    total = None
    for level, weight in zip(levels, convolution.weight.split([level.shape[1] for level in levels], 1), strict=True):
        part = F.conv2d(level, weight)
        if part.shape[-2:] != tuple(size):
            part = F.interpolate(part, tuple(size), mode="bilinear", align_corners=False)
        total = part if total is None else total + part
    assert total is not None
    return total if convolution.bias is None else total + convolution.bias[:, None, None]


class FusedLevels(nn.Module):
    """HRNetV2's head (Wang et al., "Deep High-Resolution Representation Learning", 2020) without its classifier: all
    levels at the finest one's resolution, concatenated, and a 1 x 1 convolution."""

    def __init__(self, channels: list[int], width: int = 0):
        """
        Args:
            channels: of each level, finest first.
            width: of the output; 0 for as many channels as all levels have together.
        """
        super().__init__()
        self.out_channels = width or sum(channels)
        self.fuse = conv_norm_relu(sum(channels), self.out_channels, 1)

    @staticmethod
    def concatenated(levels: list[torch.Tensor]) -> torch.Tensor:
        """(N, sum of the channels, H, W) of the finest level's size."""
        finest = levels[0]
        return torch.cat([finest, *(resize_like(x, finest) for x in levels[1:])], 1)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """(N, width, H, W) of the finest level's size."""
        if not self.training:  # when convolution and normalization can be one step
            return self.fuse(self.concatenated(levels))
        convolution, *others = self.fuse
        assert isinstance(convolution, nn.Conv2d)
        x = convolved_levels(convolution, levels, levels[0].shape[-2:])
        for layer in others:
            x = layer(x)
        return x


def check_norm(key: str, norm: str) -> None:
    """A UserError unless ``norm``, the value of the config key ``key``, is one of ``NORMS``."""
    if norm not in NORMS:
        raise UserError(f"{key} is {norm!r}, expected {' or '.join(NORMS)}")


def pretrained_weights_error(weights: str, error: Exception, from_scratch: str) -> UserError:
    """The error of a backbone whose pretrained weights cannot be had.

    Args:
        weights: what they are and of which config key.
        from_scratch: the config key and the value that do without.
    """
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(
        f"the {weights} cannot be had ({cause}); they are downloaded from the Hugging Face hub: run "
        "once with a network, or set HF_HOME to a folder that has them, or train from scratch with "
        f"{from_scratch}"
    )


def build_named(builders: Mapping[str, Callable[[bool], nn.Module]], name: str, pretrained: bool, node: str) -> Any:
    """A network, or part of one, by its name.

    Args:
        builders: what makes each, given whether ImageNet's weights are to be downloaded.
        node: that has the keys NETWORK and PRETRAINED, for messages.

    Raises:
        UserError: unknown name, a package that is missing, or weights that cannot be had.
    """
    if name not in builders:
        raise UserError(f"{node}.NETWORK is {name!r}, expected one of {', '.join(builders)}")
    try:
        return builders[name](pretrained)
    except ImportError as error:
        raise UserError(f"{node}.NETWORK {name} needs a package ({error}): pip install -r requirements.txt") from error
    except Exception as error:  # whatever the hub's transport raises
        if not pretrained:
            raise
        weights = f"ImageNet weights of {node}.NETWORK {name}"
        raise pretrained_weights_error(weights, error, f"{node}.PRETRAINED False") from error
