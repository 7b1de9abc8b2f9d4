#!/usr/bin/env python
"""Speed of boundary patch refinement, with and without its network, on one core.

python benchmarks/bpr.py
python benchmarks/bpr.py --data datasets/cityscapes/gtFine --limit 4 --networks fcn_hrnet_w18s

With --data, the instances of Cityscapes' *_instanceIds.png (ids from 1000 on) are drawn anew from 28 x 28 samples each,
which are the coarse masks; without it, label maps are drawn. The first table has no network: what it would say of each
patch is given, and coarse masks as RLE go in, refined ones come out. Beside it stands the same in the ordinary way,
which must find the same boxes and masks: mask by mask decoded by pycocotools, box sum by OpenCV, a box on each boundary
pixel, torchvision's nms, patches sliced and added up one by one; on arrays of the image's size, and on arrays of the
object's box with a margin. Image patches are cut by neither. The last table is of whole calls of the refiner; images
and weights are random, as times don't depend on them. Each round runs everyone once, in turn; times are medians over
rounds, in milliseconds for each image. The first use compiles and is not timed.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numba
import numpy as np
import torch
import torchvision
from evaluation import drawn_segments
from null_model import processor
from pycocotools import mask as coco_mask
from tabulate import tabulate

from pnm.boundary_patches.extraction import cut_patches, find_patches
from pnm.masks.degraded_masks import draw_low_resolution
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import MaskCrop, crop_array, crop_rle, crop_runs, crop_segments
from pnm.masks.runs import decode_masks
from pnm.boundary_patches.reassembly import reassemble
from pnm.projects.bpr import NETWORKS, BoundaryPatchRefiner, PatchSettings, build_network

SIZE = 64  # of a patch, px
THINGS_FROM = 1000  # the first id of an instance
INPUT_SIZES = {"fcn_resnet50": 256}  # others 128, as in the paper's ablations
PAPER_PATCHES = {0.25: 135, 0.55: 332}  # Table 7
PAPER_CALL = ["paper, RTX 2080 Ti", "fcn_hrnet_w18s, 128", 135, 52, 81, 78, 211, 1000 / 211, 100 * 81 / 211]
Parts = dict[str, float]  # seconds
Contestants = dict[str, Callable[[], Parts]]


class Scene(NamedTuple):
    """An image's label maps (H, W), and of each instance the true and the coarse mask, the latter as RLE too."""

    ids: np.ndarray
    classes: np.ndarray
    true: list[MaskCrop]
    coarse: list[MaskCrop]
    rles: list[dict[str, Any]]


class Clock:
    """Seconds from one call to the next, added up by name."""

    def __init__(self) -> None:
        self.parts: Parts = {}
        self.last = time.perf_counter()

    def __call__(self, part: str) -> None:
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self.last
        self.last = now


def make_scene(ids: np.ndarray, classes: np.ndarray) -> Scene:
    rng = np.random.default_rng(0)
    instances = np.unique(ids[ids >= THINGS_FROM]).tolist()
    pairs = [(crop, crop_array(draw_low_resolution(crop, 0.0, rng).pixels)) for crop in crop_segments(ids, instances)]
    pairs = [(a, MaskCrop(b.pixels, a.top + b.top, a.left + b.left)) for a, b in pairs if b.pixels.size]
    true, coarse = [a for a, _ in pairs], [b for _, b in pairs]
    return Scene(ids, classes, true, coarse, [crop_rle(crop, *ids.shape) for crop in coarse])


def network_output(scene: Scene, threshold: float) -> list[np.ndarray]:
    """Of each instance (N, 64, 64) float32: about 0.9 where the truth has it, 0.1 elsewhere."""
    rng, found = np.random.default_rng(1), []
    for true, coarse in zip(scene.true, scene.coarse):
        truth = cut_patches(true, find_patches(coarse, *scene.ids.shape, SIZE, threshold), SIZE)
        found.append((0.1 + 0.8 * truth + rng.uniform(-0.1, 0.1, truth.shape)).astype(np.float32))
    return found


def ours(scene: Scene, output: list[np.ndarray], threshold: float, clock: Clock) -> tuple[list, list]:
    """Boxes of all instances and the counts of their refined RLEs."""
    height, width = scene.ids.shape
    runs = decode_masks(scene.rles, height, width)
    crops = [crop_runs(runs, n) for n in range(len(scene.rles))]
    corners = [find_patches(crop, height, width, SIZE, threshold) for crop in crops]
    clock("extraction")
    for crop, boxes in zip(crops, corners):
        cut_patches(crop, boxes, SIZE)
    clock("cutting")
    refined = [reassemble(*given, height, width) for given in zip(crops, corners, output)]
    counts = [crop_rle(crop, height, width)["counts"] for crop in refined]
    clock("reassembly")
    return corners, counts


def dense_boxes(mask: np.ndarray, threshold: float) -> np.ndarray:
    """(N, 2) int64, row and column of the boxes' centres that stay, best first."""
    s = cv2.boxFilter(mask, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    level = np.minimum(s, 9 - s)
    rows, columns = np.nonzero(level)
    corners = np.stack([columns, rows], axis=1).astype(np.float32) - SIZE // 2
    boxes = torch.from_numpy(np.concatenate([corners, corners + SIZE], axis=1))
    scores = torch.from_numpy(level[rows, columns].astype(np.float32))
    kept = torchvision.ops.nms(boxes, scores, threshold).numpy()
    return np.stack([rows[kept], columns[kept]], axis=1)


def ordinary(
    scene: Scene, output: list[np.ndarray], threshold: float, clock: Clock, cropped: bool
) -> tuple[list, list]:
    """As :func:`ours`, but for boxes where boundary pixels are left uncovered."""
    height, width = scene.ids.shape
    corners, refined = [], []
    for rle, given in zip(scene.rles, output):
        whole = coco_mask.decode(rle)
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rle)) if cropped else (0, 0, width, height)
        top, left = max(0, y - SIZE - 1), max(0, x - SIZE - 1)
        region = np.s_[top : y + h + SIZE + 1, left : x + w + SIZE + 1]
        mask = np.ascontiguousarray(whole[region])
        centers = dense_boxes(mask, threshold) + (top, left)
        boxes = np.clip(centers - SIZE // 2, 0, (height - SIZE, width - SIZE))
        boxes = np.array(list(dict.fromkeys(map(tuple, boxes.tolist()))))
        clock("extraction")
        np.stack([mask[v : v + SIZE, u : u + SIZE] for v, u in boxes - (top, left)])
        clock("cutting")
        sums, counts = np.zeros((2, *mask.shape), np.float32)
        for (v, u), patch in zip(boxes - (top, left), given):
            sums[v : v + SIZE, u : u + SIZE] += patch
            counts[v : v + SIZE, u : u + SIZE] += 1
        covered = counts > 0
        mask[covered] = sums[covered] / counts[covered] > 0.5
        whole[region] = mask
        refined.append(coco_mask.encode(whole)["counts"].decode("ascii"))
        clock("reassembly")
        corners.append(boxes)
    return corners, refined


def check_equal(ours: tuple[list, list], theirs: tuple[list, list], threshold: float) -> None:
    """The same boxes, below 1/3 with more of ours for what theirs leave bare; from the same boxes the same masks."""
    for boxes, other_boxes, counts, other_counts in zip(ours[0], theirs[0], ours[1], theirs[1], strict=True):
        np.testing.assert_array_equal(boxes[: len(other_boxes)], other_boxes)
        assert counts == other_counts if len(boxes) == len(other_boxes) else threshold < 1 / 3


def median_parts(contestants: Contestants, rounds: int, images: int) -> dict[str, Parts]:
    """Milliseconds an image of each part; everyone once unmeasured, then each round begins with another one."""
    measured: dict[str, list[Parts]] = {name: [] for name in contestants}
    for k in range(rounds + 1):
        for name in [*contestants][k % len(contestants) :] + [*contestants][: k % len(contestants)]:
            parts = contestants[name]()
            measured[name] += [parts | {"total": sum(parts.values())}] if k else []
    return {
        name: {part: 1000 / images * statistics.median(run[part] for run in runs) for part in runs[0]}
        for name, runs in measured.items()
    }


def compare(scenes: list[Scene], threshold: float, rounds: int) -> list[list]:
    """Rows of the table without network."""
    outputs = [network_output(scene, threshold) for scene in scenes]
    ways = {"ours": (ours,), "whole image": (ordinary, False), "object's box": (ordinary, True)}
    patches = dict.fromkeys(ways, 0)
    for given in zip(scenes, outputs):
        found = {name: way(*given, threshold, Clock(), *options) for name, (way, *options) in ways.items()}
        for name, (corners, _) in found.items():
            check_equal(found["ours"], found[name], threshold)
            patches[name] += sum(map(len, corners))

    def each(way: Callable, *options: bool) -> Callable[[], Parts]:
        def run() -> Parts:
            clock = Clock()
            for scene, output in zip(scenes, outputs):
                way(scene, output, threshold, clock, *options)
            return clock.parts

        return run

    ms = median_parts({name: each(*way) for name, way in ways.items()}, rounds, len(scenes))
    rows = [[threshold, name, patches[name] / len(scenes), *ms[name].values()] for name in ways]
    return [[*row, f"{row[-1] / rows[0][-1]:.1f}x"] for row in rows] + [
        [threshold, "paper", PAPER_PATCHES.get(threshold)]
    ]


class TimedRefiner(BoundaryPatchRefiner):
    """Times its parts; without a network (``nn.Identity``) patches keep their coarse masks."""

    clock, patches = Clock(), 0

    def _refine_patches(self, image, crops):
        self.clock("extraction")  # of a partition, its crops
        return super()._refine_patches(image, crops)

    def _choose(self, *arguments):
        self.clock("reassembly")
        patches = super()._choose(*arguments)
        self.patches += len(patches.corners)
        self.clock("extraction")
        return patches

    def _foreground(self, image, corners, masks):
        self.clock("reassembly")
        without = isinstance(self.network, torch.nn.Identity)
        found = (
            np.where(masks, np.float32(0.9), np.float32(0.1)) if without else super()._foreground(image, corners, masks)
        )
        self.clock("network")
        return found


def build_refiner(name: str | None, task: str, threshold: float, device: str) -> TimedRefiner:
    settings = PatchSettings(task, SIZE, 0, INPUT_SIZES.get(name or "", 128), threshold)
    network = build_network(name, pretrained=False) if name else torch.nn.Identity()
    model = TimedRefiner(network, settings=settings, pixel_mean=[123.7, 116.3, 103.5], pixel_std=[58.4, 57.1, 57.4])
    return model.eval().to(device)


def peak_mib(run: Callable[[], Any]) -> tuple[Any, float | None]:
    """What ``run`` returns, and by how much resident memory rose meanwhile; None where Linux doesn't tell."""

    def resident(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = resident("VmRSS")
    except (OSError, StopIteration):
        return run(), None
    return run(), (resident("VmHWM") - before) / 1024


def time_refiner(scenes: list[Scene], model: TimedRefiner, task: str, rounds: int) -> list:
    """Patches, milliseconds of each part and in all, images a second, the network's share in %, MiB."""
    rng = np.random.default_rng(2)
    images = [torch.from_numpy(rng.integers(0, 256, (3, *scene.ids.shape), np.uint8)) for scene in scenes]
    maps = [None if task == "instance" else scene.classes if task == "semantic" else scene.ids for scene in scenes]
    segments = [[] if labels is None else np.unique(labels).tolist() for labels in maps]

    def run() -> Parts:
        model.clock, model.patches = Clock(), 0
        for scene, image, labels, some in zip(scenes, images, maps, segments):
            if labels is None:
                model.refine_objects(image, scene.coarse)
            else:
                model.refine_partition(image, labels, some)
            model.clock("reassembly")
        return {part: model.clock.parts[part] for part in ("extraction", "network", "reassembly")}

    found, mib = peak_mib(lambda: median_parts({task: run}, rounds, len(scenes)))
    ms = found[task]
    shares = [1000 / ms["total"], 100 * ms["network"] / ms["total"]]
    return [model.patches / len(scenes), *ms.values(), *shares, mib]


def read_scenes(args: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Scene]:
    if not args.data:
        ids = drawn_segments(np.random.default_rng(0), *args.size, args.segments)
        return [make_scene(np.where(ids > 10, ids + THINGS_FROM, ids), ids % 19)]
    files = sorted(args.data.rglob("*_instanceIds.png"))[: args.limit]
    if not files:
        parser.error(f"no *_instanceIds.png in {args.data}: give the folder of Cityscapes' label maps, gtFine")
    names = [(file, file.with_name(file.name.replace("instanceIds", "labelIds"))) for file in files]
    return [make_scene(*(read_label_png(file).astype(np.int32) for file in pair)) for pair in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of Cityscapes, searched through; default: a drawn map")
    parser.add_argument("--limit", type=int, default=4, help="images to take from it (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 2048], metavar=("H", "W"), help="of the drawn map")
    parser.add_argument(
        "--segments", type=int, default=35, help="of the drawn map, 10 are stuff (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each (default: %(default)s)")
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.25, 0.55], help="of NMS (default: 0.25 0.55)")
    parser.add_argument("--networks", nargs="+", default=["fcn_hrnet_w18s", "fcn_resnet50"], choices=NETWORKS)
    parser.add_argument("--network-repeats", type=int, default=1, help="measured runs of each (default: %(default)s)")
    parser.add_argument("--no-network", action="store_true", help="leave out the networks, slow on a CPU")
    args = parser.parse_args()

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    scenes = read_scenes(args, parser)
    modules = ", ".join(f"{m.__name__} {m.__version__}" for m in (np, numba, cv2, torch, torchvision))
    print(f"{processor()}, one core, Python {platform.python_version()}, {modules}")
    instances = sum(len(scene.rles) for scene in scenes) / len(scenes)
    print(f"{len(scenes)} images, {instances:.1f} instances each; ms for each image")
    rows = [row for threshold in args.threshold for row in compare(scenes, threshold, args.rounds)]
    header = ["NMS", "", "patches", "extraction", "cutting", "reassembly", "total", "time / ours"]
    print(tabulate(rows, header, floatfmt=("", "", ".0f", ".2f", ".2f", ".2f", ".2f")))

    rows = []
    for task in ("instance", "semantic", "panoptic"):
        model = build_refiner(None, task, args.threshold[0], "cpu")
        rows.append([task, "none", *time_refiner(scenes, model, task, args.rounds)])
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name, device in [(n, d) for n in args.networks for d in devices if not args.no_network]:
        model = build_refiner(name, "instance", args.threshold[0], device)
        row = time_refiner(scenes[:1], model, "instance", args.network_repeats)
        rows.append([f"instance, {device}", f"{name}, {model.settings.input_size}", *row])
    print(f"\nwhole calls of the refiner at NMS {args.threshold[0]}; a network gets the first image only")
    header = ["", "network", "patches", "extraction", "network", "reassembly", "total", "images/s", "network %", "MiB"]
    print(tabulate([*rows, PAPER_CALL], header, floatfmt=".1f"))


if __name__ == "__main__":
    main()
