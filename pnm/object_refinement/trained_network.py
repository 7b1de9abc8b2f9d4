"""The network of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pnm.formats.safe_checkpoint import CheckpointError, check_weights, load_torch
from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork

PREFIX = "network."  # of the weights' names in a checkpoint


def load_network(path: Path) -> RefinementNetwork:
    """The network that a checkpoint holds, in evaluation mode, float32, on the CPU.

    The checkpoint is ``{"model": {"network.<name>": tensor}, "architecture": name}``, in whatever floating-point type.

    Raises:
        CheckpointError: unreadable, unsafe, or of another network.
    """
    content = load_torch(path)
    name = content.get("architecture") if isinstance(content, Mapping) else None
    if not isinstance(name, str) or name not in ARCHITECTURES or "model" not in content:
        raise CheckpointError(
            f"{path} is no checkpoint of the universal refiner ({', '.join(ARCHITECTURES)}); weights of other refiners "
            "need their config: --config-file"
        )
    network = RefinementNetwork(ARCHITECTURES[name])
    network.load_state_dict(_weights(content["model"], path, network.state_dict()))
    return network.eval()


def _weights(model: Any, path: Path, own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's weights by its own names; a CheckpointError if they don't fit."""
    check_weights(model, path, {f"{PREFIX}{name}": value for name, value in own.items()})
    weights = {name.removeprefix(PREFIX): torch.as_tensor(value) for name, value in model.items()}
    unlike = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if unlike or len(weights) != len(own):
        wrong = (unlike or sorted(weights.keys() - own.keys()))[:3]
        raise CheckpointError(f"{path} doesn't fit its network, as {wrong} show: it is damaged, or of another version")
    return {name: value.to(own[name].dtype) for name, value in weights.items()}
