"""PRN's network as one function of tensors, for other programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pnm.network_backends.onnx_models import Exportable

from .inference import InferenceSettings
from .networks import FIRST_STRIDE, INSTANCE_CHANNELS, SIZE_DIVISIBILITY, NetworkInput, PanopticRefinementNetwork


class WholeNetwork(nn.Module):
    """All heads at once; the sizes of the images within the batch are those of the batch, or given."""

    def __init__(self, network: PanopticRefinementNetwork):
        super().__init__()
        self.network = network

    def forward(
        self, image: torch.Tensor, instances: torch.Tensor, classes: torch.Tensor, sizes: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """See :class:`.networks.NetworkInput`; sizes (N, 2) float32."""
        batch = NetworkInput(image, instances, classes, sizes)  # type: ignore[arg-type]
        features, coordinates = self.network.features(batch)
        return self.network.class_logits(features), *self.network.fields(features, coordinates)


def exportable_network(
    network: PanopticRefinementNetwork,
    normalization: Mapping[str, list[float]],
    inference: InferenceSettings,
    classes: Sequence[Mapping[str, Any]],
) -> Exportable:
    """See :meth:`..refining.RefiningModel.exportable`."""
    height, width = 2 * SIZE_DIVISIBILITY, 4 * SIZE_DIVISIBILITY
    inputs = {
        "image": torch.zeros(2, 3, height, width),
        "instances": torch.zeros(2, INSTANCE_CHANNELS, height, width),
        "classes": torch.zeros(2, network.classes, height // FIRST_STRIDE, width // FIRST_STRIDE),
        "sizes": torch.tensor([[height, width]] * 2, dtype=torch.float32),
    }
    description = {
        "refiner": "PRN",
        "inputs": {
            "image": {
                "is": "the whole image, padded with 0 at its right and bottom after normalization",
                "channels": ["color 1", "color 2", "color 3"],
                "normalization": normalization,
            },
            "instances": {
                "is": "of the map that is refined, in pixels: heat of centres (Gaussians of "
                f"{inference.sigma_px:g} px), (dy, dx) to the centre, distances to top, bottom, left, right of the "
                "box; 0 where no thing is",
            },
            "classes": {"is": f"share of each class in cells of {FIRST_STRIDE} x {FIRST_STRIDE} px; void is none"},
            "sizes": {"is": "height and width of each image before it was padded, px"},
        },
        "outputs": {
            "class_logits": f"of each class, at stride {FIRST_STRIDE}",
            "heat": "of centres",
            "offsets": "(dy, dx) to the centre, distances to top, bottom, left and right of the box, px",
            "foreground_logits": "above 0: a thing",
        },
        "classes": list(classes),
    }
    outputs = ("class_logits", "heat", "offsets", "foreground_logits")
    strides = {"classes": FIRST_STRIDE}
    return Exportable(WholeNetwork(network), inputs, outputs, SIZE_DIVISIBILITY, strides, description)
