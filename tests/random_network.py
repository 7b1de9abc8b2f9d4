"""The universal refiner's network with random weights, which changes masks without being trained."""

import torch

from pnm.object_refinement.network import ARCHITECTURES, RefinementNetwork


def save_random_network(path):
    """Weights in half precision, as they are shipped."""
    torch.manual_seed(0)
    network = RefinementNetwork(ARCHITECTURES["universal_small"])
    network.head.weight.data *= 30  # so that it is sure of something
    network.head.bias.data.zero_()
    model = {
        f"network.{name}": value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    torch.save({"model": model, "architecture": "universal_small"}, path)
    return network.eval()
