#!/usr/bin/env python
"""What tools/evaluate.py takes beyond decoding its files: whole runs beside the reading of the same PNGs.

python benchmarks/evaluation_files.py --data datasets/cityscapes/gtFine --pairs 500 --threads 1 2

Each map *_instanceIds.png below --data stands for many images, with a prediction of its own for each: the map moved by
a few pixels, with mistaken parts. Both are written as label maps and as panoptic PNGs. "decoding" reads every file
once, with our reader and with OpenCV; "start" is what the command takes to say --help, "run" a whole run as a person
starts it. CPU seconds are those of all threads and tell more than wall seconds on a machine that has other work.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from null_model import processor
from tabulate import tabulate

from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.formats.coco_panoptic import ids_to_rgb

TOOL = [sys.executable, str(Path(__file__).resolve().parents[1] / "tools/evaluate.py")]
LABELS = 34


def perturbed(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The map moved by up to 3 pixels, with 20 rectangles that carry the id of their corner."""
    moved = np.roll(ids, rng.integers(-3, 4, 2), axis=(0, 1))
    for _ in range(20):
        y, x = (int(rng.integers(side)) for side in ids.shape)
        moved[y : y + 40, x : x + 60] = moved[y, x]
    return moved


def write_files(folder: Path, maps: list[Path], pairs: int) -> None:
    """``{gt,pred}.json`` with their folders of PNGs, and ``{gt,pred}_labels``."""
    rng = np.random.default_rng(0)
    annotations: dict[str, list] = {"gt": [], "pred": []}
    for name in [*annotations, "gt_labels", "pred_labels"]:
        (folder / name).mkdir()
    for n in range(pairs):
        truth = read_label_png(maps[n % len(maps)]).astype(np.int64)
        for side, ids in (("gt", truth), ("pred", perturbed(truth, rng))):
            labels = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
            cv2.imwrite(str(folder / f"{side}_labels/{n:06d}.png"), labels)
            cv2.imwrite(str(folder / f"{side}/{n:06d}.png"), ids_to_rgb(ids)[..., ::-1])
            segments = [{"id": k, "category_id": k // 1000 or k} for k in np.unique(ids).tolist() if k]
            annotations[side].append({"image_id": n, "file_name": f"{n:06d}.png", "segments_info": segments})
    categories = [{"id": k, "name": str(k), "isthing": int(k >= 24)} for k in range(1, LABELS)]
    for side, entries in annotations.items():
        (folder / f"{side}.json").write_text(json.dumps({"annotations": entries, "categories": categories}))


def seconds(work: Callable[..., object], *arguments: object) -> np.ndarray:
    """Wall and CPU seconds, the latter of this process and those it started."""
    before = os.times()
    work(*arguments)
    spent = [now - then for now, then in zip(os.times(), before)]
    return np.array([spent[4], sum(spent[:4])])


def decode(read: Callable[[Path], np.ndarray], files: list[Path], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(lambda file: read(file).size > 0, files))


def run(*arguments: object) -> None:
    subprocess.run([*TOOL, *map(str, arguments)], check=True, capture_output=True)


def measured(folder: Path, task: str, metric: str, threads: int, start: np.ndarray) -> list[tuple]:
    read, ending = (read_label_png, "_labels") if task == "semantic" else (read_panoptic_png, "")
    files = [file for side in ("gt", "pred") for file in sorted((folder / (side + ending)).glob("*.png"))]
    decode(read, files, threads)
    decoding = seconds(decode, read, files, threads)
    by_opencv = seconds(decode, lambda file: cv2.imread(str(file), cv2.IMREAD_UNCHANGED), files, threads)
    places = [f"{folder / side}{ending or '.json'}" for side in ("gt", "pred")]
    arguments = [task, "--gt", places[0], "--pred", places[1], "--boundary-ratio", 0.005, "--workers", threads]
    arguments += ["--classes", LABELS] if task == "semantic" else []
    rows = []
    for title, more in ((f"{metric} alone", ("--metrics", metric)), ("all", ())):
        parts = np.stack([decoding, by_opencv, start, seconds(run, *arguments, *more)])
        rows.append((f"{task}, {title}", threads, *parts.T.ravel(), *(parts[3] - parts[2])[1] / parts[:2, 1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with *_instanceIds.png")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    maps = sorted(args.data.rglob("*_instanceIds.png"))
    if not maps:
        parser.error(f"{args.data} has no *_instanceIds.png in it")
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), maps, args.pairs)
        start = seconds(run, "--help")
        tasks = (("semantic", "IoU"), ("panoptic", "PQ"))
        rows = [row for t in args.threads for task in tasks for row in measured(Path(name), *task, t, start)]
    print(f"{args.pairs} pairs of {len(maps)} maps; {processor()}, Python {platform.python_version()}; seconds")
    names = [f"{n}, {kind}" for kind in ("wall", "CPU") for n in ("decoding", "OpenCV's decoding", "start", "run")]
    headers = ("metrics", "threads", *names, "(run - start) / decoding, CPU", "/ OpenCV's")
    print(tabulate(rows, headers=headers, maxheadercolwidths=10, floatfmt=("", "", *[".1f"] * 8, ".2f", ".2f")))


if __name__ == "__main__":
    main()
