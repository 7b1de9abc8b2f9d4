"""Networks of the universal refiner: one with random weights in a file, and a function that knows the truth."""

import numpy as np
import pytest
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


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    save_random_network(path)
    return path


def oracle(seen):
    """Maps of what is white in the image, whatever the coarse mask says."""
    truth = seen.colors[::2, ::2, 0].astype(np.float32) / 255 + seen.colors[1::2, 1::2, 0].astype(np.float32) / 255
    return np.stack([truth * 10 - 10] * 2)


def oracle_of_side(seen):
    """As :func:`oracle`, of what is black where most of the coarse mask is."""
    is_white = seen.colors[..., 0][seen.coarse & seen.inside].mean() > 127
    return oracle(seen) if is_white else -oracle(seen)


def painted(mask):
    """(H, W, 3) uint8, white where the mask is."""
    return np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
