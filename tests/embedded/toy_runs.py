"""A model of two weights, and what spawned processes run in the tests.

Spawned processes import this file by its own name, as a Detectron2 clone on the path brings a ``tests`` package
that hides this folder's.
"""
# ruff: noqa: NPY002 (the engine seeds and draws from the global generator)

import json

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import SimpleTrainer, create_ddp_model, launch
from detectron2.utils import comm
from torch import nn

import pnm  # noqa: F401


class Toy(nn.Module):
    """Two losses of one linear layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1)
        nn.init.constant_(self.fc.weight, 0.5)
        nn.init.constant_(self.fc.bias, 0.0)

    def forward(self, batch):
        x, y = batch
        return {"loss_fit": (self.fc(x)[:, 0] - y).square().mean(), "loss_size": 0.1 * self.fc.weight.square().sum()}


def batches(size=4):
    generator = torch.Generator().manual_seed(7)
    while True:
        x = torch.randn(size, 2, generator=generator)
        yield x, x.sum(1)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def train_half(folder):
    """Two processes with half of each batch."""
    rank, world = comm.get_rank(), comm.get_world_size()

    def halves():
        for x, y in batches(4):
            yield x[rank::world], y[rank::world]

    model = create_ddp_model(Toy(), device_ids=None)
    loop = SimpleTrainer(model, halves(), sgd(model))
    loop.train(0, 4)
    if comm.is_main_process():
        total = [value for value, _ in loop.storage.history("total_loss").values()]
        DetectionCheckpointer(model, folder).save("ddp", losses=total)
    comm.synchronize()  # a process that leaves while the other is at work may abort


def on_machine(rank, address, folder):
    """What a user runs on one of two machines with one process each."""
    launch(train_half, 1, num_machines=2, machine_rank=rank, dist_url=address, args=(folder,))


def wrap():
    assert create_ddp_model(Toy()).device_ids is None


def fail(which):
    if comm.get_rank() == which:
        raise ValueError(f"process {which} has a problem")
    comm.synchronize()


def exchange(folder):
    rank = comm.get_rank()
    np.random.seed(rank)
    losses = {"b": torch.tensor(float(rank)), "a": torch.tensor(10.0 * rank + 1)}
    seen = {
        "gathered": comm.all_gather({"rank": rank, "array": list(range(rank))}),
        "at_1": comm.gather(rank, dst=1),
        "machine": (comm.get_local_rank(), comm.get_local_size(), comm.get_world_size()),
        "within_machine": comm.all_gather(rank, group=comm.get_local_process_group()),
        "seed": comm.shared_random_seed(),
        "mean": {key: float(value) for key, value in comm.reduce_dict(losses).items()},
        "sum": {key: float(value) for key, value in comm.reduce_dict(losses, average=False).items()},
    }
    comm.synchronize()
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(seen, file)


def trainer(model=None, **kwargs):
    model = model or Toy()
    return SimpleTrainer(model, batches(), sgd(model), **kwargs)
