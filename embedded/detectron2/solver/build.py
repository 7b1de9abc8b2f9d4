"""From a config and a model to an optimizer and its schedule."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import nn
from torch.nn.utils import clip_grad_value_
from torch.optim import SGD, Optimizer

from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

__all__ = [
    "build_lr_scheduler",
    "build_optimizer",
    "get_default_optimizer_params",
    "maybe_add_gradient_clipping",
]

# what SOLVER.WEIGHT_DECAY_NORM applies to; synchronized variants derive from these
_NORMS = (nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm) + tuple(
    getattr(nn, f"{kind}Norm{dimensions}d") for kind in ("Batch", "Instance") for dimensions in (1, 2, 3)
)


def _clip_each(parameters: Iterable[nn.Parameter], max_norm: float, norm_type: float) -> None:
    """What ``clip_grad_norm_`` does to each parameter by itself, in a few calls for all."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    by_kind: dict[tuple, list[torch.Tensor]] = {}
    for gradient in gradients:
        by_kind.setdefault((gradient.device, gradient.dtype), []).append(gradient)
    for alike in by_kind.values():
        norms = torch.stack(torch._foreach_norm(alike, norm_type))
        factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(alike, list(factors.unbind()))


def _gradient_clipper(settings: CfgNode) -> Callable[[list[nn.Parameter]], Any]:
    """The in-place clipping that ``SOLVER.CLIP_GRADIENTS`` describes."""
    limit, norm_type = settings.CLIP_VALUE, settings.NORM_TYPE
    clippers = {
        "value": partial(clip_grad_value_, clip_value=limit),
        "norm": partial(_clip_each, max_norm=limit, norm_type=norm_type),
    }
    if settings.CLIP_TYPE not in clippers:
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {settings.CLIP_TYPE!r}, expected one of {list(clippers)}")
    return clippers[settings.CLIP_TYPE]


def maybe_add_gradient_clipping(cfg: CfgNode, optimizer: Any) -> Any:
    """Makes an optimizer (an instance, or a class) clip gradients before each step if the config asks for it.

    CLIP_TYPE "value" limits every element to CLIP_VALUE, "norm" the NORM_TYPE norm of each parameter's gradient.

    Returns:
        The instance itself, or a subclass of the class.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = _gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)

    def before_step(stepping: Optimizer, args: tuple, kwargs: dict) -> None:
        clip([parameter for group in stepping.param_groups for parameter in group["params"]])

    if isinstance(optimizer, Optimizer):
        optimizer.register_step_pre_hook(before_step)
        return optimizer

    class Clipping(optimizer):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.register_step_pre_hook(before_step)

    Clipping.__name__ = Clipping.__qualname__ = f"{optimizer.__name__}WithGradientClip"
    return Clipping


def _bias_rule(base_lr: float | None, lr_factor: float | None, weight_decay: float | None) -> dict[str, float]:
    rule = {}
    if lr_factor not in (None, 1.0):
        if base_lr is None:
            raise ValueError("bias_lr_factor multiplies base_lr, which was not given")
        rule["lr"] = base_lr * lr_factor
    if weight_decay is not None:
        rule["weight_decay"] = weight_decay
    return rule


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: trainable parameters, gathered by equal hyperparameters.

    Later rules win: defaults, normalization layers, ``lr_factor_func``, then the parameter's own name.

    Args:
        base_lr, weight_decay: of every parameter; None leaves it to the optimizer.
        weight_decay_norm: of the parameters of normalization layers.
        bias_lr_factor, weight_decay_bias: of parameters called "bias".
        lr_factor_func: full parameter name -> factor on ``base_lr``.
        overrides: parameter name within its module (such as "bias") -> hyperparameters.

    Raises:
        ValueError: a factor without ``base_lr``, or two rules for "bias".
    """
    by_name = dict(overrides or {})
    bias = _bias_rule(base_lr, bias_lr_factor, weight_decay_bias)
    if bias and "bias" in by_name:
        raise ValueError("overrides has an entry for 'bias', and so have bias_lr_factor or weight_decay_bias")
    if bias:
        by_name["bias"] = bias
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("lr_factor_func multiplies base_lr, which was not given")

    common = {"lr": base_lr, "weight_decay": weight_decay}
    common = {key: value for key, value in common.items() if value is not None}
    seen: set[nn.Parameter] = set()
    groups: dict[tuple, list[nn.Parameter]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            rule = dict(common)
            if weight_decay_norm is not None and isinstance(module, _NORMS):
                rule["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                rule["lr"] *= lr_factor_func(f"{prefix}.{name}")
            rule |= by_name.get(name, {})
            groups.setdefault(tuple(rule.items()), []).append(parameter)
    # few large groups: torch updates a group's tensors together
    return [{**dict(rule), "params": parameters} for rule, parameters in groups.items()]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD with the config's momentum, per-parameter rules and gradient clipping."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    momentum = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    sgd = SGD(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, foreach=True, **momentum)
    return maybe_add_gradient_clipping(cfg, sgd)


def _multi_step(solver: CfgNode) -> ParamScheduler:
    steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
    if len(steps) < len(solver.STEPS):
        logging.getLogger(__name__).warning(
            "SOLVER.STEPS %s beyond SOLVER.MAX_ITER %d have no effect", solver.STEPS[len(steps) :], solver.MAX_ITER
        )
    values = [solver.GAMMA**k for k in range(len(steps) + 1)]
    return MultiStepParamScheduler(values, milestones=steps, num_updates=solver.MAX_ITER)


def _cosine(solver: CfgNode) -> ParamScheduler:
    if not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise ValueError(f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}, expected 0 to BASE_LR = {solver.BASE_LR}")
    return CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)


class _FixedGamma(StepWithFixedGammaParamScheduler):
    """fvcore's schedule, defined at the very end too: the step after the last iteration asks for it."""

    def __call__(self, where: float) -> float:
        return super().__call__(min(where, 1 - 2 * self.WHERE_EPSILON))


def _fixed_gamma(solver: CfgNode) -> ParamScheduler:
    return _FixedGamma(1.0, num_decays=solver.NUM_DECAYS, gamma=solver.GAMMA, num_updates=solver.MAX_ITER)


_SCHEDULES = {
    "WarmupMultiStepLR": _multi_step,
    "WarmupCosineLR": _cosine,
    "WarmupStepWithFixedGammaLR": _fixed_gamma,
}


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The schedule ``SOLVER.LR_SCHEDULER_NAME`` with its warm-up.

    Raises:
        ValueError: an unknown name or warm-up method, or BASE_LR_END out of range.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME not in _SCHEDULES:
        raise ValueError(
            f"SOLVER.LR_SCHEDULER_NAME is {solver.LR_SCHEDULER_NAME!r}, expected one of {list(_SCHEDULES)}"
        )
    multiplier = WarmupParamScheduler(
        _SCHEDULES[solver.LR_SCHEDULER_NAME](solver),
        solver.WARMUP_FACTOR,
        min(1.0, solver.WARMUP_ITERS / solver.MAX_ITER),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier, max_iter=solver.MAX_ITER)
