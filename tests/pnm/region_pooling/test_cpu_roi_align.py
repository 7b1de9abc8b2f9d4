"""RoIAlign's own kernels against torchvision's."""

import itertools

import pytest
import torch
from torchvision.ops import roi_align

from pnm.region_pooling import roi_align as roi_align_here
from pnm.region_pooling.cpu_roi_align import cpu_roi_align


def random_regions(count, images, side, generator, sorted_corners):
    """Some of them outside of the image, in part or wholly, some with corners at whole numbers, some without area."""
    corners = (torch.rand(count, 4, generator=generator) * 3 - 1) * side
    corners[::3] = corners[::3].round()
    corners[::7, 2:] = corners[::7, :2]
    if sorted_corners:
        corners = torch.cat(
            [torch.minimum(corners[:, :2], corners[:, 2:]), corners.max(1).values[:, None] + corners[:, 2:].abs()], 1
        )
    numbers = torch.randint(0, images, (count, 1), generator=generator).float()
    return torch.cat([numbers, corners], 1)


CASES = list(itertools.product((0, 1, 3), (True, False), ((1, 1), (7, 7), (2, 5)), (1.0, 0.25, 0.3)))


@pytest.mark.parametrize(("sampling_ratio", "aligned", "size", "scale"), CASES)
def test_values_and_gradients_are_torchvisions(sampling_ratio, aligned, size, scale):
    generator = torch.Generator().manual_seed(len(str((sampling_ratio, size, scale))))
    for shape in ((2, 5, 9, 14), (1, 17, 1, 3), (3, 1, 20, 1)):
        # torchvision can't do regions whose corners are swapped with a number of samples that depends on them.
        rois = random_regions(23, shape[0], max(shape[2:]) / scale, generator, sampling_ratio == 0)
        features = torch.randn(shape, generator=generator)
        results = []
        for pool in (roi_align, cpu_roi_align):
            seen = features.clone().requires_grad_()
            pooled = pool(seen, rois, size, scale, sampling_ratio, aligned)
            pooled.backward(torch.linspace(-1, 1, pooled.numel()).view_as(pooled))
            results.append((pooled.detach(), seen.grad))
        for expected, got in zip(*results, strict=True):
            assert torch.allclose(got, expected, atol=2e-5, rtol=1e-5)


def test_threads_change_nothing():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 64, 40, 40, generator=generator).to(memory_format=torch.channels_last)
    rois = random_regions(400, 2, 160, generator, True)
    results, before = [], torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        seen = features.detach().requires_grad_()
        pooled = cpu_roi_align(seen, rois, (14, 14), 0.25)
        pooled.square().sum().backward()
        results.append((pooled.detach(), seen.grad))
    torch.set_num_threads(before)
    assert pooled.numel() > 3 << 20
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_no_regions_are_on_the_graph():
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    pooled = cpu_roi_align(features, torch.zeros(0, 5), (7, 6))
    assert pooled.shape == (0, 3, 7, 6)
    pooled.sum().backward()
    assert features.grad is not None and not features.grad.any()


def test_half_precision_is_computed_in_float32():
    features = torch.randn(1, 8, 16, 16).bfloat16()
    rois = torch.tensor([[0, 3.3, 4.7, 9.1, 14.9]])
    assert torch.equal(cpu_roi_align(features, rois, (3, 3)), cpu_roi_align(features.float(), rois, (3, 3)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_coordinate_that_is_no_number_is_an_error(bad):
    with pytest.raises(ValueError, match="not finite"):
        cpu_roi_align(torch.zeros(1, 1, 4, 4), torch.tensor([[0, 0, 0, bad, 2]]), (2, 2))


@pytest.mark.parametrize("image", [-1, 2])
def test_a_region_of_no_image_is_an_error(image):
    with pytest.raises(ValueError, match="and 2 are given"):
        cpu_roi_align(torch.zeros(2, 1, 4, 4), torch.tensor([[image, 0, 0, 2, 2.0]]), (2, 2))


@pytest.mark.filterwarnings("ignore")
def test_a_traced_network_holds_torchvisions_operator():
    def pool(features, rois):
        return roi_align_here(features, rois, 2, 0.5)

    rois = torch.tensor([[0, 0, 0, 8, 8.0]])
    traced = torch.jit.trace(pool, (torch.randn(1, 3, 8, 8), rois))
    other = torch.randn(1, 3, 8, 8)
    assert torch.allclose(traced(other, rois / 2), pool(other, rois / 2), atol=1e-5)


@pytest.mark.parametrize(("size", "output"), [((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_nothing_to_read_or_make_is_an_error(size, output):
    with pytest.raises(ValueError, match="nothing to read or make"):
        cpu_roi_align(torch.zeros(1, 1, *size), torch.tensor([[0, 0, 0, 2, 2.0]]), output)
