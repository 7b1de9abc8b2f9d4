#!/usr/bin/env python
"""What feeding boundary patch refinement takes: memory and time of large result files, time of a training sample.

python benchmarks/bpr_data.py --detections 1000000
python benchmarks/bpr_data.py --cityscapes datasets/cityscapes --rounds 5

The first table is of COCO results with that many ellipses in images of 480 x 640, 20 each: opened as
pnm.predictions.open_predictions does, and parsed by json.load, each in a process of its own. Memory is what the process
has grown by, in MB. The second, with --cityscapes (a folder with leftImg8bit/ and gtFine/), is of what one process of a
data loader does for an image: reading it, and all of the mapper, which includes the reading. Coarse masks are the true
ones drawn anew from 28 x 28 samples. Medians over images and rounds in milliseconds; the first round is not counted.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import pnm  # noqa: F401  (makes detectron2 importable)
from detectron2.data.detection_utils import read_image
from null_model import processor
from tabulate import tabulate

from pnm.masks.degraded_masks import draw_low_resolution
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import crop_array, crop_rle
from pnm.scoring.cityscapes_instance_files import instance_annotations
from pnm.predictions import Objects, open_predictions
from pnm.projects.bpr import BoundaryPatchMapper, PatchSettings
from pnm.projects.dataset_mappers import ColorAugSSDTransform
from pnm.projects.launcher.config import load_config

CONFIG = str(Path(__file__).resolve().parents[1] / "configs/Cityscapes-InstanceSegmentation/bpr_hrnet_w18s_128.yaml")
LABELS, IMAGE = "_gtFine_instanceIds.png", "_leftImg8bit.png"
SIZE, PER_IMAGE = (480, 640), 20


def write_detections(path: Path, number: int) -> None:
    rng, different = np.random.default_rng(0), []
    for _ in range(500):
        mask = np.zeros(SIZE, np.uint8)
        center, axes = rng.integers([SIZE[1], SIZE[0]]).tolist(), rng.integers(10, 120, 2).tolist()
        cv2.ellipse(mask, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
        different.append(crop_rle(crop_array(mask), *SIZE))
    with path.open("w") as file:
        for n in range(number):
            row = {"image_id": n // PER_IMAGE, "category_id": n % 80 + 1, "bbox": [1.0, 2.0, 30.0, 40.0], "score": 0.5}
            file.write(("[" if n == 0 else ", ") + json.dumps({**row, "segmentation": different[n % 500]}))
        file.write("]")


def memory_mb() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def parse(path: Path) -> list:
    with path.open() as file:
        return json.load(file)


def measured(read: Callable[[Path], object], path: Path, result: multiprocessing.SimpleQueue) -> None:
    before, start = memory_mb(), time.perf_counter()
    kept = read(path)
    result.put((time.perf_counter() - start, memory_mb() - before))
    del kept


def result_files_table(number: int) -> str:
    rows, context = [], multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bpr_data_") as scratch:
        path = Path(scratch) / "results.json"
        write_detections(path, number)
        for name, read in {"open_predictions": open_predictions, "json.load": parse}.items():
            result = context.SimpleQueue()
            process = context.Process(target=measured, args=(read, path, result))
            process.start()
            rows.append([name, *result.get()])
            process.join()
        size = path.stat().st_size / 1e6
    title = f"{number} detections, {size:.0f} MB"
    return tabulate(rows, (title, "seconds", "memory, MB"), floatfmt=".1f")


def samples(root: Path) -> tuple[list[dict], dict[str, Objects]]:
    """Dataset dicts of a Cityscapes folder, and coarse masks by image."""
    entries, coarse, rng = [], {}, np.random.default_rng(0)
    for file in sorted((root / "gtFine").rglob(f"*{LABELS}")):
        ids = read_label_png(file)
        image = str(root / "leftImg8bit" / file.relative_to(root / "gtFine")).replace(LABELS, IMAGE)
        rows = [row for row in instance_annotations(ids) if not row["iscrowd"]]
        numbers = [n for n in np.unique(ids).tolist() if n >= 24000]
        masks = [draw_low_resolution(crop_array(ids == n), 2.0, rng) for n in numbers]
        categories = tuple(row["category_id"] for row in rows)
        entries.append({"file_name": image, "annotations": rows})
        coarse[image] = Objects(ids.shape, tuple(masks), (0.5,) * len(masks), categories)
    return entries, coarse


def mapper_table(root: Path, rounds: int) -> str:
    entries, coarse = samples(root)
    if not entries:
        sys.exit(f"no *{LABELS} in {root}/gtFine: give Cityscapes' folder")
    cfg = load_config(CONFIG, [])
    colors = ColorAugSSDTransform(cfg.INPUT.FORMAT)
    settings = PatchSettings.from_config(cfg, is_train=True)
    options = {"image_format": cfg.INPUT.FORMAT, "patches_per_image": cfg.MODEL.BPR.PATCHES_PER_IMAGE}
    mapper = BoundaryPatchMapper(
        settings, is_train=True, coarse=lambda entry: coarse[entry["file_name"]], colors=colors, **options
    )
    tasks: dict[str, Callable[[dict], object]] = {
        "reading": lambda entry: read_image(entry["file_name"], format=cfg.INPUT.FORMAT),
        "all of the mapper": mapper,
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for n in range(rounds + 1):
        for entry in entries:
            for name, task in tasks.items():
                start = time.perf_counter()
                assert task(entry) is not None, f"{entry['file_name']} gives no patches"
                if n:
                    times[name].append(1000 * (time.perf_counter() - start))
    rows = [[name, statistics.median(values)] for name, values in times.items()]
    return tabulate(rows, (f"a training sample, {len(entries)} images", "ms"), floatfmt=".1f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=100_000, help="in the result file (default: %(default)s)")
    parser.add_argument("--cityscapes", type=Path, metavar="DIR", help="folder with leftImg8bit/ and gtFine/")
    parser.add_argument("--rounds", type=int, default=5, help="of the training samples (default: %(default)s)")
    args = parser.parse_args()
    print(f"{processor()}, Python {platform.python_version()}, numpy {np.__version__}, cv2 {cv2.__version__}\n")
    print(result_files_table(args.detections))
    if args.cityscapes:
        print(f"\n{mapper_table(args.cityscapes, args.rounds)}")


if __name__ == "__main__":
    main()
