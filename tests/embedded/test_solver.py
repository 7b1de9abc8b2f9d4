"""Optimizer groups, clipping and learning rates against closed forms."""

import math

import detectron2
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver import (
    LRMultiplier,
    WarmupParamScheduler,
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import PolynomialDecayParamScheduler
from torch import nn

import pnm  # noqa: F401

EMBEDDED = "embedded" in detectron2.__version__


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.gn = nn.GroupNorm(2, 4)
        self.fc = nn.Linear(4, 2)
        self.again = self.fc
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def rules(model, **kwargs):
    """{parameter name: (lr, weight decay)} that the groups give."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = get_default_optimizer_params(model, **kwargs)
    found = [(names[p], (g.get("lr"), g.get("weight_decay"))) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found)), "a parameter is in two groups"
    return dict(found)


def test_without_rules_all_trainable_parameters_are_one_group():
    groups = get_default_optimizer_params(Net())
    assert len(groups) == 1 and set(groups[0]) == {"params"}
    assert len(groups[0]["params"]) == 8


def test_rules_reach_the_parameters_they_name():
    found = rules(
        Net(),
        base_lr=0.1,
        weight_decay=0.01,
        weight_decay_norm=0.0,
        bias_lr_factor=2.0,
        weight_decay_bias=0.5,
        lr_factor_func=lambda name: 0.25 if name.startswith("conv") else 1.0,
    )
    assert found["conv.weight"] == (0.025, 0.01)
    assert found["bn.weight"] == found["gn.weight"] == (0.1, 0.0)
    assert found["conv.bias"] == found["bn.bias"] == found["fc.bias"] == (0.2, 0.5)
    assert "frozen.weight" not in found


def test_overrides_by_parameter_name_leave_the_argument_alone():
    overrides = {"weight": {"lr": 3.0}}
    found = rules(Net(), base_lr=0.1, weight_decay_bias=0.5, overrides=overrides)
    assert found["fc.weight"] == (3.0, None) and found["fc.bias"] == (0.1, 0.5)
    if EMBEDDED:
        assert overrides == {"weight": {"lr": 3.0}}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"bias_lr_factor": 2.0},
        {"lr_factor_func": lambda name: 1.0},
        {"overrides": {"bias": {}}, "weight_decay_bias": 0.1},
    ],
)
def test_rules_that_lack_their_base_are_refused(kwargs):
    with pytest.raises(ValueError, match=r"base_lr|bias"):
        get_default_optimizer_params(Net(), **kwargs)


def config(**solver):
    cfg = get_cfg()
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def rates(cfg, iterations):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(iterations - 1):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def linear_warmup(iteration, length, factor, reached):
    return factor + (reached - factor) * iteration / length


def test_multi_step_with_linear_warmup():
    cfg = config(BASE_LR=2.0, MAX_ITER=40, STEPS=(20, 30), WARMUP_ITERS=10, WARMUP_FACTOR=0.1, GAMMA=0.5)
    expected = [2.0 * linear_warmup(i, 10, 0.1, 1.0) for i in range(10)]
    expected += [2.0 * 0.5 ** ((i >= 20) + (i >= 30)) for i in range(10, 40)]
    assert rates(cfg, 40) == pytest.approx(expected, rel=1e-12)


def test_steps_beyond_the_end_are_ignored_with_a_warning(caplog):
    cfg = config(BASE_LR=1.0, MAX_ITER=10, STEPS=(5, 50), WARMUP_ITERS=0)
    assert rates(cfg, 10) == pytest.approx([1.0] * 5 + [0.1] * 5)
    assert "STEPS" in caplog.text


def test_cosine_with_constant_warmup():
    cfg = config(
        LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR=1.0, BASE_LR_END=0.2, MAX_ITER=50, WARMUP_ITERS=5,
        WARMUP_FACTOR=0.3, WARMUP_METHOD="constant",
    )  # fmt: skip
    cosine = [0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * i / 50)) for i in range(50)]
    assert rates(cfg, 50) == pytest.approx([0.3] * 5 + cosine[5:], rel=1e-9)


def test_rescaled_schedules_start_after_the_warmup():
    cfg = config(
        LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR=1.0, MAX_ITER=50, WARMUP_ITERS=10, WARMUP_FACTOR=0.5,
        RESCALE_INTERVAL=True,
    )  # fmt: skip
    expected = [linear_warmup(i, 10, 0.5, 1.0) for i in range(10)]
    expected += [0.5 * (1 + math.cos(math.pi * (i - 10) / 40)) for i in range(10, 50)]
    assert rates(cfg, 50) == pytest.approx(expected, rel=1e-9)


FIXED_GAMMA = {"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "NUM_DECAYS": 3, "GAMMA": 0.5, "WARMUP_ITERS": 0}


def test_fixed_gamma_decays_at_equal_distances():
    cfg = config(BASE_LR=1.0, MAX_ITER=40, **FIXED_GAMMA)
    assert rates(cfg, 40) == pytest.approx([0.5 ** (i // 10) for i in range(40)])


@pytest.mark.skipif(not EMBEDDED, reason="Detectron2 fails after the last iteration of this schedule")
def test_fixed_gamma_survives_the_step_after_the_last_iteration():
    assert rates(config(BASE_LR=1.0, MAX_ITER=40, **FIXED_GAMMA), 41)[-1] == pytest.approx(0.5**3)


def test_polynomial_decay_through_the_building_blocks():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    multiplier = WarmupParamScheduler(PolynomialDecayParamScheduler(1.0, 0.9), 0.1, 0.25)
    scheduler = LRMultiplier(optimizer, multiplier, max_iter=20)
    for i in range(20):
        decayed = (1 - i / 20) ** 0.9
        warm = linear_warmup(i, 5, 0.1, (1 - 0.25) ** 0.9)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * (warm if i < 5 else decayed))
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    "solver",
    [{"LR_SCHEDULER_NAME": "Nothing"}, {"WARMUP_METHOD": "nothing"}],
)
def test_unknown_schedules_are_refused(solver):
    with pytest.raises(ValueError, match=r"(?i)nothing"):
        rates(config(**solver), 1)


def test_groups_keep_their_ratio_and_the_state_resumes():
    cfg = config(BASE_LR=1.0, MAX_ITER=10, STEPS=(4,), WARMUP_ITERS=2)

    def make():
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.5)]
        optimizer = torch.optim.SGD(groups, lr=1.0)
        return optimizer, build_lr_scheduler(cfg, optimizer)

    optimizer, scheduler = make()
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    resumed_optimizer, resumed = make()
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert set(scheduler.state_dict()) == {"base_lrs", "last_epoch"}
    for _ in range(5):
        first, second = (group["lr"] for group in resumed_optimizer.param_groups)
        assert first == optimizer.param_groups[0]["lr"] and second == pytest.approx(first / 2)
        for part in (optimizer, scheduler, resumed_optimizer, resumed):
            part.step()


def stepped(clip_type, gradients, limit):
    """How far one SGD step at rate 1 moves parameters with the given gradients."""
    cfg = config(BASE_LR=1.0, MOMENTUM=0.0, WEIGHT_DECAY=0.0)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = limit
    model = nn.ParameterList(nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients)
    optimizer = build_optimizer(cfg, model)
    for parameter, gradient in zip(model, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()
    return [-parameter.detach() for parameter in model]


GRADIENTS = [torch.tensor([3.0, -4.0]), torch.tensor([0.3, 0.4]), torch.tensor([12.0])]


def test_clipping_by_value():
    expected = [gradient.clamp(-1.0, 1.0) for gradient in GRADIENTS]
    torch.testing.assert_close(stepped("value", GRADIENTS, 1.0), expected)


def test_clipping_by_the_norm_of_each_parameter():
    expected = [gradient / max(1.0, float(gradient.norm()) / 1.0) for gradient in GRADIENTS]
    torch.testing.assert_close(stepped("norm", GRADIENTS, 1.0), expected, rtol=1e-5, atol=1e-6)


def test_unknown_clipping_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        stepped("nothing", GRADIENTS, 1.0)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_optimizer_classes_can_be_made_to_clip(kind):
    cfg = config()
    assert maybe_add_gradient_clipping(cfg, kind) is kind
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.01
    clipping = maybe_add_gradient_clipping(cfg, kind)
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = clipping([parameter], lr=0.1)
    assert issubclass(clipping, kind) and "Clip" in clipping.__name__
    parameter.grad = torch.tensor([5.0, -0.001])
    optimizer.step()
    torch.testing.assert_close(parameter.grad, torch.tensor([0.01, -0.001]))
