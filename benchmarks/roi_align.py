#!/usr/bin/env python
"""RoIAlign on the CPU, forward and backward, against torchvision's.

python benchmarks/roi_align.py
python benchmarks/roi_align.py --threads 2

Features are in channels-last format, as the launcher has them; sizes are those of the quick start and of COCO. Medians
of several rounds, one call of each in turn.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.region_pooling.cpu_roi_align import cpu_roi_align

CASES = {  # shape of the features, regions, side of the result
    "quick start, boxes": ((4, 64, 48, 64), 200, 7),
    "quick start, masks": ((4, 64, 48, 64), 128, 14),
    "COCO, boxes": ((2, 256, 200, 304), 1024, 7),
    "COCO, masks": ((2, 256, 200, 304), 256, 14),
}


class Timed(NamedTuple):
    """Seconds of one call, and its result."""

    forward: float
    backward: float
    pooled: torch.Tensor


def timed(pool: Callable, shape: tuple[int, ...], rois: torch.Tensor, side: int) -> Timed:
    torch.manual_seed(1)
    features = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
    stamps = [time.perf_counter()]
    pooled = pool(features, rois, (side, side), 0.25, 0, True)
    stamps.append(time.perf_counter())
    gradient = torch.ones_like(pooled)
    stamps.append(time.perf_counter())
    pooled.backward(gradient)
    stamps.append(time.perf_counter())
    return Timed(stamps[1] - stamps[0], stamps[3] - stamps[2], pooled.detach())


def regions(shape: tuple[int, ...], number: int) -> torch.Tensor:
    """Of 10 to 70 pixels, as on the finest level of a pyramid; strides are 4."""
    corners = torch.rand(number, 2) * torch.tensor([shape[3] * 4.0, shape[2] * 4.0])
    images = torch.randint(0, shape[0], (number, 1)).float()
    return torch.cat([images, corners, corners + 10 + 60 * torch.rand(number, 2)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"{'milliseconds':28s}{'torchvision':>14s}{'here':>10s}{'ratio':>8s}")
    for name, (shape, number, side) in CASES.items():
        rois = regions(shape, number)
        rounds = [
            [timed(pool, shape, rois, side) for pool in (torchvision.ops.roi_align, cpu_roi_align)]
            for _ in range(args.rounds + 2)  # two to warm up
        ][2:]
        assert torch.allclose(*(one.pooled for one in rounds[0]), atol=1e-4)
        for way in ("forward", "backward"):
            theirs, ours = (1e3 * median(getattr(pair[who], way) for pair in rounds) for who in (0, 1))
            print(f"{name + ', ' + way:32s}{theirs:10.2f}{ours:10.2f}{theirs / ours:8.1f}", flush=True)


if __name__ == "__main__":
    main()
