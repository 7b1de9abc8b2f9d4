"""The network as it runs on this machine against the network as it is trained."""

import cv2
import numpy as np
import pytest
import torch

from pnm.object_refinement.network import foreground_logits
from pnm.object_refinement.prediction import network_input, network_prediction
from pnm.object_refinement.trained_network import load_network
from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS, weights_file
from pnm.object_refinement.windows import Seen


@pytest.fixture(scope="module")
def trained():
    return load_network(weights_file(DEFAULT_WEIGHTS))[0]


def blob_in_noise(seed, size=(160, 224)):
    """A blob on noise of another colour, in a mask that lies three pixels beside it."""
    rng = np.random.default_rng(seed)
    blob = cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), 18) > 0.005
    noise = cv2.GaussianBlur(rng.normal(0, 60, (*size, 3)).astype(np.float32), (0, 0), 1.5)
    colors = np.where(blob[..., None], (150, 120, 90), (90, 120, 140)) + noise
    inside = np.ones(size, np.bool_)
    inside[:, -9:] = False
    return Seen(colors.clip(0, 255).astype(np.uint8), np.roll(blob, 3, axis=1), inside)


def test_what_the_network_gets():
    seen = blob_in_noise(0)
    made = network_input(seen)
    assert made.dtype == np.float32 and made.shape == (4, 160, 224)
    normalized = (seen.colors - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
    assert np.allclose(made[:3].transpose(1, 2, 0), normalized * seen.inside[..., None], atol=1e-5)
    assert np.array_equal(made[3], np.where(seen.coarse, 1, -1))


def test_float32_is_the_network_as_it_is_trained(trained):
    seen = blob_in_noise(1)
    with torch.inference_mode():
        expected = trained(torch.from_numpy(network_input(seen))[None].contiguous())[0].numpy()
    made = network_prediction(trained, precision="float32")(seen)
    assert made.dtype == np.float32 and np.abs(made - expected).max() < 2e-3 * np.abs(expected).max()


def test_bfloat16_changes_less_than_a_thousandth_of_the_pixels(trained):
    """Most of these networks' logits are far from 0."""
    changed = total = 0
    for seed in range(4):
        seen = blob_in_noise(seed)
        coarse = torch.from_numpy(seen.coarse)[None]
        one, other = (
            foreground_logits(torch.from_numpy(network_prediction(trained, precision=name)(seen))[None], coarse) > 0
            for name in ("float32", "bfloat16")
        )
        changed, total = changed + int((one != other).sum()), total + int(one.sum())
        assert (one[0] != coarse[0]).sum() > 200  # it does something
    assert changed < 0.001 * total
