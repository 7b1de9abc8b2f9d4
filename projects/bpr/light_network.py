"""The light network of a cascade, with its weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pnm.errors import UserError
from pnm.formats.safe_checkpoint import load_torch
from pnm.object_refinement.trained_network import network_weights

from ..refining.named_weights import local_weights
from .config import LightSettings
from .networks import NETWORKS, build_network

_TRAINING_ONLY = "aux_heads."  # weights that a trained BoundaryPatchRefiner has besides its network's


def load_light_network(settings: LightSettings) -> nn.Module:
    """The network that ``MODEL.BPR.LIGHT_NETWORK`` names, in evaluation mode, float32, on the CPU.

    No random numbers are drawn from torch's generator: training goes on as without it.

    Raises:
        UserError: unknown name.
        CheckpointError: weights that cannot be had, or are of another network.
    """
    if settings.network not in NETWORKS:
        names = ", ".join(NETWORKS)
        raise UserError(f"MODEL.BPR.LIGHT_NETWORK is {settings.network!r}, expected one of {names}")
    path = Path(local_weights(settings.weights, "MODEL.BPR.LIGHT_WEIGHTS"))
    with torch.random.fork_rng(devices=[]):
        network = build_network(settings.network, pretrained=False)
    network.load_state_dict(
        network_weights(
            _of_network(load_torch(path)),
            path,
            network.state_dict(),
            network=f"MODEL.BPR.LIGHT_NETWORK {settings.network}",
            remedy="name the MODEL.BPR.NETWORK that these MODEL.BPR.LIGHT_WEIGHTS were trained with",
        )
    )
    return network.eval().requires_grad_(False)


def _of_network(content: Any) -> Any:
    """A checkpoint's weights without those of auxiliary heads; whatever else it is stays for the check."""
    model = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(model, dict):
        return model
    return {name: value for name, value in model.items() if not str(name).startswith(_TRAINING_ONLY)}
