"""Normalisation layers, and the names by which configurations ask for them."""

from collections.abc import Callable

import torch
from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import nn
from torch.nn import functional as F


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and fixed affine parameters, all of them buffers.

    The ImageNet models of MSRA and FAIR have the statistics folded into weight and bias; they leave
    ``running_mean`` 0 and ``running_var`` 1 - eps, which make the statistics an identity.
    """

    _version = 3

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.num_features, self.eps = num_features, eps
        values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        for name, value in values.items():
            self.register_buffer(name, torch.full((num_features,), value))
        self.running_var -= eps
        # Filled by layers converted from BatchNorm2d, whose checkpoints carry it.
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        # batch_norm's backward would also compute the gradients of weight and bias.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * _per_channel(scale).to(x.dtype) + _per_channel(shift).to(x.dtype)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if (local_metadata.get("version") or 0) < 2:
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, eps={self.eps}"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replaces every (Sync)BatchNorm2d inside ``module``; returns it, or the replacement of a lone layer."""
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            return cls(module.num_features, module.eps)._take_values(module)
        return _convert_children(module, cls.convert_frozen_batchnorm)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """The reverse: every frozen layer becomes a trainable BatchNorm2d."""
        if isinstance(module, FrozenBatchNorm2d):
            thawed = nn.BatchNorm2d(module.num_features, module.eps)
            return cls._take_values(thawed, module)
        return _convert_children(module, cls.convert_frozenbatchnorm2d_to_batchnorm2d)

    def _take_values(self, source: nn.Module) -> nn.Module:
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(source, name)
            if value is not None:
                getattr(self, name).data = value.detach().clone()
        self.num_batches_tracked = source.num_batches_tracked
        return self


def _convert_children(module: nn.Module, convert: Callable[[nn.Module], nn.Module]) -> nn.Module:
    for name, child in list(module.named_children()):
        module.add_module(name, convert(child))
    return module


def _per_channel(vector: torch.Tensor) -> torch.Tensor:
    """(C,) shaped to broadcast over (N, C, H, W)."""
    return vector.view(1, -1, 1, 1)


class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over all processes by plain, differentiable all-reduces; runs on CPUs as well.

    Args:
        stats_mode: "" averages the processes' statistics with equal weight and needs a non-empty batch on each;
            "N" weights them by batch size and accepts empty batches.
    """

    def __init__(self, *args, stats_mode: str = "", **kwargs):
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise ValueError(f'stats_mode of NaiveSyncBatchNorm is "" or "N", got {stats_mode!r}')
        self._stats_mode = stats_mode

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or comm.get_world_size() == 1:
            return super().forward(input)
        mean, square_mean, momentum = self._global_moments(input.float())
        variance = square_mean - mean * mean
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (input.float() * _per_channel(scale) + _per_channel(shift)).to(input.dtype)

    def _global_moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Means of x and x² per channel over all processes, and the momentum (0 when every batch is empty)."""
        batch = len(x)
        if batch == 0 and self._stats_mode == "":
            raise ValueError('NaiveSyncBatchNorm met an empty batch: use the norm "naiveSyncBN_N"')
        # An empty batch contributes zeros that still hang on the graph: every process must join the all-reduce.
        moments = (
            torch.cat([x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3))])
            if batch
            else x.sum().repeat(2 * self.num_features)
        )
        share = batch if self._stats_mode == "N" else 1
        packed = torch.cat([moments * share, moments.new_full((1,), float(share))])
        packed = differentiable_all_reduce(packed)
        total = packed[-1].detach()
        mean, square_mean = (packed[:-1] / total.clamp(min=1)).split(self.num_features)
        return mean, square_mean, self.momentum * total.clamp(max=1)


class LayerNorm(nn.Module):
    """Normalises each pixel of (N, C, H, W) over its channels."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.normalized_shape, self.eps = (normalized_shape,), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps) * _per_channel(self.weight) + _per_channel(self.bias)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


def _naive_sync_by_size(channels: int) -> NaiveSyncBatchNorm:
    return NaiveSyncBatchNorm(channels, stats_mode="N")


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": _naive_sync_by_size,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": _group_norm,
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """A normalisation layer for ``out_channels`` channels, or None for None and "".

    Args:
        norm: one of BN, SyncBN, FrozenBN, GN, LN, nnSyncBN, naiveSyncBN, naiveSyncBN_N, or a function of the
            channel count.

    Raises:
        KeyError: for any other name.
    """
    if not norm:
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise KeyError(f"unknown normalisation {norm!r}: choose from {', '.join(_NORMS)}, or an empty string")
        norm = _NORMS[norm]
    return norm(out_channels)
