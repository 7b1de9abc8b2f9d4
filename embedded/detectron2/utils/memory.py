"""A second and a third try for functions that run out of GPU memory."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

__all__ = ["retry_if_cuda_oom"]


def _on_cpu(value: Any) -> Any:
    on_gpu = getattr(getattr(value, "device", None), "type", None) == "cuda"
    return value.to(device="cpu") if on_gpu and hasattr(value, "to") else value


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Wraps ``func`` to run again with an emptied cache, and then on the CPU, when GPU memory runs out.

    ``func`` must have no side effects. Only direct arguments with ``.device`` and ``.to`` are moved, so the
    last attempt may return CPU tensors.
    """

    @wraps(func)
    def patient(*args: Any, **kwargs: Any) -> Any:
        for _ in range(2):
            try:
                return func(*args, **kwargs)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
        logging.getLogger(__name__).info("GPU memory is full: %s runs on the CPU", func)
        return func(*map(_on_cpu, args), **{name: _on_cpu(value) for name, value in kwargs.items()})

    return patient
