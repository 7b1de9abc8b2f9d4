"""Scores follow their equations in double precision, and neither ignored pixels nor half precision upset them."""

import math

import pytest
import torch

from pnm.silhouettes.overlap_losses import silhouette_loss, silhouette_scores, soft_ious

SCORES = [silhouette_scores, soft_ious]


def maps(seed=0, shape=(3, 5, 6)):
    """Probabilities, targets in [0, 1] and valid pixels."""
    rng = torch.Generator().manual_seed(seed)
    p, g, v = (torch.rand(shape, generator=rng) for _ in range(3))
    return p, g, v < 0.7


def score_by_loop(score, parts, epsilon=1.0):
    """Eq. 1 or the soft IoU of one image: lists of probabilities, targets and whether a pixel counts."""
    pairs = [(a, b) for a, b, counts in zip(*parts) if counts]
    both = sum(a * b for a, b in pairs)
    if score is silhouette_scores:
        return (2 * both + epsilon) / (sum(a * a for a, _ in pairs) + sum(b * b for _, b in pairs) + epsilon)
    return (both + epsilon) / (sum(a + b for a, b in pairs) - both + epsilon)


def lists(*parts):
    return [part.flatten().tolist() for part in parts]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("epsilon", [1.0, 0.1])
def test_scores_equal_the_loop(score, epsilon):
    p, g, valid = maps()
    truth = [score_by_loop(score, lists(*parts), epsilon) for parts in zip(p, g, valid)]
    result = score(p, g, valid, epsilon)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.tensor(truth))
    whole = [score_by_loop(score, lists(*parts), epsilon) for parts in zip(p, g, torch.ones_like(valid))]
    torch.testing.assert_close(score(p, g, epsilon=epsilon), torch.tensor(whole))


@pytest.mark.parametrize("score", SCORES)
def test_gradients_equal_finite_differences_of_the_loop(score):
    p, g, valid = maps(1, (1, 4, 5))
    p.requires_grad_()
    (gradient,) = torch.autograd.grad(score(p, g, valid).sum(), p)
    values, target, counts = lists(p.detach(), g, valid)
    for n, slope in enumerate(gradient.flatten().tolist()):
        high, low = ([*values[:n], values[n] + step, *values[n + 1 :]] for step in (1e-6, -1e-6))
        difference = score_by_loop(score, (high, target, counts)) - score_by_loop(score, (low, target, counts))
        assert slope == pytest.approx(difference / 2e-6, abs=1e-6)
        assert (slope != 0) == counts[n]


@pytest.mark.parametrize("score", SCORES)
def test_a_perfect_prediction_and_two_empty_maps_score_1(score):
    _, _, g = maps()
    assert score(g.float(), g).tolist() == [1] * 3
    assert score(torch.zeros(3, 5, 6), torch.zeros(3, 5, 6, dtype=torch.bool)).tolist() == [1] * 3


def test_soft_targets_met_exactly_score_1():
    p, _, valid = maps()
    torch.testing.assert_close(silhouette_scores(p, p, valid), torch.ones(3))


@pytest.mark.parametrize("score", SCORES)
def test_an_empty_prediction_scores_epsilon_over_the_target(score):
    _, _, g = maps()
    expected = [1 / (int(part.sum()) + 1) for part in g]
    assert score(torch.zeros(3, 5, 6), g).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("score", SCORES)
def test_an_empty_target_still_has_a_gradient(score):
    p = torch.full((1, 20, 20), 0.5, requires_grad=True)
    value = score(p, torch.zeros(1, 20, 20, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value.sum(), p)
    power = 2 if score is silhouette_scores else 1
    total = 400 * 0.5**power + 1
    assert value.item() == pytest.approx(1 / total)
    torch.testing.assert_close(gradient, torch.full_like(gradient, -1 / total**2))  # d p² = 2 p = 1, d p = 1


@pytest.mark.parametrize("score", SCORES)
def test_prediction_and_target_may_change_places(score):
    p, g, valid = maps()
    torch.testing.assert_close(score(p, g, valid), score(g, p, valid), rtol=1e-6, atol=0)


def test_soft_ious_of_binary_masks_are_ious_with_one_more_pixel():
    _, _, a = maps(2)
    _, _, b = maps(3)
    expected = [(int((x & y).sum()) + 1) / (int((x | y).sum()) + 1) for x, y in zip(a, b)]
    assert soft_ious(a.float(), b).tolist() == pytest.approx(expected)


def assert_same_gradient(dirty, clean, valid):
    """Of (loss, input) each, and none where pixels are ignored."""
    gradients = [torch.autograd.grad(*pair)[0] for pair in (dirty, clean)]
    assert torch.equal(*gradients) and not gradients[0][~valid].any()


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("garbage", [7.0, -1e38, math.inf, -math.inf, math.nan])
def test_ignored_pixels_change_nothing_whatever_is_there(score, garbage):
    p, g, valid = maps()
    clean = p.clone().requires_grad_()
    dirty = torch.where(valid, p, garbage).requires_grad_()
    truth, result = score(clean, g, valid), score(dirty, torch.where(valid, g, garbage), valid)
    assert torch.equal(result, truth)
    assert_same_gradient((result.sum(), dirty), (truth.sum(), clean), valid)


@pytest.mark.parametrize("garbage", [50.0, -math.inf, math.inf, math.nan])
def test_ignored_logits_change_no_loss_and_no_gradient(garbage):
    p, g, valid = maps()
    clean, dirty = p.logit().requires_grad_(), torch.where(valid, p.logit(), garbage).requires_grad_()
    truth, result = (silhouette_loss(logits, g > 0.5, valid) for logits in (clean, dirty))
    assert torch.equal(result, truth)
    assert_same_gradient((result, dirty), (truth, clean), valid)


@pytest.mark.parametrize("score", SCORES)
def test_without_valid_pixels_the_score_is_1_and_can_be_differentiated(score):
    p, g, valid = maps()
    p.requires_grad_()
    result = score(p, g, torch.zeros_like(valid))
    assert result.tolist() == [1] * 3
    (gradient,) = torch.autograd.grad(result.sum(), p)
    assert torch.equal(gradient, torch.zeros_like(p))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow_on_a_whole_image(score, dtype):
    p = torch.full((1, 800, 1344), 0.5, dtype=dtype, requires_grad=True)
    g = torch.zeros(1, 800, 1344, dtype=torch.bool)
    g[:, :400] = True
    value, both = score(p, g), 800 * 1344 / 4  # half of the pixels at 0.5
    sums = 3 * both  # Σp² + Σg² = (1 + 2) both, and Σ(p + g - pg) = (2 + 2 - 1) both
    share = 2 if score is silhouette_scores else 1
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((share * both + 1) / (sums + 1), rel=1e-5)
    (gradient,) = torch.autograd.grad(value.sum(), p)
    assert gradient.isfinite().all()


def test_the_loss_is_the_mean_over_images_and_ignored_ones_give_0():
    p, g, valid = maps()
    valid[1] = False
    target = g > 0.5
    each = [1 - score_by_loop(silhouette_scores, lists(*parts)) for parts in zip(p, target.float(), valid)]
    assert each[1] == 0
    assert silhouette_loss(p.logit(), target, valid).item() == pytest.approx(sum(each) / 3, rel=1e-5)
    whole = [score_by_loop(silhouette_scores, lists(*parts)) for parts in zip(p, target.float(), valid | True)]
    assert silhouette_loss(p.logit(), target).item() == pytest.approx(1 - sum(whole) / 3, rel=1e-5)


def test_the_loss_of_certain_logits_is_0_if_right():
    _, _, target = maps()
    assert silhouette_loss(torch.where(target, 200.0, -200.0), target).item() == 0
    assert silhouette_loss(torch.where(target, -200.0, 200.0), target).item() > 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_half_precision_logits_is_that_of_the_same_numbers_in_float32(dtype):
    p, g, valid = maps()
    logits = p.logit().to(dtype)
    assert torch.equal(silhouette_loss(logits, g > 0.5, valid), silhouette_loss(logits.float(), g > 0.5, valid))


def test_the_loss_of_half_precision_logits_does_not_overflow():
    logits = torch.zeros(2, 800, 1344, dtype=torch.float16, requires_grad=True)
    loss = silhouette_loss(logits, torch.zeros(2, 800, 1344, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1 - 1 / (800 * 1344 / 4 + 1), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("shape, valid", [((0, 5, 6), None), ((0, 5, 6), True), ((2, 5, 6), False)])
def test_nothing_to_learn_is_0_and_can_be_differentiated(shape, valid):
    logits = torch.randn(shape, requires_grad=True)
    target = torch.ones(shape, dtype=torch.bool)
    loss = silhouette_loss(logits, target, None if valid is None else torch.full(shape, valid))
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient, torch.zeros(shape))
