"""What the universal refiner learns from, and by which loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pnm.masks.crops import EMPTY, crop_array
from pnm.object_refinement.network import foreground_logits
from pnm.object_refinement.training_windows import made_coarse, refinement_loss, training_window

HEIGHT, WIDTH = 120, 150


def scene(y=60, x=80, radius=30):
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    mask = (yy - y) ** 2 + (xx - x) ** 2 <= radius**2
    image = np.where(mask[..., None], np.uint8(200), np.uint8(40)).repeat(3, axis=2)
    return image, crop_array(mask)


@pytest.mark.parametrize("place", [(60, 80, 30), (0, 0, 25), (119, 149, 60), (60, 75, 3)])
def test_windows_show_what_lies_there(place):
    """The image is bright exactly where the truth is: so are the windows, whatever their scale."""
    image, truth = scene(*place)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        coarse = made_coarse(image, truth, rng, unchanged=0.0)
        window = training_window(image, truth, coarse, EMPTY, 64, rng)
        assert window.seen.colors.shape == (64, 64, 3) and window.target.shape == (64, 64)
        bright = window.seen.colors[..., 0] > 120
        agree = (bright == window.target)[window.counted]
        assert agree.size and agree.mean() > 0.97
        assert (window.counted == window.seen.inside).all()


def test_ignored_pixels_are_not_counted():
    image, truth = scene()
    ignored = np.zeros((HEIGHT, WIDTH), np.bool_)
    ignored[:, 80:] = True
    rng = np.random.default_rng(0)
    shares = [training_window(image, truth, truth, crop_array(ignored), 64, rng).counted.mean() for _ in range(10)]
    assert 0.2 < np.mean(shares) < 0.8


def test_loss_without_weights_is_torchs_own():
    torch.manual_seed(0)
    maps = torch.randn(2, 2, 8, 8, requires_grad=True)
    coarse, target, counted = (torch.rand(2, 16, 16) < share for share in (0.5, 0.5, 0.8))
    loss = refinement_loss(maps, coarse, target, counted)
    own = F.binary_cross_entropy_with_logits(foreground_logits(maps, coarse)[counted], target[counted].float())
    assert torch.allclose(loss, own)
    gradients = [torch.autograd.grad(value, maps, retain_graph=True)[0] for value in (loss, own)]
    assert torch.allclose(*gradients, atol=1e-7)


@pytest.mark.parametrize("weight", [1.0, 5.0, 20.0])
def test_weights_of_errors_leave_the_optimum_where_it_is(weight):
    """Of pixels of which 30 % are wrong, the loss is least where their probability is 0.3, whatever errors weigh."""
    wrong = torch.arange(1000).reshape(1, 20, 50) % 10 < 3
    for label in (True, False):
        coarse = torch.full((1, 20, 50), label)
        target, maps = coarse ^ wrong, torch.zeros(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([maps], max_iter=60)

        def closure(coarse=coarse, target=target, maps=maps, optimizer=optimizer):
            optimizer.zero_grad()
            loss = refinement_loss(maps.expand(1, 2, 10, 25), coarse, target, torch.ones_like(coarse), weight)
            loss.backward()
            return loss

        optimizer.step(closure)
        right = torch.sigmoid(maps[0, 0 if label else 1, 0, 0]).item()
        assert abs(right - (0.7 if label else 0.3)) < 1e-3


def test_nothing_counted_is_a_zero_that_can_be_differentiated():
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    nothing = torch.zeros(1, 8, 8, dtype=torch.bool)
    loss = refinement_loss(maps, nothing, nothing, nothing)
    loss.backward()
    assert loss.item() == 0 and (maps.grad == 0).all()
