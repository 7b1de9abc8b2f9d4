"""The universal refiner's network for other programs."""

import torch
from torch import nn

from pnm.network_backends.onnx_models import Exportable
from pnm.object_refinement.network import STRIDE
from pnm.object_refinement.prediction import PIXEL_MEAN, PIXEL_STD

_COLORS = {"mean": PIXEL_MEAN, "std": PIXEL_STD}


def exportable_network(network: nn.Module) -> Exportable:
    """The network with its description; it is put in evaluation mode, on the CPU."""
    description = {
        "refiner": "universal",
        "inputs": {
            "window": {
                "is": "an image, resized so that an object fills about 256 px, or a part of it, and the coarse mask",
                "channels": ["red", "green", "blue", "mask"],
                "normalization": {name: [round(float(v), 4) for v in values] for name, values in _COLORS.items()},
                "outside_of_the_image": 0,
                "mask": {"foreground": 1, "background": -1},
            }
        },
        "outputs": {
            "maps": "logits of foreground at stride 2, for pixels that the coarse mask has and for those it has not: "
            "resized bilinearly (no aligned corners), and each pixel's taken by its coarse mask"
        },
    }
    inputs = {"window": torch.zeros(2, 4, 2 * STRIDE, 3 * STRIDE)}
    return Exportable(network.eval().cpu(), inputs, ("maps",), STRIDE, {}, description)
