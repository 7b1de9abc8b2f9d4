"""What makes training on CPUs fast: convolutions in channels-last format, bfloat16 where the processor has it, updates
in one pass over each parameter, and threads that don't wait for each other."""

import logging
import os
from typing import Any

import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.utils import comm

from pnm.network_backends.precision import has_bfloat16
from pnm.usable_cores import usable_cores

logger = logging.getLogger(__name__)

_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def _is_on_cpu(parameters: Any) -> bool:
    return all(parameter.device.type == "cpu" for parameter in parameters)


def share_cores() -> None:
    """Gives each of this machine's processes its share of the cores, so that their threads don't wait for each other.

    Where the environment says how many threads there are (OMP_NUM_THREADS), that is left.
    """
    processes = comm.get_local_size()
    if processes > 1 and not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_cores() // processes))


def to_fast_format(model: torch.nn.Module) -> torch.nn.Module:
    """Gives a model on the CPU the memory format in which its convolutions are fast; returns it."""
    if _is_on_cpu(model.parameters()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def train_in_bfloat16(model: torch.nn.Module) -> None:
    """Makes a model on the CPU compute its losses in bfloat16 while it is trained, where the processor can.

    Weights, their updates, and what PyTorch's autocast holds to be sensitive, stay in float32; losses need not be
    scaled, because bfloat16 has float32's range. Features that regions are cut from are in float32, too: Detectron2
    gives the regions' coordinates the features' type, and bfloat16 counts in whole pixels from 128 on.
    """
    if not has_bfloat16():
        logger.warning("this processor does not multiply in bfloat16: SOLVER.AMP.ENABLED changes nothing")
        return
    for module in model.modules():
        if isinstance(module, ROIPooler):
            module.register_forward_pre_hook(_in_float32)
    forward = model.forward

    def mixed_forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=model.training):
            return forward(*args, **kwargs)

    model.forward = mixed_forward  # type: ignore[method-assign]


def _in_float32(pooler: ROIPooler, args: tuple) -> tuple:
    features, *others = args
    return [feature.float() for feature in features], *others


def fuse_updates(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Lets SGD, Adam or AdamW update parameters on the CPU in one pass over each; returns the optimizer.

    On GPUs nothing changes: there, fused updates and clipped gradients don't go together in mixed precision.
    """
    if isinstance(optimizer, _FUSED):
        _choose(optimizer)
        optimizer.register_load_state_dict_post_hook(_choose)  # a checkpoint tells how it was made, not how to go on
        optimizer.register_step_pre_hook(_align)
    return optimizer


def _choose(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        fused = _is_on_cpu(group["params"])
        group.update(fused=fused or None, foreach=False if fused else None)


def _align(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Gradients and states in the order in memory that their parameters have: fused updates on CPUs take it for
    granted, and give wrong numbers where it differs, as after a checkpoint of another memory format."""
    for group in optimizer.param_groups:
        if not group["fused"]:
            continue
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = _like(parameter.grad, parameter)
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    state[name] = _like(value, parameter)


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
