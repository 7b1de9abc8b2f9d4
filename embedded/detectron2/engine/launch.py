"""Starting the processes of a run, on one machine or several."""

import logging
import os
import random
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)


def _free_local_address() -> str:
    """An address that no other program is given meanwhile: its port is none of those that systems hand out."""
    for port in [*random.SystemRandom().sample(range(20000, 30000), 50), 0]:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    raise RuntimeError("no port of this machine is free")


def _check(num_processes: int, num_machines: int, machine_rank: int, dist_url: str | None) -> None:
    if num_processes < 1 or num_machines < 1:
        raise ValueError(f"expected at least one process and one machine, got {num_processes} and {num_machines}")
    if not 0 <= machine_rank < num_machines:
        raise ValueError(f"machine rank is {machine_rank}, expected 0 to {num_machines - 1}")
    if torch.cuda.is_available() and num_processes > torch.cuda.device_count():
        raise ValueError(f"{num_processes} GPUs were asked for, but this machine has {torch.cuda.device_count()}")
    if dist_url is None and num_processes * num_machines > 1:
        raise ValueError("several processes need a dist_url, such as tcp://HOST:PORT or 'auto' on one machine")
    if dist_url == "auto" and num_machines > 1:
        raise ValueError("dist_url 'auto' works on one machine only; give machine 0's tcp://HOST:PORT")


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Runs ``main_func(*args)`` in every process of a run; to be called once on every machine.

    A single process runs in place. Otherwise processes are spawned, which talk over NCCL where there are GPUs
    (one each) and over Gloo where there are none.

    Args:
        num_gpus_per_machine: processes on each machine, GPUs or not.
        machine_rank: which machine this is, from 0.
        dist_url: where the processes meet: ``tcp://HOST:PORT`` on machine 0, or "auto" on one machine.
        timeout: how long one process waits for the others.

    Raises:
        ValueError: more processes than GPUs, or numbers and addresses that do not fit together.
        torch.multiprocessing.ProcessRaisedException: a process failed; the message holds its traceback, and the
            others are ended.
    """
    _check(num_gpus_per_machine, num_machines, machine_rank, dist_url)
    world_size = num_machines * num_gpus_per_machine
    if world_size == 1:
        main_func(*args)
        return
    address = _free_local_address() if dist_url == "auto" else dist_url
    first_rank = machine_rank * num_gpus_per_machine
    worker_args = (main_func, args, first_rank, num_gpus_per_machine, world_size, address, timeout)
    mp.start_processes(_worker, args=worker_args, nprocs=num_gpus_per_machine, daemon=False)


def _worker(
    local_rank: int,
    main_func: Callable[..., Any],
    args: tuple,
    first_rank: int,
    per_machine: int,
    world_size: int,
    address: str,
    timeout: timedelta,
) -> None:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    place = {"rank": first_rank + local_rank, "world_size": world_size}
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", init_method=address, timeout=timeout, **place)
    except Exception as error:
        raise RuntimeError(
            f"process {place['rank']} of {world_size} could not meet the others at {address}: {error}. "
            "Is the address machine 0's, the port free and reachable, and every machine started?"
        ) from error
    comm.create_local_process_group(per_machine)
    # slow starters would otherwise use up the time limit of the first real exchange
    comm.synchronize()
    main_func(*args)
    # not after a failure, as taking leave waits for processes that may be stuck
    comm.synchronize()
    dist.destroy_process_group()
    # torch's threads abort the process now and then while Python takes itself apart
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
