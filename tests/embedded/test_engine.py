"""Training loops and hooks on a model of two weights."""

import copy
import math
import sys
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import (
    CallbackHook,
    EvalHook,
    HookBase,
    IterationTimer,
    LRScheduler,
    PeriodicCheckpointer,
    PeriodicWriter,
    PreciseBN,
)
from detectron2.utils.events import EventWriter, get_event_storage, has_event_storage
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

sys.path.append(str(Path(__file__).parent))  # spawned processes inherit it
from toy_runs import Toy, batches, sgd, trainer  # noqa: E402

import pnm  # noqa: F401


@pytest.mark.parametrize("zero_first", [False, True])
def test_steps_are_plain_sgd_steps_and_losses_are_recorded(zero_first):
    loop = trainer(zero_grad_before_forward=zero_first)
    recorded = []
    loop.register_hooks([CallbackHook(after_step=lambda t: recorded.append(copy.copy(t.storage.latest())))])
    loop.train(0, 5)

    model, data = Toy(), batches()
    optimizer = sgd(model)
    for i in range(5):
        losses = model(next(data))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        for name, loss in losses.items():
            assert recorded[i][name] == (pytest.approx(loss.item()), i)
        assert recorded[i]["total_loss"][0] == pytest.approx(sum(losses.values()).item())
        assert {"data_time", "rank_data_time"} <= recorded[i].keys()
    torch.testing.assert_close(loop.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert loop.iter == 5


def test_a_single_loss_is_the_total_loss_and_periods_thin_the_records():
    class Single(Toy):
        def forward(self, batch):
            return super().forward(batch)["loss_fit"]

    loop = trainer(Single(), gather_metric_period=2, async_write_metrics=True)
    loop.train(0, 5)
    storage = loop.storage
    assert [at for _, at in storage.history("total_loss").values()] == [1, 3]
    assert "loss_fit" not in storage.histories()


def test_a_loss_that_is_not_finite_stops_training():
    loop = trainer()
    ended = []

    def break_at_2(looping):
        if looping.iter == 2:
            looping.model.fc.weight.data.fill_(math.inf)

    loop.register_hooks([CallbackHook(before_step=break_at_2, after_train=lambda looping: ended.append(looping.iter))])
    with pytest.raises(FloatingPointError, match="iteration"):
        loop.train(0, 5)
    assert ended == [2] and not has_event_storage()


class Recorder(HookBase):
    def __init__(self, name, log):
        self.name, self.log = name, log

    def note(self, moment):
        self.log.append((self.name, moment, self.trainer.iter))

    def before_train(self):
        self.note("before_train")

    def after_train(self):
        self.note("after_train")

    def before_step(self):
        assert self.trainer.storage.iter == self.trainer.iter
        self.note("before_step")

    def after_backward(self):
        assert self.trainer.model.fc.weight.grad is not None
        self.note("after_backward")

    def after_step(self):
        self.note("after_step")


def test_hooks_run_in_order_around_everything():
    log = []
    loop = trainer()
    loop.register_hooks([Recorder("a", log), None, Recorder("b", log)])
    loop.train(3, 5)
    moments = [("before_train", 3)]
    moments += [(moment, i) for i in (3, 4) for moment in ("before_step", "after_backward", "after_step")]
    moments += [("after_train", 5)]
    assert log == [(name, *moment) for moment in moments for name in "ab"]


class Counting(HookBase):
    def __init__(self):
        self.count = 0

    def after_step(self):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    def make():
        loop = trainer()
        loop.scheduler = torch.optim.lr_scheduler.ExponentialLR(loop.optimizer, 0.9)
        counter = Counting()
        loop.register_hooks([counter, LRScheduler(), PeriodicCheckpointer(checkpointer(loop), 3)])
        return loop, counter

    def checkpointer(loop):
        return DetectionCheckpointer(loop.model, str(tmp_path), trainer=loop)

    whole, _ = make()
    whole.train(0, 8)
    interrupted, _ = make()
    interrupted.train(0, 3)
    resumed, counter = make()
    checkpointer(resumed).resume_or_load("", resume=True)
    assert resumed.iter == 2 and counter.count == 3
    for _ in range(3):
        next(resumed._data_loader_iter)  # the toy loader starts from its beginning
    resumed.train(resumed.iter + 1, 8)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert resumed.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]
    assert counter.count == 8


def test_loaders_can_be_replaced():
    loop = trainer()
    loop.train(0, 1)
    loop.reset_data_loader(lambda: iter([(torch.zeros(1, 2), torch.zeros(1))]))
    loop.train(1, 2)
    assert loop.storage.latest()["loss_fit"][0] == pytest.approx(loop.storage.latest()["total_loss"][0], abs=0.2)


@pytest.mark.parametrize(("period", "expected"), [(0, [6]), (2, [1, 3, 6]), (4, [3, 6])])
def test_evaluations_come_periodically_and_at_the_end(period, expected):
    loop, at = trainer(), []

    def evaluate():
        at.append(loop.iter)
        return {"box": {"AP": 10.0 + loop.iter}, "other": 1}

    loop.register_hooks([EvalHook(period, evaluate)])
    loop.train(0, 6)
    assert at == expected
    assert loop.storage.latest()["box/AP"][0] == 16.0 and loop.storage.latest()["other"][0] == 1.0


def test_evaluations_must_be_numbers():
    loop = trainer()
    loop.register_hooks([EvalHook(0, lambda: {"AP": "high"})])
    with pytest.raises(ValueError, match="AP"):
        loop.train(0, 1)


def test_writers_write_periodically_and_are_closed():
    log = []

    class Writer(EventWriter):
        def write(self):
            log.append(get_event_storage().iter)

        def close(self):
            log.append("closed")

    loop = trainer()
    loop.register_hooks([PeriodicWriter([Writer()], period=3)])
    loop.train(0, 8)
    assert log == [2, 5, 7, 8, "closed"]


def test_the_timer_leaves_out_the_first_iterations(caplog):
    loop = trainer()
    loop.register_hooks([IterationTimer(warmup_iter=3)])
    with caplog.at_level("INFO"):
        loop.train(0, 6)
    assert [at for _, at in loop.storage.history("time").values()] == [2, 3, 4, 5]
    assert all(0 <= seconds < 5 for seconds, _ in loop.storage.history("time").values())


def test_rates_follow_a_multiplier_and_are_recorded():
    loop = trainer()
    loop.register_hooks([LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0))])
    loop.train(0, 4)
    assert [value for value, _ in loop.storage.history("lr").values()] == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_the_recorded_rate_is_that_of_the_largest_group():
    def group_of(*groups):
        parameters = [{"params": [nn.Parameter(torch.zeros(1)) for _ in range(n)], "lr": lr} for n, lr in groups]
        return LRScheduler.get_best_param_group_id(torch.optim.SGD(parameters, lr=1.0))

    assert group_of((1, 0.1), (3, 0.2), (2, 0.3)) == 1
    assert group_of((1, 0.1), (1, 0.2), (1, 0.2)) == 1


def test_precise_batch_norm_averages_over_batches():
    torch.manual_seed(0)
    data = [torch.randn(8, 3) * 2 + 5 for _ in range(6)]

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.bn(x).sum()

    model = Norm()
    PreciseBN(0, model, data, 6).update_stats()
    everything = torch.cat(data)
    torch.testing.assert_close(model.bn.running_mean, everything.mean(0))
    torch.testing.assert_close(model.bn.running_var, everything.var(0, unbiased=False), rtol=1e-3, atol=1e-3)
