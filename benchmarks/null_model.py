#!/usr/bin/env python
"""Speed of the null model against a box filter per label, by OpenCV and by scipy, in one run on the same maps.

python benchmarks/null_model.py
python benchmarks/null_model.py --data datasets/cityscapes/gtFine --pattern "*_labelIds.png" --limit 4

Without --data a map of overlapping shapes is drawn. Three kinds of maps are timed: those, an empty one, and the worst
case, an independent label for each pixel. The filters get only the labels that a map has, and are spared the pixels
outside the image and the ignored ones (border "zero"), so they do less than the null model. Each round runs everyone
once, in turn; the tables give medians over rounds, in milliseconds. The first use compiles and is not timed.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numba
import numpy as np
import scipy
import torch
from PIL import Image
from scipy.ndimage import label as connected_parts
from scipy.ndimage import uniform_filter
from tabulate import tabulate

from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.batched import null_model_by_box_sums


def by_opencv(labels: np.ndarray, locality: int, present: np.ndarray) -> np.ndarray:
    pnm = np.empty(labels.shape, np.float32)
    for k in present:
        mask = labels == k
        share = cv2.boxFilter(
            mask.view(np.uint8), cv2.CV_32F, (locality, locality), normalize=True, borderType=cv2.BORDER_CONSTANT
        )
        np.copyto(pnm, share, where=mask)
    return pnm


def by_scipy(labels: np.ndarray, locality: int, present: np.ndarray) -> np.ndarray:
    pnm = np.empty(labels.shape, np.float32)
    for k in present:
        mask = labels == k
        np.copyto(pnm, uniform_filter(mask.astype(np.float32), locality, mode="constant"), where=mask)
    return pnm


def by_torch(labels: np.ndarray, locality: int, present: np.ndarray) -> np.ndarray:
    return null_model_by_box_sums(torch.from_numpy(labels)[None], locality, None, "zero")[0].numpy()


def drawn_map(rng: np.random.Generator, height: int, width: int, classes: int) -> np.ndarray:
    """Horizontal bands under 120 ellipses and 80 thin lines."""
    labels = np.repeat(np.arange(height) * 4 // height % classes, width).reshape(height, width).astype(np.uint8)
    for k in range(120):
        center, axes = rng.integers([width, height]).tolist(), rng.integers(3, height // 8 + 4, size=2).tolist()
        cv2.ellipse(labels, center, axes, float(rng.integers(180)), 0, 360, int(k % classes), -1)
    for k in range(80):
        ends = rng.integers([width, height], size=(2, 2)).tolist()
        cv2.line(labels, *ends, int(k % classes), int(rng.integers(1, 5)))
    return labels


def with_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """The same boundaries, the connected parts numbered anew from 0 to ``classes`` - 1."""
    renamed = np.zeros(labels.shape, np.int64)
    first = 0
    for k in np.unique(labels):
        parts, number = connected_parts(labels == k)
        renamed[parts > 0] = first + parts[parts > 0] - 1
        first += number
    return (renamed % classes).astype(np.uint8)


def medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds; every contestant runs once unmeasured, then once a round, each round beginning with another one."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for k in range(rounds + 1):
        for name in [*contestants][k % len(contestants) :] + [*contestants][: k % len(contestants)]:
            start = time.perf_counter()
            contestants[name]()
            if k:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def compare(maps: dict[str, np.ndarray], locality: int, rounds: int, slow: bool) -> None:
    rows = []
    for name, labels in maps.items():
        present = np.unique(labels)
        contestants: dict[str, Callable[[], object]] = {
            "one core": lambda labels=labels: pixel_null_model(labels, locality),
            "all cores": lambda labels=labels: pixel_null_model(labels, locality, threads=None),
            "OpenCV": lambda labels=labels, present=present: by_opencv(labels, locality, present),
            "scipy": lambda labels=labels, present=present: by_scipy(labels, locality, present),
        }
        if slow:
            contestants["torch, CPU"] = lambda labels=labels, present=present: by_torch(labels, locality, present)
        ours = pixel_null_model(labels, locality, ignore_label=None, border="zero")
        for filtered in (by_opencv, by_scipy):
            np.testing.assert_allclose(filtered(labels, locality, present), ours, rtol=1e-2, atol=1e-5)
        ms = medians(contestants, rounds)
        ratios = [f"{ms[filtered] / ms['one core']:.0f}x" for filtered in ("OpenCV", "scipy")]
        rows.append([name, "x".join(map(str, labels.shape)), len(present), *ms.values(), *ratios])
    headers = ["map", "size", "labels", *contestants, "OpenCV / one core", "scipy / one core"]
    print(f"\nd = {locality}; OpenCV, scipy and torch on one core; ms")
    print(tabulate(rows, headers, floatfmt=".2f"))


def sweep(maps: dict[str, np.ndarray], localities: list[int], classes: list[int], locality: int, rounds: int) -> None:
    by_locality, by_classes = [], []
    for name, labels in maps.items():
        runs = {str(d): (lambda labels=labels, d=d: pixel_null_model(labels, d)) for d in localities}
        ms = list(medians(runs, rounds).values())
        by_locality.append([name, *ms, f"{max(ms) / min(ms):.2f}x"])
        renamed = {k: with_classes(labels, k) for k in classes}
        runs = {str(k): (lambda m=m: pixel_null_model(m, locality)) for k, m in renamed.items()}
        ms = list(medians(runs, rounds).values())
        by_classes.append([name, *ms, f"{max(ms) / min(ms):.2f}x"])
    print("\nlocality d, one core; ms")
    print(tabulate(by_locality, ["map", *(f"d = {d}" for d in localities), "most / least"], floatfmt=".2f"))
    print(f"\nnumber of classes at d = {locality}, the same boundaries, one core; ms")
    print(tabulate(by_classes, ["map", *(f"{k} classes" for k in classes), "most / least"], floatfmt=".2f"))


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of label PNGs, searched through; default: a drawn map")
    parser.add_argument("--pattern", default="*.png", help="names of the PNGs in --data (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=4, help="PNGs to take (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 2048], metavar=("H", "W"), help="of drawn maps")
    parser.add_argument("--classes", type=int, default=19, help="of drawn and random maps (default: %(default)s)")
    parser.add_argument("--locality", type=int, default=35, help="d in pixels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="measured runs of each (default: %(default)s)")
    parser.add_argument("--no-torch", action="store_true", help="leave out the torch version, slow on a CPU")
    args = parser.parse_args()

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    if args.data:
        files = sorted(args.data.rglob(args.pattern))[: args.limit]
        if not files:
            parser.error(f"no {args.pattern} in {args.data}: give the folder of the label maps")
        maps = {file.stem[:40]: np.array(Image.open(file)) for file in files}
        for name, labels in maps.items():
            if labels.ndim != 2:
                parser.error(f"{name} is {labels.shape}, expected one channel: choose the label maps with --pattern")
    else:
        maps = {"drawn": drawn_map(rng, *args.size, args.classes)}
    size = next(iter(maps.values())).shape
    extremes = {"uniform": np.zeros(size, np.uint8), "random": rng.integers(0, args.classes, size).astype(np.uint8)}

    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{m.__name__} {m.__version__}" for m in (np, numba, cv2, scipy, torch)))
    compare(maps | extremes, args.locality, args.rounds, not args.no_torch)
    sweep(maps | {"random": extremes["random"]}, [1, 5, 35, 101, 201], [19, 60, 150], args.locality, 3 * args.rounds)


if __name__ == "__main__":
    main()
