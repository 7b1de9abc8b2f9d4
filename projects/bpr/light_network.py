"""The light network of a cascade, with its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from pnm.errors import UserError
from pnm.formats.safe_checkpoint import load_torch
from pnm.object_refinement.network import ARCHITECTURES
from pnm.object_refinement.prediction import PIXEL_MEAN, PIXEL_STD
from pnm.object_refinement.trained_network import network_weights

from ..refining.named_weights import local_weights
from .config import LightSettings
from .networks import NETWORKS, build_network

_TRAINING_ONLY = "aux_heads."  # weights that a trained BoundaryPatchRefiner has besides its network's


class Colours(NamedTuple):
    """How images reach a network: mean and deviation of its channels, and their order, "RGB" or "BGR"."""

    mean: Sequence[float]
    std: Sequence[float]
    order: str


def load_light_network(settings: LightSettings, colours: Colours) -> nn.Module:
    """The network that ``MODEL.BPR.LIGHT_NETWORK`` names, in evaluation mode, float32, on the CPU.

    No random numbers are drawn from torch's generator: training goes on as without it.

    Args:
        colours: as the heavy network sees them.

    Raises:
        UserError: unknown name; weights that say which colours they take, which are others.
        CheckpointError: weights that cannot be had, or are of another network.
    """
    if settings.network not in NETWORKS:
        names = ", ".join(NETWORKS)
        raise UserError(f"MODEL.BPR.LIGHT_NETWORK is {settings.network!r}, expected one of {names}")
    path = Path(local_weights(settings.weights, "MODEL.BPR.LIGHT_WEIGHTS"))
    content = load_torch(path)
    if isinstance(content, dict) and content.get("architecture") in ARCHITECTURES:
        _check_colours(colours, settings.weights)
    with torch.random.fork_rng(devices=[]):
        network = build_network(settings.network, pretrained=False)
    network.load_state_dict(
        network_weights(
            _of_network(content),
            path,
            network.state_dict(),
            network=f"MODEL.BPR.LIGHT_NETWORK {settings.network}",
            remedy="name the MODEL.BPR.NETWORK that these MODEL.BPR.LIGHT_WEIGHTS were trained with",
        )
    )
    return network.eval().requires_grad_(False)


def _check_colours(colours: Colours, weights: str) -> None:
    """A UserError if a universal refiner's network would see images otherwise than it has learned them."""
    is_same = np.allclose(colours.mean, PIXEL_MEAN) and np.allclose(colours.std, PIXEL_STD)
    if not (is_same and colours.order == "RGB"):
        raise UserError(
            f"MODEL.BPR.LIGHT_WEIGHTS {weights} take RGB of mean {PIXEL_MEAN.tolist()} and deviation "
            f"{PIXEL_STD.tolist()}, and this BPR takes {colours.order} of {[*colours.mean]} and {[*colours.std]} "
            "(INPUT.FORMAT, MODEL.PIXEL_MEAN, MODEL.PIXEL_STD): name a light network trained with the same"
        )


def _of_network(content: Any) -> Any:
    """A checkpoint's weights without those of auxiliary heads; whatever else it is stays for the check."""
    model = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(model, dict):
        return model
    return {name: value for name, value in model.items() if not str(name).startswith(_TRAINING_ONLY)}
