"""PRN's losses: closed forms, denominators, and pixels that don't count."""

import torch
import torch.nn.functional as F

from pnm.projects.prn.losses import center_loss, distance_loss, foreground_loss


def case(seed=0):
    torch.manual_seed(seed)
    counted = torch.rand(2, 6, 7) < 0.7
    inside = counted & (torch.rand(2, 6, 7) < 0.5)
    return counted, inside


def test_center_loss_is_the_mean_squared_error_of_counted_pixels():
    counted, _ = case()
    heat, target = torch.rand(2, 6, 7), torch.rand(2, 6, 7)
    torch.testing.assert_close(center_loss(heat, target, counted), F.mse_loss(heat[counted], target[counted]))


def test_distance_loss_is_a_mean_over_channels_and_instance_pixels():
    """Detectron2's Panoptic-DeepLab adds up the two channels: 0.02 here is 0.01 there."""
    _, inside = case()
    distances, target = torch.rand(2, 4, 6, 7), torch.rand(2, 4, 6, 7)
    mask = inside[:, None].expand_as(target)
    torch.testing.assert_close(distance_loss(distances, target, inside), F.l1_loss(distances[mask], target[mask]))


def test_foreground_loss_with_unit_weights_is_torchs_in_value_and_gradient():
    counted, inside = case()
    logits = torch.randn(2, 6, 7, requires_grad=True)
    other = logits.detach().clone().requires_grad_()
    wanted = F.binary_cross_entropy_with_logits(other[counted], inside[counted].float())
    for weights in (None, torch.ones(2, 6, 7)):
        logits.grad = None
        loss = foreground_loss(logits, inside, counted, weights)
        torch.testing.assert_close(loss, wanted)
        loss.backward()
        (gradient,) = torch.autograd.grad(wanted, other, retain_graph=True)
        torch.testing.assert_close(logits.grad, gradient)


def test_weights_weigh_and_the_denominator_stays_the_number_of_pixels():
    counted, inside = case()
    logits, weights = torch.randn(2, 6, 7), torch.rand(2, 6, 7) + 1
    losses = F.binary_cross_entropy_with_logits(logits, inside.float(), reduction="none")
    wanted = (losses * weights)[counted].sum() / counted.sum()
    torch.testing.assert_close(foreground_loss(logits, inside, counted, weights), wanted)


def test_what_does_not_count_changes_no_loss_and_no_gradient():
    counted, inside = case()
    predicted, results = [torch.randn(2, 6, 7), torch.randn(2, 4, 6, 7)], []
    for is_spoiled in (False, True):
        heat, distances = (part.clone().requires_grad_() for part in predicted)
        torch.manual_seed(1)
        target, sides = torch.rand(2, 6, 7), torch.rand(2, 4, 6, 7)
        if is_spoiled:
            target[~counted], sides[~inside[:, None].expand_as(sides)] = 1e6, -1e6
        loss = center_loss(heat, target, counted) + distance_loss(distances, sides, inside)
        loss.backward()
        results.append((loss.detach(), heat.grad, distances.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_nothing_counted_is_a_zero_that_can_be_differentiated():
    none = torch.zeros(1, 4, 4, dtype=torch.bool)
    heat = torch.randn(1, 4, 4, requires_grad=True)
    distances = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = center_loss(heat, torch.zeros(1, 4, 4), none) + foreground_loss(heat, none, none, None)
    loss = loss + distance_loss(distances, torch.zeros(1, 2, 4, 4), none)
    loss.backward()
    assert loss == 0 and not heat.grad.any() and not distances.grad.any()
