"""Versions and devices, for logs and bug reports."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import detectron2
import numpy as np
import torch
from tabulate import tabulate

__all__ = ["collect_env_info"]

_REPORTED = ("torchvision", "fvcore", "iopath", "pillow", "opencv-python-headless", "pycocotools")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def collect_env_info() -> str:
    """A table of the engine, Python, torch, the libraries and the devices."""
    rows = [
        ("platform", platform.platform()),
        ("Python", sys.version.replace("\n", "")),
        ("engine", f"{detectron2.__version__} @ {os.path.dirname(detectron2.__file__)}"),
        ("NumPy", np.__version__),
        ("torch", f"{torch.__version__} @ {os.path.dirname(torch.__file__)}"),
        *((package, _installed(package)) for package in _REPORTED),
        ("CPU threads", str(torch.get_num_threads())),
        ("CUDA", str(torch.version.cuda) if torch.cuda.is_available() else "not available"),
    ]
    rows += [(f"GPU {i}", torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]
    return tabulate(rows)


if __name__ == "__main__":
    print(collect_env_info())
