"""Schedules against closed forms, optimizers against their rules."""

import pytest
import torch
from detectron2.config import get_cfg

from pnm.errors import UserError
from pnm.projects.launcher.config import add_launcher_config
from pnm.projects.launcher.solver import lr_scheduler_from_config, optimizer_from_config, refuse_states_of_others


def config(**solver):
    cfg = get_cfg()
    add_launcher_config(cfg)
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


@pytest.mark.parametrize("ending", [0.0, 0.1])
def test_polynomial_decay(ending):
    cfg = config(LR_SCHEDULER_NAME="WarmupPolyLR", BASE_LR=0.4, MAX_ITER=50, WARMUP_ITERS=10, WARMUP_FACTOR=0.01)
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = ending
    model = torch.nn.Linear(1, 1)
    optimizer = optimizer_from_config(cfg, model)
    scheduler = lr_scheduler_from_config(cfg, optimizer)
    rates = []
    for _ in range(50):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    decay = [0.4 * max((1 - k / 50) ** 0.9, ending) for k in range(50)]
    assert rates[10:] == pytest.approx(decay[10:], rel=1e-9)
    # The warm-up rises linearly from WARMUP_FACTOR of the start to the decay's value at its end.
    assert rates[:10] == pytest.approx([0.004 + (decay[10] - 0.004) * k / 10 for k in range(10)], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("ADAMW", torch.optim.AdamW)]
)
def test_optimizers_follow_the_parameter_rules(name, kind):
    cfg = config(OPTIMIZER=name, BASE_LR=0.1, WEIGHT_DECAY=0.05, WEIGHT_DECAY_NORM=0.0, WEIGHT_DECAY_BIAS=0.02)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    optimizer = optimizer_from_config(cfg, model)
    assert isinstance(optimizer, kind)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {id(model[0].weight): 0.05, id(model[0].bias): 0.02, id(model[1].weight): 0.0, id(model[1].bias): 0.02}
    assert decay == expected


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_head_learns_faster(name):
    cfg = config(OPTIMIZER=name, BASE_LR=0.1, HEAD_LR_FACTOR=10.0, WEIGHT_DECAY=0.05, MOMENTUM=0.8, NESTEROV=True)
    model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(1, 1), "head": torch.nn.BatchNorm1d(1)})
    optimizer = optimizer_from_config(cfg, model)
    rules = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    slow, fast = [{rules[id(p)] for p in model[part].parameters()} for part in ("backbone", "head")]
    assert slow == {(0.1, 0.05)} and fast == {(1.0, 0.0)}  # norms don't decay, by default
    if name == "SGD":
        assert all(group["momentum"] == 0.8 and group["nesterov"] for group in optimizer.param_groups)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_head_factor(factor):
    with pytest.raises(UserError, match=f"SOLVER.HEAD_LR_FACTOR is {factor}, expected a positive number"):
        optimizer_from_config(config(HEAD_LR_FACTOR=factor), torch.nn.Linear(1, 1))


def test_head_of_a_model_without_backbone():
    with pytest.raises(UserError, match="SOLVER.HEAD_LR_FACTOR is 10.0, but Linear has no backbone: set it to 1.0"):
        optimizer_from_config(config(HEAD_LR_FACTOR=10.0), torch.nn.Linear(1, 1))


def test_gradients_are_clipped_under_adam():
    cfg = config(OPTIMIZER="ADAM", BASE_LR=1.0)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.5
    model = torch.nn.Linear(1, 1)
    optimizer = optimizer_from_config(cfg, model)
    model.weight.grad = torch.tensor([[100.0]])
    model.bias.grad = torch.tensor([0.1])
    optimizer.step()
    assert model.weight.grad.item() == 0.5 and model.bias.grad.item() == pytest.approx(0.1)


def test_unknown_optimizer():
    with pytest.raises(UserError, match="SOLVER.OPTIMIZER is 'LION', expected one of SGD, ADAM, ADAMW"):
        optimizer_from_config(config(OPTIMIZER="LION"), torch.nn.Linear(1, 1))


@pytest.mark.parametrize("own", ["SGD", "ADAM", "ADAMW"])
@pytest.mark.parametrize("other", ["SGD", "ADAM", "ADAMW"])
def test_a_state_of_another_optimizer_is_refused(own, other):
    model = torch.nn.Linear(2, 1)
    state = optimizer_from_config(config(OPTIMIZER=other), model).state_dict()
    optimizer = refuse_states_of_others(optimizer_from_config(config(OPTIMIZER=own), model))
    if own == other:
        optimizer.load_state_dict(state)
    else:
        with pytest.raises(UserError, match="of another optimizer, or of another model"):
            optimizer.load_state_dict(state)
    more = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    wider = refuse_states_of_others(optimizer_from_config(config(OPTIMIZER=other), more))
    with pytest.raises(UserError, match="of another optimizer, or of another model"):
        wider.load_state_dict(state)
