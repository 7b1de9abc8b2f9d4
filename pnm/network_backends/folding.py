"""Copies of networks for inference alone."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def inference_copy(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode and channels-last format that is not trained any more.

    Where a convolution and its BatchNorm follow each other in an ``nn.Sequential`` they become one convolution: the
    same up to rounding. The network itself stays as it is.
    """
    folded = _folded(copy.deepcopy(network).eval())
    return folded.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _folded(module: nn.Module) -> nn.Module:
    """Folds in place, and returns the module."""
    for child in module.children():
        _folded(child)
    if isinstance(module, nn.Sequential):
        for k in range(len(module) - 1):
            convolution, norm = module[k], module[k + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, _NORMS) and norm.running_var is not None:
                module[k], module[k + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return module
