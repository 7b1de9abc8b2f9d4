"""The regression of a mask on colours against a least-squares fit of each window."""

import numpy as np
import pytest
import torch

from pnm.object_refinement import cpu_local_regression
from pnm.object_refinement.local_regression import color_evidence, local_regression

NOISE, LEAST = 0.02, 0.01


def brute_force(colors, mask, radius):
    """Ridge regression of each window, its mean not being penalized."""
    height, width = mask.shape
    out = np.zeros((3, height, width))
    for y in range(height):
        for x in range(width):
            rows, columns = (slice(max(0, at - radius), at + radius + 1) for at in (y, x))
            window, labels = colors[:, rows, columns].reshape(3, -1), mask[rows, columns].ravel()
            centred, about = window - window.mean(1, keepdims=True), labels - labels.mean()
            covariance = centred @ centred.T / labels.size + NOISE * np.eye(3)
            shared = centred @ about / labels.size
            slopes = np.linalg.solve(covariance, shared)
            value = slopes @ (colors[:, y, x] - window.mean(1)) + labels.mean()
            out[:, y, x] = value - mask[y, x], slopes @ shared / (about.var() + LEAST), labels.mean()
    return out


def test_against_a_fit_of_each_window():
    rng = np.random.default_rng(0)
    colors, mask = rng.standard_normal((3, 11, 14)), np.sign(rng.standard_normal((11, 14)))
    for radius in (1, 3, 12):
        made = local_regression(torch.tensor(colors)[None].float(), torch.tensor(mask)[None, None].float(), radius)
        assert np.allclose(made[0].numpy(), brute_force(colors, mask, radius), atol=2e-4)


def test_follows_an_edge_that_a_mask_misses():
    """Two colours that meet at column 20; the mask's contour lies at column 23."""
    colors = torch.zeros(1, 3, 24, 40)
    colors[..., :20] = 1
    mask = torch.full((1, 1, 24, 40), -1.0)
    mask[..., :23] = 1
    regression, explained, _ = (local_regression(colors, mask, 8)[0] + 0).unbind(0)
    corrected = (regression + mask[0, 0]) > 0
    assert (corrected[:, :20]).all() and not corrected[:, 20:].any()
    assert explained[12, 21] > 0.4 > 0.1 > explained[12, 35].abs()


def test_flat_colours_say_nothing():
    mask = torch.full((1, 1, 16, 16), -1.0)
    mask[..., :8] = 1
    made = local_regression(torch.zeros(1, 3, 16, 16), mask, 3)[0]
    assert made[1].abs().max() < 1e-5


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (2, 8), (18, 6)])
def test_running_sums_give_the_same_as_convolutions(size):
    """Also of maps smaller than windows, and of flat colours, whose variances are rounding errors."""
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 4, *size)).astype(np.float32))
    x[:, 3] = x[:, 3].sign()
    for image in (x, torch.cat([torch.full_like(x[:, :3], 2.5), x[:, 3:]], 1)):
        made = cpu_local_regression.color_evidence(image[0].permute(1, 2, 0).contiguous().numpy())
        assert np.allclose(made.transpose(2, 0, 1), color_evidence(image)[0].numpy(), atol=5e-4)
