"""Optimizers and learning-rate schedules that Detectron2's own builders don't offer."""

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, WarmupParamScheduler, build_lr_scheduler, build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from fvcore.common.param_scheduler import ParamScheduler

from pnm.errors import UserError

_TELLING = ("betas", "momentum", "nesterov")  # of groups of Adam, and of SGD


class PolynomialDecay(ParamScheduler):
    """``max((1 - where) ** power, ending)`` for ``where`` from 0 to 1, DeepLab's schedule."""

    def __init__(self, power: float, ending: float):
        self.power, self.ending = power, ending

    def __call__(self, where: float) -> float:
        return max((1 - where) ** self.power, self.ending)


def optimizer_from_config(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """``SOLVER.OPTIMIZER``, with the per-parameter rules that Detectron2 has for SGD and ``SOLVER.HEAD_LR_FACTOR``.

    Raises:
        UserError: another optimizer, a factor that isn't positive, or one for the head of a model without a backbone.
    """
    solver = cfg.SOLVER
    types = {"SGD": torch.optim.SGD, "ADAM": torch.optim.Adam, "ADAMW": torch.optim.AdamW}
    name = solver.OPTIMIZER.upper()
    if name not in types:
        raise UserError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}, expected one of {', '.join(types)}")
    factor = solver.HEAD_LR_FACTOR
    if not 0 < factor < float("inf"):
        raise UserError(f"SOLVER.HEAD_LR_FACTOR is {factor}, expected a positive number, 1.0 for no difference")
    if factor == 1.0 and name == "SGD":
        return build_optimizer(cfg, model)
    if factor != 1.0 and not hasattr(model, "backbone"):
        raise UserError(f"SOLVER.HEAD_LR_FACTOR is {factor}, but {type(model).__name__} has no backbone: set it to 1.0")
    rules = {"base_lr": "BASE_LR", "bias_lr_factor": "BIAS_LR_FACTOR"}
    rules |= {"weight_decay_norm": "WEIGHT_DECAY_NORM", "weight_decay_bias": "WEIGHT_DECAY_BIAS"}
    params = get_default_optimizer_params(
        model,
        lr_factor_func=lambda parameter: 1.0 if parameter.startswith("backbone.") else factor,
        **{name: solver[key] for name, key in rules.items()},
    )
    optimizer_type = maybe_add_gradient_clipping(cfg, types[name])
    more = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV} if name == "SGD" else {}
    return optimizer_type(params, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, **more)


def refuse_states_of_others(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Makes an optimizer refuse, with a UserError, a checkpoint's state of another optimizer or of other parameters;
    returns it."""
    optimizer.register_load_state_dict_pre_hook(_check_state)
    return optimizer


def _check_state(optimizer: torch.optim.Optimizer, state: dict) -> None:
    own, given = optimizer.param_groups, state["param_groups"]
    are_alike = [len(group["params"]) for group in own] == [len(group["params"]) for group in given]
    for group, other in zip(own, given):
        # AdamW is, by this key, told from Adam.
        are_alike &= all(name in other for name in _TELLING if name in group)
        are_alike &= group.get("decoupled_weight_decay") == other.get(
            "decoupled_weight_decay", group.get("decoupled_weight_decay")
        )
    if not are_alike:
        raise UserError(
            "the checkpoint's state is of another optimizer, or of another model: resume with the SOLVER.OPTIMIZER, "
            "SOLVER and MODEL keys of its run (config.yaml beside it), or start a run from its weights: MODEL.WEIGHTS, "
            "another OUTPUT_DIR, no --resume"
        )


def lr_scheduler_from_config(cfg: CfgNode, optimizer: torch.optim.Optimizer):
    """``SOLVER.LR_SCHEDULER_NAME``: Detectron2's, or ``WarmupPolyLR`` (DeepLab's polynomial decay)."""
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return build_lr_scheduler(cfg, optimizer)
    schedule = WarmupParamScheduler(
        PolynomialDecay(cfg.SOLVER.POLY_LR_POWER, cfg.SOLVER.POLY_LR_CONSTANT_ENDING),
        cfg.SOLVER.WARMUP_FACTOR,
        min(cfg.SOLVER.WARMUP_ITERS / cfg.SOLVER.MAX_ITER, 1.0),
        cfg.SOLVER.WARMUP_METHOD,
        cfg.SOLVER.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=cfg.SOLVER.MAX_ITER)
