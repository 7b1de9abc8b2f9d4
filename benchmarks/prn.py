#!/usr/bin/env python
"""Speed and memory of PRN at 640 x 800 and 1024 x 2048, on one core: network, grouping, merging, encoding apart.

python benchmarks/prn.py
python benchmarks/prn.py --only grouping --peer detectron2/projects/Panoptic-DeepLab
python benchmarks/prn.py --only network --config COCO-PanopticSegmentation/prn_R_50.yaml

Grouping and merging work on the fields of drawn instances with noise, 45 % of the pixels being foreground. --peer names
Detectron2's Panoptic-DeepLab, whose own post-processing is then run on the same maps, its heat map, offsets and
foreground (it takes no boxes), with the labels at full size. Times are medians over rounds after one that compiles;
everything runs in a process of its own, whose peak memory is given above that of its start.
"""

import argparse
import importlib.util
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from null_model import processor
from tabulate import tabulate

SIZES = (640, 800), (1024, 2048)
FOREGROUND = 0.45
THINGS, STUFF = 80, 53
PARTS = ("grouping", "merging", "encoding", "network")


def drawn(height: int, width: int, count: int) -> tuple[np.ndarray, Any, np.ndarray]:
    """Numbers of drawn instances, their fields with noise, and the foreground."""
    from pnm.panoptic_grouping.encoding import instance_fields

    rng = np.random.default_rng(0)
    centers = rng.uniform(0, (height, width), (count, 2))
    grid = np.mgrid[:height, :width].astype(np.float32)
    nearest, numbers = np.full((height, width), np.inf, np.float32), np.zeros((height, width), np.int32)
    for n, (y, x) in enumerate(centers, 1):
        away = (grid[0] - np.float32(y)) ** 2 + (grid[1] - np.float32(x)) ** 2
        closer = away < nearest
        nearest[closer], numbers[closer] = away[closer], n
    numbers[nearest > np.quantile(nearest, FOREGROUND)] = 0
    fields = instance_fields(numbers, count)
    offsets, boxes = (part + rng.normal(0, 4, part.shape).astype(np.float32) for part in fields[1:])
    # Heights differ: of equal peaks, Detectron2's post-processing finds none.
    heat = fields.heat * np.linspace(0.9, 1, width, dtype=np.float32)
    return numbers, fields._replace(heat=heat, offsets=offsets, boxes=boxes), numbers > 0


def group(height: int, width: int, count: int) -> Callable[[], Any]:
    from pnm.panoptic_grouping.grouping import GroupingSettings, group_pixels

    _, fields, foreground = drawn(height, width, count)
    return lambda: group_pixels(fields, foreground, GroupingSettings())


def merge(height: int, width: int, count: int) -> Callable[[], Any]:
    """From the numbers of instances and votes to the panoptic map."""
    from pnm.panoptic_grouping.merging import PixelVotes, instance_classes, merge_segments, small_stuff

    numbers, _, _ = drawn(height, width, count)
    rng = np.random.default_rng(0)
    things, stuff = (
        np.kron(rng.integers(low, high, (-(-height // 32), -(-width // 32))), np.ones((32, 32), int))[:height, :width]
        for low, high in ((0, THINGS), (THINGS, THINGS + STUFF))
    )
    votes = PixelVotes(things.astype(np.int16), np.full((height, width), 0.5, np.float32), stuff.astype(np.int16))

    def run() -> Any:
        classes = instance_classes(numbers, count, votes, things=THINGS)
        small_stuff(numbers, votes.stuff, 4096)
        return merge_segments(numbers, classes.tolist(), votes.stuff)

    return run


def encode(height: int, width: int, count: int) -> Callable[[], Any]:
    from pnm.panoptic_grouping.encoding import instance_fields

    numbers, _, _ = drawn(height, width, count)
    return lambda: instance_fields(numbers, count)


def peer(height: int, width: int, count: int, folder: str) -> Callable[[], Any]:
    """Detectron2's post-processing, grouping and merging in one."""
    import torch

    path = Path(folder) / "panoptic_deeplab" / "post_processing.py"
    spec = importlib.util.spec_from_file_location("post_processing", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    numbers, fields, foreground = drawn(height, width, count)
    labels = torch.from_numpy(np.where(numbers > 0, numbers % THINGS, THINGS)[None].astype(np.int64))
    heat, offsets, mask = (torch.from_numpy(part) for part in (fields.heat[None], fields.offsets, foreground[None]))
    return lambda: module.get_panoptic_segmentation(
        labels, heat, offsets, range(THINGS), 1000, 4096, -1, 0.2, 7, count + 1, mask.long()
    )


def network(height: int, width: int, count: int, config: str, mode: str) -> Callable[[], Any]:
    """The network in inference ("predict"), all of inference ("refine") or a training step ("train")."""
    import torch
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from pnm.predictions import Partition
    from pnm.projects.launcher.config import load_config

    options = ["MODEL.DEVICE", "cpu", "MODEL.PRN.PRETRAINED", "False", "MODEL.PRN.NORM", "BN"]
    cfg = load_config(config, [*options, "INPUT.MIN_SIZE_TEST", "0"])
    torch.manual_seed(0)
    model = build_model(cfg)
    numbers, fields, _ = drawn(height, width, count)
    things, total = len(model.thing_categories), model.network.classes
    image = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
    labels = np.where(numbers > 0, numbers, count + 1)
    categories = [model.classes.categories[n % things] for n in range(count)]
    prediction = Partition(labels, tuple(range(1, count + 2)), (*categories, model.classes.categories[-1]))
    if mode == "train":
        target = torch.from_numpy(fields.stacked())
        classes = torch.from_numpy(np.where(numbers > 0, numbers % things, total - 1))
        sample = {
            "image": image,
            "coarse": target,
            "coarse_classes": classes.to(torch.uint8),
            "target": target,
            "sem_seg": classes,
            "foreground": torch.from_numpy((numbers > 0).astype(np.uint8)),
            "small": torch.zeros(height, width, dtype=torch.bool),
        }
        model.train()

        def step() -> None:
            with EventStorage(0):
                sum(model([sample]).values()).backward()

        return step
    model.eval()
    if mode == "refine":
        return lambda: model.refine_segments(image, prediction)
    own = model.network_input(image, prediction)

    return lambda: model.predict(own)


def memory_mib(name: str) -> float:
    """Of this process, now ("VmRSS") or at most since the last :func:`forget_peak` ("VmHWM"); Linux."""
    return float(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def seconds_of(make: Callable[..., Callable[[], Any]], arguments: tuple, rounds: int, answer: Any) -> None:
    """Median of the rounds after the first, which compiles."""
    run, times = make(*arguments), []
    run()
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    answer.put(statistics.median(times))


def memory_of(make: Callable[..., Callable[[], Any]], arguments: tuple, rounds: int, answer: Any) -> None:
    """MiB at most above what the process has before."""
    run = make(*arguments)
    forget_peak()
    before = memory_mib("VmRSS")
    run()
    answer.put(memory_mib("VmHWM") - before)


def once(make: Callable[..., Callable[[], Any]], arguments: tuple, rounds: int, answer: Any) -> None:
    """Seconds and MiB of the first run: for what takes so long that neither compilation nor the allocator counts."""
    run = make(*arguments)
    forget_peak()
    before, start = memory_mib("VmRSS"), time.perf_counter()
    run()
    answer.put((time.perf_counter() - start, memory_mib("VmHWM") - before))


def in_a_process(measure: Callable, make: Callable, arguments: tuple, rounds: int) -> Any:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=measure, args=(make, arguments, rounds, answer))
    process.start()
    value = answer.get()
    process.join()
    return value


def cells_of(make: Callable[..., Callable[[], Any]], *arguments: Any, rounds: int) -> tuple[str, str]:
    """Milliseconds and MiB, each of a process of its own; of 0 rounds, those of one run."""
    if not rounds:
        seconds, memory = in_a_process(once, make, arguments, rounds)
        return f"{1000 * seconds:.0f}", f"{memory:.0f}"
    seconds = in_a_process(seconds_of, make, arguments, rounds)
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc then gives freed arrays back, which takes time
    memory = in_a_process(memory_of, make, arguments, rounds)
    del os.environ["MALLOC_MMAP_THRESHOLD_"]
    return f"{1000 * seconds:.1f}" if seconds < 10 else f"{1000 * seconds:.0f}", f"{memory:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--peer", metavar="DIR", help="Detectron2's projects/Panoptic-DeepLab")
    parser.add_argument("--config", default="COCO-PanopticSegmentation/prn_R_50.yaml", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(f"{processor()}, {os.environ['OMP_NUM_THREADS']} thread(s)")
    rows = []

    def add(
        what: str, size: tuple[int, int], count: int, make: Callable, *more: Any, rounds: int = args.rounds
    ) -> None:
        rows.append([what, "{} x {}".format(*size), count, *cells_of(make, *size, count, *more, rounds=rounds)])
        print(*rows[-1], file=sys.stderr, flush=True)

    makers = {"grouping": group, "merging": merge, "encoding": encode}
    for size in SIZES:
        for count in (20, 200):
            for part in (part for part in args.only if part in makers):
                add(part, size, count, makers[part])
            if args.peer and "grouping" in args.only:
                add("Detectron2: grouping and merging", size, count, peer, args.peer, rounds=1)
        for mode in ("predict", "refine", "train") if "network" in args.only else ():
            add(f"{args.config}, {mode}", size, 20, network, args.config, mode, rounds=0)
    print(tabulate(rows, ("what", "size", "instances", "ms", "MiB"), disable_numparse=True))


if __name__ == "__main__":
    main()
