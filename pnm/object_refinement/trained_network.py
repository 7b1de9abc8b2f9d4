"""The network of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pnm.formats.safe_checkpoint import CheckpointError, check_weights, load_torch
from pnm.object_refinement.belief import Belief
from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork

PREFIX = "network."  # of the weights' names in a checkpoint


def load_network(path: Path) -> tuple[RefinementNetwork, Belief | None]:
    """The network that a checkpoint holds, in evaluation mode, float32, on the CPU, and its belief, if it has one.

    The checkpoint is ``{"model": {"network.<name>": tensor}, "architecture": name, "belief": {name: tensor}}``, in
    whatever floating-point type.

    Raises:
        CheckpointError: unreadable, unsafe, or of another network.
    """
    content = load_torch(path)
    name = content.get("architecture") if isinstance(content, Mapping) else None
    if name is None and _is_of_training(content):
        raise CheckpointError(
            f"{path} is what training wrote, which says neither its architecture nor when its refinements are to be "
            "believed: make it ready for use with tools/pack_refiner.py"
        )
    if not isinstance(name, str) or name not in ARCHITECTURES or "model" not in content:
        raise CheckpointError(
            f"{path} is no checkpoint of the universal refiner ({', '.join(ARCHITECTURES)}); weights of other refiners "
            "need their config: --config-file"
        )
    network = RefinementNetwork(ARCHITECTURES[name])
    network.load_state_dict(network_weights(content["model"], path, network.state_dict()))
    return network.eval(), _belief(content.get("belief"), path)


def _is_of_training(content: Any) -> bool:
    """Whether a checkpoint has weights of a network of this kind, and nothing else that is needed."""
    model = content.get("model", content) if isinstance(content, Mapping) else None
    own = RefinementNetwork(next(iter(ARCHITECTURES.values()))).state_dict()
    return isinstance(model, Mapping) and all(f"{PREFIX}{name}" in model for name in own)


def checkpoint(network: RefinementNetwork, belief: Belief | None) -> dict[str, Any]:
    """What :func:`load_network` reads, in half precision."""
    model = {
        f"{PREFIX}{name}": value.detach().half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    name = next(name for name, one in ARCHITECTURES.items() if one == network.architecture)
    content: dict[str, Any] = {"model": model, "architecture": name}
    if belief is not None:
        content["belief"] = {name: torch.from_numpy(value) for name, value in belief.weights.items()}
    return content


def _belief(weights: Any, path: Path) -> Belief | None:
    if weights is None:
        return None
    check_weights(weights, path)
    try:
        return Belief({name: torch.as_tensor(value).float().numpy() for name, value in weights.items()})
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}: it is damaged, or of another version") from None


def network_weights(
    model: Any,
    path: Path,
    own: Mapping[str, torch.Tensor],
    *,
    network: str = "its network",
    remedy: str = "it is damaged, or of another version",
) -> dict[str, torch.Tensor]:
    """A network's weights by its own names and in its own types, of a checkpoint's weights.

    Args:
        model: names begin with ``PREFIX``.
        path: of the checkpoint, for messages.
        own: state dict of the network.
        network, remedy: words for messages.

    Raises:
        CheckpointError: they are no weights, or don't fit.
    """
    check_weights(model, path, {f"{PREFIX}{name}": value for name, value in own.items()})
    weights = {name.removeprefix(PREFIX): torch.as_tensor(value) for name, value in model.items()}
    unlike = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if unlike or len(weights) != len(own):
        wrong = (unlike or sorted(weights.keys() - own.keys()))[:3]
        raise CheckpointError(f"{path} doesn't fit {network}, as {wrong} show: {remedy}")
    return {name: value.to(own[name].dtype) for name, value in weights.items()}
