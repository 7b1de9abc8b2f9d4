"""The network of the universal refiner and what its two maps mean."""

import numpy as np
import pytest
import torch

from pnm.object_refinement.network import ARCHITECTURES, STRIDE, RefinementNetwork, foreground_logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_and_weights(name):
    network = RefinementNetwork(ARCHITECTURES[name]).eval()
    assert 2 * sum(p.numel() for p in network.parameters()) < 4e6  # bytes in half precision
    for size in ((STRIDE, STRIDE), (3 * STRIDE, 2 * STRIDE)):
        with torch.inference_mode():
            assert network(torch.randn(2, 4, *size)).shape == (2, 2, size[0] // 2, size[1] // 2)


def test_each_pixel_takes_the_map_of_its_coarse_label():
    maps = torch.tensor([[[[3.0]], [[-2.0]]]]).expand(1, 2, 4, 4)
    coarse = torch.from_numpy(np.random.default_rng(0).random((1, 8, 8)) < 0.5)
    logits = foreground_logits(maps, coarse)
    assert (logits == torch.where(coarse, 3.0, -2.0)).all()
    assert ((logits > 0) == coarse).all()  # maps of different signs leave any mask as it is, to the pixel


def test_what_is_far_away_does_not_matter_to_sizes_that_are_batched():
    network = RefinementNetwork(ARCHITECTURES["universal_small"]).eval()
    x = torch.randn(3, 4, 64, 64)
    with torch.inference_mode():
        together, alone = network(x), torch.cat([network(one[None]) for one in x])
    assert torch.allclose(together, alone, atol=1e-4)
