"""Blended masks follow a loop over pixels, and scores of masks those of whole images."""

import math

import pytest
import torch

from pnm.errors import UserError
from pnm.silhouettes.blending import blend
from pnm.silhouettes.mask_scores import iou_targets, mask_score, silhouette_targets


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks(*shape, seed=0, share=0.5):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def enlarged(small, at, side):
    """Bilinear value of a square map (nested lists) at row and column ``at`` of a map of ``side``, pixel centres."""
    count = len(small)
    weights = []
    for place in at:
        source = max((place + 0.5) * count / side - 0.5, 0)
        low = int(source)
        weights.append({low: 1 - (source - low)})
        weights[-1][min(low + 1, count - 1)] = weights[-1].get(min(low + 1, count - 1), 0) + source - low
    return sum(small[y][x] * wy * wx for y, wy in weights[0].items() for x, wx in weights[1].items())


@pytest.mark.parametrize("small, side", [(3, 8), (1, 5), (4, 4), (5, 3)])
def test_blending_equals_the_loop(small, side):
    regions, attention = normal(2, 3, side, side), 2 * normal(2, 3 * small * small, seed=1)
    result = blend(regions, attention)
    assert result.shape == (2, side, side)
    for n in range(2):
        maps = attention[n].view(3, small, small).tolist()  # base by base
        for y in range(side):
            for x in range(side):
                powers = [math.exp(enlarged(one, (y, x), side)) for one in maps]
                value = sum(w * float(regions[n, k, y, x]) for k, w in enumerate(powers)) / sum(powers)
                assert result[n, y, x].item() == pytest.approx(value, abs=1e-5)


def test_equal_attentions_give_the_mean_of_the_bases():
    regions, one = normal(3, 4, 8, 8), normal(3, 9, seed=1)
    torch.testing.assert_close(blend(regions, one.repeat(1, 4)), regions.mean(1))


@pytest.mark.parametrize("base", range(4))
def test_a_dominant_attention_gives_its_basis(base):
    regions, attention = normal(3, 4, 8, 8), torch.zeros(3, 4, 9)
    attention[:, base] = 200
    assert torch.equal(blend(regions, attention.flatten(1)), regions[:, base])


def test_each_quarter_may_take_its_own_basis():
    regions, attention = normal(1, 4, 8, 8), torch.zeros(1, 4, 2, 2)
    for base in range(4):
        attention[0, base, base // 2, base % 2] = 1000
    result = blend(regions, attention.flatten(1))
    for base, (y, x) in enumerate([(0, 0), (0, 7), (7, 0), (7, 7)]):
        assert result[0, y, x] == regions[0, base, y, x]


def test_a_single_basis_is_the_mask():
    regions = normal(3, 1, 8, 8)
    assert torch.equal(blend(regions, normal(3, 9, seed=1)), regions[:, 0])


def test_blending_gradients_equal_finite_differences():
    regions, attention = normal(2, 3, 4, 4).double().requires_grad_(), normal(2, 12, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(blend, (regions, attention))


def test_no_regions_are_differentiable():
    regions, attention = torch.zeros(0, 4, 8, 8, requires_grad=True), torch.zeros(0, 36, requires_grad=True)
    result = blend(regions, attention)
    assert result.shape == (0, 8, 8)
    result.sum().backward()
    assert regions.grad is not None and attention.grad is not None


@pytest.mark.parametrize("shape", [(2, 35), (2, 8), (3, 36), (1, 36), (2, 0), (2, 4, 3, 3), (72,)])
@pytest.mark.parametrize("count", [2, 0])
def test_attention_that_is_no_maps_is_told(shape, count):
    if not count and shape == (2, 0):
        shape = (0, 35)
    with pytest.raises(UserError, match=rf"attention is \({shape[0]},.*expected \({count}, 4 A A\)"):
        blend(torch.zeros(count, 4, 8, 8), torch.zeros(shape))


def test_the_mask_score_mixes_its_parts():
    fcos, iou = torch.tensor([0.9, 0.25, 0.0, 1.0]), torch.tensor([0.1, 0.75, 1.0, 1.0])
    assert torch.equal(mask_score(fcos, iou, 1), fcos)
    assert torch.equal(mask_score(fcos, iou, 0), iou)
    torch.testing.assert_close(mask_score(fcos, iou, 0.8), torch.tensor([0.74, 0.35, 0.2, 1.0]))


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan, math.inf])
def test_an_alpha_beyond_its_range_is_told(alpha):
    with pytest.raises(UserError, match=f"alpha of the Mask Score is {alpha}, expected 0 to 1"):
        mask_score(torch.zeros(2), torch.zeros(2), alpha)


def test_perfect_masks_have_targets_of_1():
    truth = masks(4, 9, 9)
    assert iou_targets(truth, truth, torch.ones(4)).tolist() == [1] * 4
    assert silhouette_targets(truth, truth).tolist() == [1] * 4


def test_with_half_of_the_object_outside_the_iou_is_at_most_a_half():
    truth, half = masks(30, 9, 9), torch.full((30,), 0.5)
    assert iou_targets(truth, truth, half).tolist() == [0.5] * 30
    assert iou_targets(masks(30, 9, 9, seed=1), truth, half).max() < 0.5
    full = torch.ones(30, 9, 9, dtype=torch.bool)
    assert iou_targets(full, full, half).tolist() == [0.5] * 30


def test_empty_masks_have_an_iou_of_0():
    some, none = masks(2, 9, 9), torch.zeros(2, 9, 9, dtype=torch.bool)
    for share in (torch.ones(2), torch.zeros(2), torch.tensor([0.5, 1e-9])):
        assert iou_targets(none, none, share).tolist() == [0, 0]
        assert iou_targets(some, none, share).tolist() == [0, 0]
    assert iou_targets(none, some, torch.ones(2)).tolist() == [0, 0]


def test_ious_equal_those_of_whole_images():
    rng = torch.Generator().manual_seed(3)
    seen = []
    for _ in range(200):
        truth = torch.zeros(30, 30, dtype=torch.bool)
        y, x, top, left = torch.randint(0, 20, (4,), generator=rng).tolist()
        truth[y : y + 10, x : x + 10] = torch.rand(10, 10, generator=rng) < 0.8
        box = slice(top, top + 10), slice(left, left + 10)
        predicted = torch.zeros_like(truth)
        predicted[box] = torch.where(torch.rand(10, 10, generator=rng) < 0.8, truth[box], masks(10, 10, seed=x))
        inside = truth[box].sum() / truth.sum()
        both = sum(a and b for a, b in zip(truth.flatten().tolist(), predicted.flatten().tolist()))
        either = sum(a or b for a, b in zip(truth.flatten().tolist(), predicted.flatten().tolist()))
        (result,) = iou_targets(predicted[box][None], truth[box][None], inside[None]).tolist()
        assert result == pytest.approx(both / either, rel=1e-5)
        seen.append(result)
    assert min(seen) == 0 and max(seen) > 0.4


def test_a_silhouette_target_counts_pixels_on_the_lines():
    truth, mask = torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(1, 8, 8, dtype=torch.bool)
    truth[0, 2:6, 2:6] = True  # 12 pixels of its own and 16 of background: 28
    mask[0, 2:6, 2:7] = True  # 14 and 18: 32
    line, other = ring(2, 6, 2, 6), ring(2, 6, 2, 7)
    assert len(line) == 28 and len(other) == 32
    expected = (2 * len(line & other) + 1) / (28 + 32 + 1)
    assert silhouette_targets(mask, truth).item() == pytest.approx(expected)
    assert silhouette_targets(mask, torch.zeros_like(truth)).item() == pytest.approx(1 / 33)


def ring(top, bottom, left, right):
    """The places on both sides of a rectangle's border."""
    inside = {(y, x) for y in range(top, bottom) for x in range(left, right)}
    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    outside = {(y + dy, x + dx) for y, x in inside for dy, dx in moves} - inside
    return outside | {(y, x) for y, x in inside if any((y + dy, x + dx) in outside for dy, dx in moves)}


def test_no_regions_have_no_targets():
    none = torch.zeros(0, 9, 9, dtype=torch.bool)
    assert iou_targets(none, none, torch.zeros(0)).shape == silhouette_targets(none, none).shape == (0,)
