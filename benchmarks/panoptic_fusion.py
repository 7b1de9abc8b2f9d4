#!/usr/bin/env python
"""Speed and memory of panoptic fusion beside Detectron2's own way, on one core, from a network's outputs to the map.

python benchmarks/panoptic_fusion.py
python benchmarks/panoptic_fusion.py --detectron2 CLONE --side 56

Mask probabilities with boxes are pasted, stuff logits (54, 200, 336) at stride 4 of an input of 800 x 1333 become
labels, and both become the map, at the size of the output; then all three in one. Detectron2's way is
``paste_masks_in_image``, logits resized by 4, ``sem_seg_postprocess``, argmax and
``combine_semantic_and_instance_outputs``. "combining whole masks" is ours behind that function's interface. Both ways
see the same drawn blobs and patches; --noise gives logits without any patch, the worst case of ours. Times are medians
over rounds after one that compiles; everything runs in a process of its own, whose peak memory is given above that of
its start.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from prn import forget_peak, in_a_process, memory_mib  # before torch: it limits the threads

import numpy as np
from null_model import processor
from tabulate import tabulate

SIZES = (800, 1333), (1024, 2048)
COUNTS = 20, 100
INPUT_PX, GRID, STRIDE, STUFF = (800, 1333), (200, 336), 4, 54
OVERLAP, AREA_PX, SCORE = 0.4, 4096, 0.45
WHOLE = "combining whole masks"
STEPS = ("pasting", "stuff", "combining", WHOLE, "all")
Steps = dict[str, Callable[[], Any]]


class Outputs(NamedTuple):
    """What a network gives for an image."""

    probs: np.ndarray
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    logits: np.ndarray


def drawn(size: tuple[int, int], count: int, side: int, noise: bool) -> Outputs:
    """Blobs in boxes of 3 to 40 % of the image's sides, and logits of patches about a tenth of them wide."""
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(0)

    def patches(channels: int, coarse: tuple[int, int], fine: tuple[int, int]) -> np.ndarray:
        values = torch.from_numpy(rng.normal(0, 4, (1, channels, *coarse)).astype(np.float32))
        return F.interpolate(values, size=fine, mode="bicubic")[0].numpy()

    away = np.hypot(*np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j])
    blobs = patches(count, (5, 5), (side, side)) / 4 + 8 * (0.8 - away)
    sides = np.exp(rng.uniform(np.log(0.03), np.log(0.4), (count, 2)))
    centers = rng.uniform(sides / 2, 1 - sides / 2)
    boxes = np.concatenate((centers - sides / 2, centers + sides / 2), axis=1) * (*size[::-1], *size[::-1])
    logits = rng.normal(0, 1 if noise else 0.05, (STUFF, *GRID)).astype(np.float32)
    return Outputs(
        (1 / (1 + np.exp(-blobs))).astype(np.float32),
        boxes.astype(np.float32),
        rng.permutation(np.linspace(0.3, 1, count)).astype(np.float32),
        rng.integers(0, 80, count),
        logits if noise else logits + patches(STUFF, (10, 17), GRID),
    )


def ours(height: int, width: int, count: int, side: int, noise: bool, folder: str) -> Steps:
    """Each step as it is done here, on what the steps before gave."""
    from pnm.panoptic_fusion.fusion import FusionSettings, fuse
    from pnm.panoptic_fusion.pasting import paste_in_boxes
    from pnm.panoptic_fusion.stuff import resized_argmax

    size, settings = (height, width), FusionSettings(SCORE, OVERLAP, AREA_PX)
    outputs = drawn(size, count, side, noise)
    covered = INPUT_PX[0] / STRIDE, INPUT_PX[1] / STRIDE

    def paste() -> Any:
        return paste_in_boxes(outputs.probs, outputs.boxes_xyxy, size)

    def label() -> Any:
        return resized_argmax(outputs.logits, covered, size)

    def combine(crops: Any, labels: Any) -> Any:
        return fuse(crops, outputs.scores, outputs.classes, labels, settings)

    crops, labels = paste(), label()
    return {
        "pasting": paste,
        "stuff": label,
        "combining": lambda: combine(crops, labels),
        "all": lambda: combine(paste(), label()),
    }


def detectron2s(height: int, width: int, count: int, side: int, noise: bool, folder: str) -> Steps:
    """Each step as Detectron2 does it; combining whole masks is ours, on its masks and labels."""
    engine_path(folder)
    import torch
    from detectron2.layers import paste_masks_in_image
    from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
    from detectron2.modeling.postprocessing import sem_seg_postprocess
    from detectron2.structures import Instances
    from torch.nn import functional as F

    from pnm.panoptic_fusion import detectron2_interface

    outputs = drawn((height, width), count, side, noise)
    probs, boxes, scores, classes, logits = (torch.from_numpy(part) for part in outputs)

    def paste() -> Any:
        return paste_masks_in_image(probs, boxes, (height, width))

    def label() -> Any:
        padded = F.interpolate(logits[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
        return sem_seg_postprocess(padded, INPUT_PX, height, width).argmax(dim=0)

    def combine(masks: Any, labels: Any, function: Any = combine_semantic_and_instance_outputs) -> Any:
        instances = Instances((height, width), pred_masks=masks, scores=scores, pred_classes=classes)
        return function(instances, labels, OVERLAP, AREA_PX, SCORE)

    masks, labels = paste(), label()
    return {
        "pasting": paste,
        "stuff": label,
        "combining": lambda: combine(masks, labels),
        WHOLE: lambda: combine(masks, labels, detectron2_interface.combine_semantic_and_instance_outputs),
        "all": lambda: combine(paste(), label()),
    }


def engine_path(folder: str) -> str:
    """Puts a clone of Detectron2, if one is named, before the engine present; tells which it is."""
    if folder:
        sys.path.insert(0, folder)
    import pnm  # noqa: F401  # makes an engine importable
    import detectron2

    return f"{detectron2.__version__}, {Path(detectron2.__file__).parent}"


def seconds_of_steps(make: Callable[..., Steps], arguments: tuple, rounds: int, answer: Any) -> None:
    """Medians of the rounds after the first, which compiles."""
    medians = {}
    for step, run in make(*arguments).items():
        run()
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        medians[step] = statistics.median(times)
    answer.put(medians)


def memory_of_steps(make: Callable[..., Steps], arguments: tuple, rounds: int, answer: Any) -> None:
    """MiB at most above what the process has before each step, whose first run isn't counted."""
    peaks = {}
    for step, run in make(*arguments).items():
        run()
        forget_peak()
        before = memory_mib("VmRSS")
        run()
        peaks[step] = memory_mib("VmHWM") - before
    answer.put(peaks)


def measured(make: Callable[..., Steps], arguments: tuple, rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds and MiB of each step."""
    seconds = in_a_process(seconds_of_steps, make, arguments, rounds)
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc then gives freed arrays back, which takes time
    memory = in_a_process(memory_of_steps, make, arguments, rounds)
    del os.environ["MALLOC_MMAP_THRESHOLD_"]
    return {step: (1000 * seconds[step], memory[step]) for step in seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectron2", default="", metavar="DIR", help="a clone; default: the engine present")
    parser.add_argument("--side", type=int, default=28, help="of the masks, cells")
    parser.add_argument("--noise", action="store_true", help="logits that are independent from cell to cell")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(f"{processor()}, 1 thread; Detectron2 {engine_path(args.detectron2)}; masks of {args.side} x {args.side}")
    rows = []
    for size in SIZES:
        for count in COUNTS:
            arguments = (*size, count, args.side, args.noise, args.detectron2)
            mine, peers = (measured(make, arguments, args.rounds) for make in (ours, detectron2s))
            for step in STEPS:
                ms, mib = (peers if step == WHOLE else mine)[step]
                its_ms, its_mib = peers["combining" if step == WHOLE else step]
                cells = [f"{ms:.2f}", f"{its_ms:.1f}", f"{its_ms / ms:.1f}", f"{mib:.0f}", f"{its_mib:.0f}"]
                rows.append(["{} x {}".format(*size), count, step, *cells])
                print(*rows[-1], file=sys.stderr, flush=True)
    header = ("size", "instances", "step", "ours, ms", "Detectron2, ms", "times", "ours, MiB", "Detectron2, MiB")
    print(tabulate(rows, header, disable_numparse=True))


if __name__ == "__main__":
    main()
