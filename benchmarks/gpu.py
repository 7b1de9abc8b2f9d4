#!/usr/bin/env python
"""Refiners and SE-PSNet on a GPU, whole calls at the papers' sizes: time, memory, and how long the GPU is busy in them.

python benchmarks/gpu.py
python benchmarks/gpu.py --only prn --rounds 20
python benchmarks/gpu.py --device cpu --only segfix --size 128 256 --rounds 1      # does the script run?

Each model is built from its config with random weights, which times don't depend on, and gets noise with a coarse map
of discs, as many as an image of its data set has things. Ways: float32 as torch has it, mixed precision, and that in
channels-last format. A round is one image from arrays to arrays; times are medians over rounds after two that warm up.
What the GPU is busy for is the sum of its kernels' times by torch's profiler, in one more round: the rest is work of
the CPU that the GPU waits for.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pnm  # noqa: F401  (makes detectron2 importable)
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from tabulate import tabulate

from pnm.projects.launcher.config import load_config


class Case(NamedTuple):
    """A model at a size.

    Attributes:
        config: name of one of the project's configs.
        size: (height, width) of the image.
        things: of the coarse map.
        num_things, num_stuff: classes of the data set, where the model has to know them.
    """

    config: str
    size: tuple[int, int]
    things: int = 12
    num_things: int = 0
    num_stuff: int = 0


CASES = {
    "bpr_w18s": Case("Cityscapes-InstanceSegmentation/bpr_hrnet_w18s_128.yaml", (1024, 2048)),
    "bpr_r50": Case("Cityscapes-InstanceSegmentation/bpr_resnet50_256.yaml", (1024, 2048)),
    "segfix": Case("Cityscapes-SemanticSegmentation/segfix_hrnet_w48.yaml", (1024, 2048)),
    "prn": Case("COCO-PanopticSegmentation/prn_R_50.yaml", (640, 800), 8, 80, 53),
    "se_psnet": Case("COCO-PanopticSegmentation/se_psnet_R_101_3x.yaml", (800, 1333), 8, 80, 53),
}
WAYS = {"float32": (False, False), "AMP": (True, False), "AMP, channels last": (True, True)}


def config_of(case: Case, device: str) -> CfgNode:
    words = ["MODEL.DEVICE", device, "MODEL.WEIGHTS", ""]
    cfg = load_config(case.config, words)
    cfg.defrost()
    for room in ("PRN", "SE_PSNET"):
        if case.num_things and cfg.MODEL.META_ARCHITECTURE in ("PanopticRefiner", "SEPSNet"):
            cfg.MODEL[room].NUM_THINGS, cfg.MODEL[room].NUM_STUFF = case.num_things, case.num_stuff
    for room in ("BPR", "SEGFIX", "PRN"):
        cfg.MODEL[room].PRETRAINED = False
    return cfg


def discs(size: tuple[int, int], number: int) -> np.ndarray:
    """(number, H, W) bool, of radii from 1/16 to 1/6 of the height."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[: size[0], : size[1]]
    radii = size[0] * np.exp(rng.uniform(np.log(1 / 16), np.log(1 / 6), number))
    centers = rng.uniform((0, 0), size, (number, 2))
    return np.stack([np.hypot(rows - y, columns - x) < r for (y, x), r in zip(centers, radii)])


def input_of(case: Case) -> dict[str, Any]:
    """What the model's mapper gives in inference: an image, and coarse maps of every task."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *case.size), np.uint8))
    masks = discs(case.size, case.things)
    labels = np.zeros(case.size, np.int64)
    for n, mask in enumerate(masks, 1):
        labels[mask] = n
    present = np.unique(labels[labels > 0]).tolist()
    instances = Instances(case.size, scores=torch.ones(len(masks)), pred_classes=torch.zeros(len(masks)).long())
    instances.pred_masks = torch.from_numpy(masks)
    segments = [{"id": n, "isthing": True, "category_id": 0} for n in present]
    return {
        "image": image,
        "height": case.size[0],
        "width": case.size[1],
        "instances": instances,
        "sem_seg": labels % 19,
        "panoptic_seg": (labels, segments),
    }


def synchronized(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def busy_ms(run: Callable[[], Any], device: str) -> float:
    """Of the GPU in one call; not a number without one."""
    if device == "cpu":
        return float("nan")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1000


def row_of(name: str, way: str, case: Case, device: str, rounds: int) -> list[Any]:
    amp, channels_last = WAYS[way]
    torch.manual_seed(0)
    model = build_model(config_of(case, device)).eval()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    given = input_of(case)

    def run() -> Any:
        with torch.inference_mode(), torch.autocast(torch.device(device).type, enabled=amp):
            return model([given])

    run(), run()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds):
        start = synchronized(device)
        run()
        seconds.append(synchronized(device) - start)
    ms, busy = 1000 * statistics.median(seconds), busy_ms(run, device)
    memory = torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else float("nan")
    return [name, way, "{} x {}".format(*case.size), ms, busy, 100 * busy / ms, memory]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="in place of the papers' sizes")
    parser.add_argument("--rounds", type=int, default=10, help="measured calls (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cpu: to see that the script runs")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error("torch sees no GPU: these figures need one; --device cpu only shows that the script runs")
    where = torch.cuda.get_device_name() if args.device != "cpu" else "CPU"
    print(f"{where}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    rows = []
    for name in args.only:
        case = CASES[name]._replace(size=tuple(args.size)) if args.size else CASES[name]
        rows += [row_of(name, way, case, args.device, args.rounds) for way in WAYS]
    headers = ["model", "way", "image", "ms", "GPU busy, ms", "GPU busy, %", "memory, MiB"]
    print(tabulate(rows, headers, floatfmt=("", "", "", ".1f", ".1f", ".0f", ".0f")))


if __name__ == "__main__":
    main()
