"""What makes training on CPUs fast changes rounding, and nothing else."""

import copy
import logging

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from pnm.projects.launcher import cpu_training
from pnm.projects.launcher.cpu_training import fuse_updates, share_cores, to_fast_format, train_in_bfloat16

OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.01),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))


def stepped(model, optimizer, number, first=0):
    for k in range(first, first + number):
        torch.manual_seed(k)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)  # contiguous, whatever the parameter's format
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("fast_at", ["both", "start", "end"])
def test_fused_updates_are_the_plain_ones(name, fast_at):
    """Through a checkpoint, too, made by or for a model in the ordinary format: fused kernels would take its states
    in the wrong order."""
    plain = network()
    stepped(plain, OPTIMIZERS[name](plain.parameters()), 6)
    before, after = network(), network()
    for model, at in ((before, "end"), (after, "start")):
        if fast_at != at:
            to_fast_format(model)
    optimizer = fuse_updates(OPTIMIZERS[name](before.parameters()))
    stepped(before, optimizer, 3)
    after.load_state_dict(before.state_dict())
    resumed = fuse_updates(OPTIMIZERS[name](after.parameters()))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(group["fused"] for group in resumed.param_groups)
    stepped(after, resumed, 3, first=3)
    for a, b in zip(plain.parameters(), after.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_checkpoints_of_plain_updates_go_on_fused_and_the_other_way_round():
    plain, fused = (OPTIMIZERS["AdamW"](network().parameters()) for _ in range(2))
    fuse_updates(fused).load_state_dict(plain.state_dict())
    assert all(group["fused"] for group in fused.param_groups)
    meta = fuse_updates(OPTIMIZERS["AdamW"](network().to("meta").parameters()))
    assert not any(group["fused"] for group in meta.param_groups)  # as on a GPU


def test_losses_are_computed_in_bfloat16_in_training_alone(monkeypatch):
    monkeypatch.setattr(cpu_training, "has_bfloat16", lambda: True)
    model = to_fast_format(network())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    train_in_bfloat16(model)
    x = torch.randn(2, 3, 16, 16)
    assert model.train()(x).dtype == torch.bfloat16
    model(x).float().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert model.eval()(x).dtype == torch.float32


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.pooler = ROIPooler(4, [1 / 4], 0, "ROIAlignV2")

    def forward(self, features, boxes):
        return self.pooler([features], boxes)


def test_regions_keep_their_coordinates_in_bfloat16(monkeypatch):
    """As bfloat16 has them, from 128 on, they would lie at whole pixels."""
    monkeypatch.setattr(cpu_training, "has_bfloat16", lambda: True)
    ramp = torch.linspace(-1, 1, 80).expand(1, 1, 80, 80).bfloat16()
    boxes = [Boxes(torch.tensor([[200.45, 130.55, 240.4, 170.6]]))]
    expected = Pooling()(ramp.float(), boxes)
    model = Pooling().train()
    train_in_bfloat16(model)
    assert torch.allclose(model(ramp, boxes).float(), expected, atol=1e-6)


def test_a_processor_without_bfloat16_is_told_of(monkeypatch, caplog):
    monkeypatch.setattr(cpu_training, "has_bfloat16", lambda: False)
    model = network()
    with caplog.at_level(logging.WARNING):
        train_in_bfloat16(model)
    assert "SOLVER.AMP.ENABLED changes nothing" in caplog.text
    assert model.train()(torch.randn(2, 3, 16, 16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("processes", "environment", "expected"), [(1, None, 4), (2, None, 2), (8, None, 1), (2, "3", 4)]
)
def test_processes_share_the_cores(processes, environment, expected, monkeypatch):
    threads = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    monkeypatch.setattr(cpu_training, "usable_cores", lambda: 4)
    monkeypatch.setattr(cpu_training.comm, "get_local_size", lambda: processes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    share_cores()
    assert threads == ([expected] if expected != 4 else [])
