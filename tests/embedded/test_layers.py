"""Layers and operators, against loops over pixels and torch's own functions."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from detectron2.layers import (
    ASPP,
    CNNBlockBase,
    Conv2d,
    DepthwiseSeparableConv2d,
    FrozenBatchNorm2d,
    NaiveSyncBatchNorm,
    ROIAlign,
    ShapeSpec,
    batched_nms,
    cat,
    cross_entropy,
    get_norm,
    paste_masks_in_image,
)
from detectron2.structures import Boxes
from torch import nn
from torch.nn import functional as F


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bilinear(grid: torch.Tensor, y: float, x: float) -> float:
    """Value between the pixel centres of ``grid`` at (y, x) in pixel indices; 0 outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]:
                total += float(grid[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_against_loops(aligned):
    feature, (x0, y0, x1, y1), scale, samples = seeded(1, 2, 12, 15), (8.0, 6.0, 40.0, 37.0), 0.25, 2
    pooled = ROIAlign((3, 4), scale, samples, aligned)(feature, torch.tensor([[0, x0, y0, x1, y1]]))
    shift = 0.5 if aligned else 0.0
    bin_h, bin_w = (y1 - y0) * scale / 3, (x1 - x0) * scale / 4
    for channel in range(2):
        for i in range(3):
            for j in range(4):
                values = [
                    bilinear(
                        feature[0, channel],
                        y0 * scale - shift + (i + (p + 0.5) / samples) * bin_h,
                        x0 * scale - shift + (j + (q + 0.5) / samples) * bin_w,
                    )
                    for p in range(samples)
                    for q in range(samples)
                ]
                assert pooled[0, channel, i, j].item() == pytest.approx(sum(values) / len(values), abs=1e-5)


def test_roi_align_takes_no_regions():
    assert ROIAlign(7, 1.0, 0)(torch.zeros(2, 3, 8, 8), torch.zeros(0, 5)).shape == (0, 3, 7, 7)


def test_paste_masks_samples_pixel_centres():
    masks = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[2.3, 1.7, 14.0, 9.2], [0.0, 0.0, 20.0, 13.0], [18.5, 11.0, 20.0, 13.0]])
    pasted = paste_masks_in_image(masks, Boxes(boxes), (13, 20), threshold=0.5)
    assert pasted.dtype == torch.bool and pasted.shape == (3, 13, 20)
    for mask, (x0, y0, x1, y1), result in zip(masks, boxes.tolist(), pasted):
        for row in range(13):
            for column in range(20):
                y = (row + 0.5 - y0) / (y1 - y0) * 5 - 0.5
                x = (column + 0.5 - x0) / (x1 - x0) * 5 - 0.5
                value = bilinear(mask, y, x)
                if abs(value - 0.5) > 1e-4:
                    assert result[row, column].item() == (value >= 0.5)


def test_paste_masks_negative_threshold_gives_probabilities():
    pasted = paste_masks_in_image(torch.full((1, 4, 4), 0.6), torch.tensor([[0.0, 0.0, 8.0, 8.0]]), (8, 8), -1)
    assert pasted.dtype == torch.uint8 and (pasted[0, 2:6, 2:6] == 153).all()


def test_paste_masks_takes_no_masks_and_refuses_oblong_ones():
    assert paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), (6, 7)).shape == (0, 6, 7)
    with pytest.raises((ValueError, AssertionError)):
        paste_masks_in_image(torch.zeros(1, 28, 14), torch.zeros(1, 4), (6, 7))


def test_batched_nms_against_greedy_loops():
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(60, 4, generator=generator) * 30
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1)
    scores, groups = torch.rand(60, generator=generator), torch.randint(0, 3, (60,), generator=generator)

    def iou(a, b):
        w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return w * h / (sum(areas) - w * h)

    kept = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [k for k in kept if groups[k] == groups[index]]
        if all(iou(boxes[k].tolist(), boxes[index].tolist()) <= 0.4 for k in rivals):
            kept.append(index)
    assert batched_nms(boxes, scores, groups, 0.4).tolist() == kept
    assert batched_nms(boxes[:0], scores[:0], groups[:0], 0.4).tolist() == []


def random_frozen(channels: int = 6) -> FrozenBatchNorm2d:
    layer = FrozenBatchNorm2d(channels)
    for index, name in enumerate(("weight", "bias", "running_mean", "running_var")):
        getattr(layer, name).copy_(seeded(channels, seed=index).abs() + 0.1)
    return layer


@pytest.mark.parametrize("requires_grad", [False, True])
def test_frozen_batch_norm_is_evaluation_batch_norm(requires_grad):
    layer, x = random_frozen(), seeded(2, 6, 5, 7).requires_grad_(requires_grad)
    parts = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    assert torch.allclose(layer(x), F.batch_norm(x, *parts, training=False, eps=layer.eps), atol=1e-5)
    assert not list(layer.parameters())


def test_frozen_batch_norm_is_born_an_identity():
    x = seeded(2, 6, 5, 7)
    assert torch.allclose(FrozenBatchNorm2d(6)(x), x, atol=1e-5)


def test_frozen_batch_norm_loads_folded_weights():
    layer = FrozenBatchNorm2d(3)
    missing = layer.load_state_dict({"weight": torch.ones(3) * 2, "bias": torch.ones(3)}, strict=True)
    assert not missing.missing_keys and layer.weight.tolist() == [2, 2, 2]
    assert layer.running_mean.tolist() == [0, 0, 0] and layer.running_var.tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError):
        FrozenBatchNorm2d(3).load_state_dict({"bias": torch.ones(3)}, strict=True)


def test_conversion_to_frozen_and_back_keeps_the_function():
    model = nn.Sequential(Conv2d(3, 4, 1, norm=nn.BatchNorm2d(4, eps=1e-3)), nn.BatchNorm2d(4))
    for norm in (model[0].norm, model[1]):
        norm.running_mean.copy_(seeded(4))
        norm.running_var.copy_(seeded(4).abs() + 0.5)
    model.eval()
    x = seeded(2, 3, 5, 5)
    expected = model(x)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert frozen is model and isinstance(model[0].norm, FrozenBatchNorm2d) and isinstance(model[1], FrozenBatchNorm2d)
    assert torch.allclose(model.train()(x), expected, atol=1e-5)
    assert isinstance(FrozenBatchNorm2d.convert_frozen_batchnorm(nn.BatchNorm2d(2)), FrozenBatchNorm2d)
    thawed = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(model).eval()
    assert isinstance(thawed[1], nn.BatchNorm2d) and torch.allclose(thawed(x), expected, atol=1e-5)


def test_get_norm_by_name_and_function():
    assert get_norm("", 8) is None and get_norm(None, 8) is None
    kinds = {"BN": nn.BatchNorm2d, "FrozenBN": FrozenBatchNorm2d, "SyncBN": nn.SyncBatchNorm, "GN": nn.GroupNorm}
    for name, kind in kinds.items():
        assert type(get_norm(name, 32)) is kind
    assert get_norm(lambda channels: nn.Identity(channels), 8).__class__ is nn.Identity
    assert get_norm("GN", 64).num_groups == 32
    with pytest.raises(KeyError):
        get_norm("BatchNorm", 8)


def test_layer_norm_over_channels():
    x, layer = seeded(2, 6, 4, 5), get_norm("LN", 6)
    with torch.no_grad():
        layer.weight.copy_(seeded(6, seed=1))
        layer.bias.copy_(seeded(6, seed=2))
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (6,), layer.weight, layer.bias, 1e-6).permute(0, 3, 1, 2)
    assert torch.allclose(layer(x), expected, atol=1e-5)


MODES_AND_SPLITS = [("", 2, 4), ("N", 1, 3)]  # stats_mode, images of the first process, images of both


def sync_worker(rank: int, folder: str) -> None:
    """One of two processes; this file is its program."""
    from detectron2.utils import comm

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    results = {}
    for mode, first, total in MODES_AND_SPLITS:
        share = slice(0, first) if rank == 0 else slice(first, total)
        x = seeded(total, 4, 5, 6)[share].clone().requires_grad_()
        layer = NaiveSyncBatchNorm(4, stats_mode=mode)
        y = layer(x)
        (y**3).sum().backward()
        results[mode] = (y.detach(), x.grad, layer.running_mean)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()  # with older torch a process that leaves early can hang the other's last exchange
    dist.destroy_process_group()


def test_naive_sync_batch_norm_on_two_processes_equals_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in range(2)]
    workers = [subprocess.Popen(command, env=environment) for command in commands]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for mode, _, total in MODES_AND_SPLITS:
        x, layer = seeded(total, 4, 5, 6).requires_grad_(), nn.BatchNorm2d(4)
        y = layer(x)
        (y**3).sum().backward()
        for index, expected in enumerate((y.detach(), x.grad)):
            joined = torch.cat([result[mode][index] for result in results])
            assert torch.allclose(joined, expected, atol=1e-4)
        assert torch.allclose(results[0][mode][2], layer.running_mean, atol=1e-5)


def test_conv_applies_norm_then_activation():
    conv = Conv2d(3, 4, 3, padding=1, bias=False, norm=nn.GroupNorm(2, 4), activation=F.relu)
    x = seeded(2, 3, 6, 7)
    assert torch.equal(conv(x), F.relu(conv.norm(F.conv2d(x, conv.weight, padding=1))))
    assert conv(x[:0]).shape == (0, 4, 6, 7)
    conv(x[:0]).sum().backward()
    assert conv.weight.grad.abs().sum() == 0


def test_cross_entropy_of_nothing_is_a_differentiable_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and logits.grad.shape == (0, 5)
    logits, labels = seeded(4, 5), torch.tensor([0, 1, 4, 2])
    assert torch.equal(cross_entropy(logits, labels), F.cross_entropy(logits, labels))


def test_small_helpers():
    x = seeded(2, 3)
    assert cat([x]) is x and torch.equal(cat([x, x], dim=1), torch.cat([x, x], dim=1))
    assert ShapeSpec(channels=3, stride=4) == ShapeSpec(3, None, None, 4)


def test_depthwise_separable_is_two_convolutions():
    block = DepthwiseSeparableConv2d(4, 6, norm2="BN", activation2=F.relu).eval()
    x = seeded(1, 4, 5, 5)
    depthwise = F.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=1, groups=4)
    pointwise = F.conv2d(depthwise, block.pointwise.weight)
    assert torch.allclose(block(x), F.relu(block.pointwise.norm(pointwise)), atol=1e-6)


@pytest.mark.parametrize("separable", [False, True])
def test_aspp_shapes_and_names(separable):
    aspp = ASPP(4, 8, [1, 2, 3], norm="BN", activation=F.relu, use_depthwise_separable_conv=separable).eval()
    assert aspp(seeded(2, 4, 9, 11)).shape == (2, 8, 9, 11)
    names = dict(aspp.named_parameters())
    assert names["project.weight"].shape == (8, 40, 1, 1) and "convs.4.1.bias" in names and "convs.0.bias" not in names


def test_aspp_pooling_sees_the_whole_image():
    torch.manual_seed(0)
    aspp = ASPP(2, 3, [1, 2, 3], norm="", activation=nn.Identity()).eval()
    with torch.no_grad():
        aspp.project.weight[:, :12] = 0  # leaves the pooled view only
    x = seeded(1, 2, 6, 6)
    result = aspp(x)
    assert torch.allclose(result, result[:, :, :1, :1].expand_as(result), atol=1e-6)
    other = x.clone()
    other[0, :, 5, 5] += 10
    assert not torch.allclose(aspp(other)[0, :, 0, 0], result[0, :, 0, 0])


def test_freezing_a_block():
    class Block(CNNBlockBase):
        def __init__(self):
            super().__init__(3, 4, 1)
            self.conv = Conv2d(3, 4, 1, norm=nn.BatchNorm2d(4))

    block = Block().freeze()
    assert isinstance(block.conv.norm, FrozenBatchNorm2d) and not any(p.requires_grad for p in block.parameters())


if __name__ == "__main__":
    sync_worker(int(sys.argv[1]), sys.argv[2])
