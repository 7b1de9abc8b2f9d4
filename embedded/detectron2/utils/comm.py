"""Communication between the processes of one run; every function also works without torch.distributed."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

__all__ = [
    "all_gather",
    "create_local_process_group",
    "gather",
    "get_local_process_group",
    "get_local_rank",
    "get_local_size",
    "get_rank",
    "get_world_size",
    "is_main_process",
    "reduce_dict",
    "shared_random_seed",
    "synchronize",
]

# Holds at most one process group: the processes on this machine.
_machine_group: list = []


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes over all machines; 1 outside distributed runs."""
    return dist.get_world_size() if _distributed() else 1


def get_rank() -> int:
    """Index of this process over all machines, from 0."""
    return dist.get_rank() if _distributed() else 0


def is_main_process() -> bool:
    """True in exactly one process of a run: the one that writes files and prints."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Forms one group per machine out of consecutive ranks. Collective: every process calls it, once.

    Raises:
        ValueError: the world size is not a multiple of ``num_workers_per_machine``.
        RuntimeError: the group exists already.
    """
    world, per_machine = get_world_size(), num_workers_per_machine
    if _machine_group:
        raise RuntimeError("the local process group exists already; create_local_process_group may be called once")
    if per_machine < 1 or world % per_machine:
        raise ValueError(f"{world} processes cannot be split into machines of {per_machine}")
    # torch wants every process to take part in making every group, its own or not
    for first in range(0, world, per_machine):
        members = range(first, first + per_machine)
        group = dist.new_group(list(members))
        if get_rank() in members:
            _machine_group.append(group)


def get_local_process_group() -> Any:
    """The torch process group of this machine's processes.

    Raises:
        RuntimeError: :func:`create_local_process_group` was not called (``launch`` calls it).
    """
    if not _machine_group:
        raise RuntimeError(
            "no local process group: start the processes with detectron2.engine.launch, or call "
            "comm.create_local_process_group(processes_per_machine) after init_process_group"
        )
    return _machine_group[0]


def get_local_rank() -> int:
    """Index of this process on its machine, from 0."""
    return dist.get_rank(group=get_local_process_group()) if _distributed() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _distributed() else 1


def synchronize() -> None:
    """Waits until every process has come here."""
    if get_world_size() == 1:
        return
    # NCCL warns unless it is told which device carries the barrier
    on_gpu = dist.get_backend() == dist.Backend.NCCL
    dist.barrier(**({"device_ids": [torch.cuda.current_device()]} if on_gpu else {}))


@lru_cache(maxsize=1)
def _cpu_group() -> Any:
    """All processes over Gloo, so that Python objects travel through host memory and not through the GPU's."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """Every process's ``data`` (anything picklable), in rank order, in every process of ``group``."""
    if get_world_size() > 1:
        group = group or _cpu_group()
        gathered: list[Any] = [None] * dist.get_world_size(group)
        if len(gathered) > 1:
            dist.all_gather_object(gathered, data, group=group)
            return gathered
    return [data]


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """As :func:`all_gather`, but only rank ``dst`` receives the list; the others get an empty one."""
    if get_world_size() > 1:
        group = group or _cpu_group()
        size, receives = dist.get_world_size(group), dist.get_rank(group) == dst
        if size > 1:
            gathered = [None] * size if receives else None
            dist.gather_object(data, gathered, dst=dst, group=group)
            return gathered or []
    return [data]


def shared_random_seed() -> int:
    """A seed in [0, 2**31) drawn from NumPy's generator of rank 0 and handed to everybody. Collective."""
    # every rank draws, as generators that were equal should stay equal
    return all_gather(np.random.randint(2**31))[0]  # noqa: NPY002 - the generator that seed_all_rng seeds


@torch.no_grad()
def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Sums (or averages) scalar tensors over the processes, key by key.

    Args:
        input_dict: scalar tensors, on the backend's device; the same keys in every process.

    Returns:
        The reduced values. Only rank 0's are meaningful.
    """
    world = get_world_size()
    if world == 1:
        return input_dict
    keys = sorted(input_dict)
    packed = torch.stack([input_dict[key] for key in keys])
    dist.reduce(packed, dst=0)
    if average and is_main_process():
        packed /= world
    return dict(zip(keys, packed, strict=True))
