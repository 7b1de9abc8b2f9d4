"""The convolution at a few cells is the dense one there, in value and in every gradient."""

import pytest
import torch
import torch.nn.functional as F

from pnm.fcos.cell_convolution import convolution_at


def case(kernel, bias=True, shape=(2, 3, 5, 7), outputs=4):
    """Features, weight and bias (or None) in float64, all leaves."""
    rng = torch.Generator().manual_seed(kernel)
    sizes = shape, (outputs, shape[1], kernel, kernel), (outputs,)
    features, weight, offset = (
        torch.randn(size, generator=rng, dtype=torch.float64).requires_grad_() for size in sizes
    )
    return features, weight, offset if bias else None


def dense_at(leaves, kernel, images, cells):
    features, weight, bias = leaves
    dense = F.conv2d(features, weight, bias, padding=kernel // 2)
    width = dense.shape[-1]
    rows = [dense[image, :, cell // width, cell % width] for image, cell in zip(images.tolist(), cells.tolist())]
    return torch.stack(rows)


def assert_same(kernel, images, cells, **shapes):
    """Value, and gradients of a random linear loss of it."""
    ours, theirs = case(kernel, **shapes), case(kernel, **shapes)
    value = convolution_at(ours[0], ours[1], ours[2], images, cells)
    truth = dense_at(theirs, kernel, images, cells)
    torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-12)
    pull = torch.randn(truth.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    gradients = [
        torch.autograd.grad((result * pull).sum(), [leaf for leaf in leaves if leaf is not None])
        for result, leaves in ((value, ours), (truth, theirs))
    ]
    for mine, other in zip(*gradients):
        assert other.abs().sum() > 0
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_equal_at_every_cell_of_every_image(kernel, bias):
    cells = torch.arange(35)
    assert_same(kernel, torch.arange(2).repeat_interleave(35), cells.repeat(2), bias=bias)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_equal_at_corners_and_edges_in_any_order(kernel):
    cells = torch.tensor([34, 0, 28, 6, 7, 13, 3, 31])  # four corners, then left, right, top and bottom edge
    assert_same(kernel, torch.tensor([1, 0, 0, 1, 1, 0, 1, 0]), cells)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_repeated_cells_add_their_gradients(kernel):
    assert_same(kernel, torch.tensor([1, 1, 0, 1, 1]), torch.tensor([8, 8, 8, 8, 9]))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 2, 1, 6), (2, 2, 6, 1)])
def test_maps_smaller_than_the_kernel(kernel, shape):
    size = shape[2] * shape[3]
    assert_same(kernel, torch.full((size,), shape[0] - 1), torch.arange(size), shape=shape)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_no_cells_give_zero_gradients_and_not_none(kernel):
    leaves = features, weight, bias = case(kernel)
    none = torch.zeros(0, dtype=torch.int64)
    value = convolution_at(features, weight, bias, none, none)
    assert value.shape == (0, 4)
    value.sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None and torch.equal(leaf.grad, torch.zeros_like(leaf))
