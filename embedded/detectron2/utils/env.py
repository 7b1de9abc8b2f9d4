"""Random seeds and library settings of the process."""

import logging
import os
import random

import numpy as np
import torch

__all__ = ["TORCH_VERSION", "seed_all_rng", "setup_environment"]

TORCH_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


def seed_all_rng(seed: int | None = None) -> None:
    """Seeds the generators of torch (all devices), NumPy and Python.

    Args:
        seed: in [0, 2**32); None draws one from the operating system and logs it.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        logging.getLogger(__name__).info("no seed was given; drew %d", seed)
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)  # for processes started later


def setup_environment() -> None:
    """Switches OpenCV's OpenCL off, as it competes with CUDA for the device."""
    import cv2

    cv2.ocl.setUseOpenCL(False)
