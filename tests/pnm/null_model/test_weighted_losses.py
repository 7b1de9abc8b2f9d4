"""Weighted losses against torch's own, against a plain sum, and where there is nothing to sum."""

import pytest
import torch
import torch.nn.functional as F

from pnm.errors import UserError
from pnm.null_model.batched import pixel_null_model_torch
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.weighted_losses import weighted_bce_with_logits, weighted_cross_entropy

SHAPE = (2, 7, 9)
CLASSES = 5


def semantic_case(dtype=torch.float64, ignored=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE[0], CLASSES, *SHAPE[1:], generator=generator, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, CLASSES, SHAPE, generator=generator)
    labels[torch.rand(SHAPE, generator=generator) < ignored] = 255
    weights = 1 + 3 * torch.rand(SHAPE, generator=generator, dtype=dtype)
    return logits, labels, weights


def mask_case(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(SHAPE, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 2, SHAPE, generator=generator)
    weights = 1 + 3 * torch.rand(SHAPE, generator=generator, dtype=dtype)
    return logits, targets, weights


def value_and_gradient(loss, logits):
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


def assert_same(ours, theirs, logits, **tolerance):
    tolerance = tolerance or (
        {"rtol": 1e-6, "atol": 1e-9} if logits.dtype == torch.float32 else {"rtol": 1e-13, "atol": 0}
    )
    for a, b in zip(value_and_gradient(ours, logits), value_and_gradient(theirs, logits)):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ignored", [0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_unit_weights_give_torchs_cross_entropy(dtype, ignored, smoothing):
    logits, labels, weights = semantic_case(dtype, ignored)
    ours = weighted_cross_entropy(logits, labels, torch.ones_like(weights), label_smoothing=smoothing)
    assert_same(ours, F.cross_entropy(logits, labels, ignore_index=255, label_smoothing=smoothing), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_weights_give_torchs_bce(dtype):
    logits, targets, weights = mask_case(dtype)
    for kind in (torch.bool, torch.uint8, torch.int64, dtype):
        ours = weighted_bce_with_logits(logits, targets.to(kind), torch.ones_like(weights))
        assert_same(ours, F.binary_cross_entropy_with_logits(logits, targets.to(dtype)), logits)


def test_locality_one_is_unweighted():
    logits, labels, _ = semantic_case(torch.float32)
    ours = weighted_cross_entropy(logits, labels, pixel_weights(pixel_null_model_torch(labels, 1)))
    assert_same(ours, F.cross_entropy(logits, labels, ignore_index=255), logits)


def test_equals_the_plain_sum():
    logits, labels, weights = semantic_case()
    total, number = 0, 0
    for n, y, x in torch.cartesian_prod(*map(torch.arange, SHAPE)):
        if labels[n, y, x] != 255:
            total = total - weights[n, y, x] * logits[n, :, y, x].log_softmax(0)[labels[n, y, x]]
            number += 1
    assert_same(weighted_cross_entropy(logits, labels, weights), total / number, logits, rtol=1e-12, atol=1e-15)


def test_bce_equals_the_plain_sum_over_valid_pixels():
    logits, targets, weights = mask_case()
    targets[0, :3] = 255
    valid = targets != 255
    losses = F.binary_cross_entropy_with_logits(logits[valid], targets[valid].double(), reduction="none")
    ours = weighted_bce_with_logits(logits, targets, weights)
    assert_same(ours, (losses * weights[valid]).sum() / valid.sum(), logits)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_ignored_pixels_change_nothing(share):
    logits, labels, weights = semantic_case()
    ignored = labels == 255
    before = value_and_gradient(weighted_cross_entropy(logits, labels, weights, hard_pixel_share=share), logits)
    assert (before[1].movedim(1, -1)[ignored] == 0).all()
    for value in (0.0, 1e30, torch.inf, torch.nan):
        other = weights.masked_fill(ignored, value)
        after = value_and_gradient(weighted_cross_entropy(logits, labels, other, hard_pixel_share=share), logits)
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    shifted = (logits.detach() + 50 * torch.rand_like(logits) * ignored[:, None]).requires_grad_()
    after = value_and_gradient(weighted_cross_entropy(shifted, labels, weights, hard_pixel_share=share), shifted)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("shape", [SHAPE, (0, 7, 9), (2, 0, 9)])
def test_no_valid_pixel(shape, share):
    labels = torch.full(shape, 255)
    for make in (
        lambda: torch.randn(shape[0], CLASSES, *shape[1:], requires_grad=True),
        lambda: torch.randn(shape, requires_grad=True),
    ):
        logits = make()
        loss = weighted_cross_entropy if logits.dim() == 4 else weighted_bce_with_logits
        value = loss(logits, labels, torch.ones(shape), hard_pixel_share=share)
        value.backward()
        assert value == 0 and logits.grad.shape == logits.shape and (logits.grad == 0).all()


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_gradients(share):
    logits, labels, weights = semantic_case()
    weights.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, w: weighted_cross_entropy(z, labels, w, hard_pixel_share=share), (logits, weights)
    )
    logits, targets, weights = mask_case()
    targets[0, 0] = 255
    weights.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, w: weighted_bce_with_logits(z, targets, w, hard_pixel_share=share), (logits, weights)
    )


@pytest.mark.parametrize("share", [0.01, 0.2, 0.999])
def test_hard_pixels(share):
    logits, labels, weights = semantic_case()
    valid = labels != 255
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")[valid] * weights[valid]
    kept = max(1, int(share * valid.sum()))
    ours = weighted_cross_entropy(logits, labels, weights, hard_pixel_share=share)
    assert_same(ours, losses.sort(descending=True).values[:kept].mean(), logits, rtol=1e-12, atol=1e-15)


def test_half_precision_does_not_overflow():
    logits = torch.full((1, 2, 300, 300), 0.0, dtype=torch.bfloat16)
    labels, weights = torch.zeros(1, 300, 300, dtype=torch.long), torch.full((1, 300, 300), 2.0)
    loss = weighted_cross_entropy(logits.half(), labels, weights)
    assert loss.dtype == torch.float16 and abs(float(loss) - 2 * 0.6931) < 1e-3


def test_arguments_stay_as_they_were():
    logits, labels, weights = semantic_case()
    copies = logits.detach().clone(), labels.clone(), weights.clone()
    weighted_cross_entropy(logits, labels, weights, hard_pixel_share=0.5).backward()
    for tensor, copy in zip((logits.detach(), labels, weights), copies):
        assert torch.equal(tensor, copy)


def test_wrong_input():
    logits, labels, weights = semantic_case()
    with pytest.raises(UserError, match="resize the logits"):
        weighted_cross_entropy(logits, labels[:, :3], weights)
    with pytest.raises(UserError, match="expected integers"):
        weighted_cross_entropy(logits, labels.double(), weights)
    for wrong in (weights[:, :3], weights.long(), weights[:1]):
        with pytest.raises(UserError, match="one weight a pixel"):
            weighted_cross_entropy(logits, labels, wrong)
    for share in (0.0, 1.5, -1):
        with pytest.raises(UserError, match="hard_pixel_share"):
            weighted_cross_entropy(logits, labels, weights, hard_pixel_share=share)
    logits, targets, weights = mask_case()
    with pytest.raises(UserError, match="expected the same shape"):
        weighted_bce_with_logits(logits[:1], targets, weights)
    with pytest.raises(UserError, match="one weight a pixel"):
        weighted_bce_with_logits(logits, targets, weights[0])
