"""Torch's own layers under the names and with the extras that Detectron2 models expect."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

BatchNorm2d = nn.BatchNorm2d
ConvTranspose2d = nn.ConvTranspose2d
Linear = nn.Linear
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """A convolution followed by an optional normalisation layer and an optional activation."""

    def __init__(
        self,
        *args,
        norm: nn.Module | None = None,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in (super().forward, self.norm, self.activation):
            x = x if step is None else step(x)
        return x


def cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """``torch.cat`` that hands a single tensor through without copying it."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tuple(tensors), dim)


def empty_input_loss_func_wrapper(loss_func: Callable) -> Callable:
    """A loss whose mean over an empty target is a differentiable 0 instead of NaN."""

    def loss_or_zero(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean", **kwargs) -> torch.Tensor:
        if reduction != "mean" or target.numel():
            return loss_func(input, target, reduction=reduction, **kwargs)
        return input.sum() * 0.0

    return loss_or_zero


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)
