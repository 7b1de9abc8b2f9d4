"""The losses against a loop, over processes too; every network on odd inputs."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm

from pnm.errors import UserError
from pnm.projects.segfix.losses import rare_class_cross_entropy
from pnm.projects.segfix.networks import NETWORKS, build_network
from pnm.projects.semantic_networks.small_unet import SmallUNet

IGNORED = 255


def by_loop(logits, targets):
    """Weights are 1 minus the class's frequency among the counted pixels; the sum of weighted losses over theirs."""
    log_probs = torch.log_softmax(logits.detach(), 1)
    pixels = [(n, y, x) for n, y, x in np.ndindex(tuple(targets.shape)) if targets[n, y, x] != IGNORED]
    kinds = [int(targets[place]) for place in pixels]
    weights = [1 - kinds.count(k) / len(kinds) for k in kinds]
    losses = [-float(log_probs[n, k, y, x]) for (n, y, x), k in zip(pixels, kinds)]
    return sum(w * value for w, value in zip(weights, losses)) / sum(weights)


def batch(seed, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, 6, generator=generator, requires_grad=True)
    targets = torch.randint(0, classes, (2, 5, 6), generator=generator)
    targets[:, :2][torch.rand(2, 2, 6, generator=generator) > 0.5] = IGNORED
    return logits, targets


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop(seed):
    logits, targets = batch(seed)
    assert rare_class_cross_entropy(logits, targets, IGNORED).item() == pytest.approx(
        by_loop(logits, targets), rel=1e-5
    )


def test_balanced_classes_weigh_alike():
    """All classes being as frequent, the loss is torch's mean, and so is its gradient."""
    logits = torch.randn(1, 4, 2, 8, requires_grad=True)
    targets = torch.arange(16).reshape(1, 2, 8) % 4
    plain = torch.nn.functional.cross_entropy(logits, targets)
    loss = rare_class_cross_entropy(logits, targets, IGNORED)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, plain)))


@pytest.mark.parametrize("label", [IGNORED, 0, 3])
def test_nothing_to_learn_is_a_zero_with_a_gradient(label):
    logits = torch.randn(2, 4, 5, 6, requires_grad=True)
    loss = rare_class_cross_entropy(logits, torch.full((2, 5, 6), label), IGNORED)
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0


def test_ignored_pixels_change_nothing():
    logits, targets = batch(0)
    other = logits.detach().clone()
    other[:, :, :2][(targets[:, :2] == IGNORED)[:, None].expand(-1, 4, -1, -1)] = 9.0
    torch.testing.assert_close(
        rare_class_cross_entropy(logits, targets, IGNORED), rare_class_cross_entropy(other, targets, IGNORED)
    )


def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(monkeypatch):
    """Each sees the counts of both."""
    logits, targets = batch(1)
    whole = rare_class_cross_entropy(logits, targets, IGNORED)
    counts = torch.bincount(targets[targets != IGNORED], minlength=4).float()
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.copy_(counts))
    parts = [rare_class_cross_entropy(logits[n : n + 1], targets[n : n + 1], IGNORED) for n in range(2)]
    torch.testing.assert_close(sum(parts) / 2, whole)


@pytest.mark.parametrize(("name", "bins"), [*((name, 8) for name in NETWORKS), ("small_unet", 16)])
def test_networks(name, bins):
    network = build_network(name, bins, head_channels=32)
    logits = network(torch.randn(2, 3, 64, 96))
    stride = 2 if name.endswith("stride2") or name == "small_unet" else 4
    assert logits.boundary.shape == (2, 2, 64 // stride, 96 // stride)
    assert logits.direction.shape == (2, bins, 64 // stride, 96 // stride)
    (logits.boundary.mean() + logits.direction.mean()).backward()
    unused = [key for key, value in network.named_parameters() if value.grad is None]
    assert not [key for key in unused if not key.startswith("backbone.backbone.")], unused


def test_norms_and_names():
    network = build_network("small_unet", 8, norm="SyncBN")
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in network.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    with pytest.raises(UserError, match="MODEL.SEGFIX.NETWORK is 'hrnet', expected one of hrnet_w18, "):
        build_network("hrnet", 8)
    with pytest.raises(UserError, match="MODEL.SEGFIX.NORM is 'GN', expected BN or SyncBN"):
        build_network("small_unet", 8, norm="GN")


def test_the_small_unet_of_bpr_is_the_same_one():
    """Checkpoints of patch_unet keep their names."""
    from pnm.projects.bpr.networks import PatchUNet

    names = set(SmallUNet(4).state_dict())
    assert set(PatchUNet().state_dict()) == names | {"predictor.weight", "predictor.bias"}
    assert {"stem.0.weight", "down.2.1.1.running_var", "up.0.0.0.weight"} <= names
