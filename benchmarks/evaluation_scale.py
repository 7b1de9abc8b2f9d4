#!/usr/bin/env python
"""Whole runs of the evaluation beside those of other programs, as a person starts them: seconds of CPU and memory.

python benchmarks/evaluation_scale.py --instances coco_val2014_100 --maps datasets/cityscapes/gtFine
python benchmarks/evaluation_scale.py --instances coco_val2014_100 --threads 0

--instances is a folder with COCO's ``instances_*.json`` and ``*_results.json``. They are copied --copies times, with
ids that go on, so that 100 images become 5,000. Of the maps *_instanceIds.png below --maps, --pairs pairs are made as
benchmarks/evaluation_files.py makes them. Each program runs as a process of its own, start and reading included; they
take turns, and of --rounds turns the medians are given, after one that isn't counted. All of a job must give the same
value. Whoever isn't installed is skipped. --threads 0 gives each all cores.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation_files import LABELS, write_files
from null_model import processor
from tabulate import tabulate

TOOL = str(Path(__file__).resolve().parents[1] / "tools/evaluate.py")
# A small process in between: the peak of memory of a process begins with that of the one that started it.
RUNNER = """
import json, os, sys, time
before = time.perf_counter()
process = os.posix_spawn(sys.executable, sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
print(json.dumps([usage.ru_utime + usage.ru_stime, time.perf_counter() - before, usage.ru_maxrss / 1024]))
sys.exit(status != 0)
"""
BY_COCO = """
import contextlib, io, sys
from {0} import COCO
from {1} as evaluator
with contextlib.redirect_stdout(io.StringIO()):
    gt = COCO("gt.json")
    evaluation = evaluator(gt, gt.loadRes("dt.json"), "segm")
    evaluation.evaluate(); evaluation.accumulate(); evaluation.summarize()
print(float(evaluation.stats[0]))
"""
HOTCOCO_PQ = """
from hotcoco.panoptic import PanopticEval
evaluation = PanopticEval("gt.json", "pred.json")
evaluation.run()
print(evaluation.results()["All"]["pq"])
"""
HOTCOCO_MIOU = f"""
from hotcoco.semantic import SemanticEval
evaluation = SemanticEval({LABELS})
evaluation.update_folders("gt_labels", "pred_labels")
print(evaluation.report()["metrics"]["mIoU"])
"""
OPENCV = """
import cv2, glob
for name in sorted(glob.glob("*_labels/*.png")):
    cv2.imread(name, cv2.IMREAD_UNCHANGED)
"""
COCO_PROGRAMS = {
    "hotcoco": ("hotcoco", "hotcoco import COCOeval"),
    "ultrafast-pycocotools": ("ultrafast_pycocotools.coco", "ultrafast_pycocotools.cocoeval import COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval import COCOeval_faster"),
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval import COCOeval"),
}


class Contestant(NamedTuple):
    """A program: who, its command, and what gives the value from what it printed; None if it has none."""

    name: str
    command: list[str]
    value: Callable[[str], float] | None


class Spent(NamedTuple):
    """Seconds of all threads, of the clock, and most MB in memory."""

    cpu: float
    wall: float
    memory: float


def copied(source: Path, folder: Path, copies: int) -> None:
    """``gt.json`` and ``dt.json``: instances and results, ``copies`` times over."""
    (truth_file,), (result_file,) = source.glob("instances_*[0-9].json"), source.glob("*_results.json")
    truth, results = json.loads(truth_file.read_bytes()), json.loads(result_file.read_bytes())
    images = 1 + max(image["id"] for image in truth["images"])
    numbers = 1 + max(annotation["id"] for annotation in truth["annotations"])
    moved = {
        "images": [image | {"id": image["id"] + k * images} for k in range(copies) for image in truth["images"]],
        "annotations": [
            entry | {"id": entry["id"] + k * numbers, "image_id": entry["image_id"] + k * images}
            for k in range(copies)
            for entry in truth["annotations"]
        ],
    }
    (folder / "gt.json").write_text(json.dumps(truth | moved))
    detections = [d | {"image_id": d["image_id"] + k * images} for k in range(copies) for d in results]
    (folder / "dt.json").write_text(json.dumps(detections))


def ours(name: str, metric: str, threads: int, *words: object) -> Contestant:
    """This project's evaluation, which writes its metrics to a file."""
    workers = threads or len(os.sched_getaffinity(0))
    command = [sys.executable, TOOL, *map(str, words), "--workers", str(workers), "--output", "out.json"]
    return Contestant(name, command, lambda _: json.loads(Path("out.json").read_bytes())["metrics"][metric])


def peer(name: str, program: str) -> Contestant | None:
    """Another program, which prints its value last; None if it isn't installed."""
    try:
        title = f"{name} {version(name)}"
    except PackageNotFoundError:
        print(f"{name} is not installed: skipped")
        return None
    return Contestant(title, [sys.executable, "-c", program], lambda printed: float(printed.split()[-1]))


def run(contestant: Contestant) -> tuple[Spent, float | None]:
    """Starts a program and waits for it."""
    command = [sys.executable, "-S", "-c", RUNNER, *contestant.command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    printed, _, spent = done.stdout.rstrip().rpartition("\n")
    if done.returncode:
        raise SystemExit(f"{contestant.name} failed")
    return Spent(*json.loads(spent)), contestant.value(printed) if contestant.value else None


def measured(job: str, contestants: list[Contestant | None], rounds: int) -> list[list]:
    """A row for each program; ratios to the second one."""
    present = [contestant for contestant in contestants if contestant]
    spent: dict[str, list[Spent]] = {contestant.name: [] for contestant in present}
    values: dict[str, float | None] = {}
    for k in range(rounds + 1):
        for contestant in present:
            one, values[contestant.name] = run(contestant)
            if k:
                spent[contestant.name].append(one)
    medians = {name: Spent(*map(statistics.median, zip(*runs))) for name, runs in spent.items()}
    base = next((medians[c.name] for c in present if c.command[1] != TOOL), medians[present[0].name])
    return [
        [job, name, *median, median.cpu / base.cpu, median.memory / base.memory, values[name]]
        for name, median in medians.items()
    ]


def instance_jobs(folder: Path, args: argparse.Namespace) -> list[list]:
    copied(args.instances, folder, args.copies)
    words = ("instance", "--gt", "gt.json", "--pred", "dt.json", "--metrics")
    contestants = [
        ours("mask AP", "AP", args.threads, *words, "segm"),
        ours("mask AP, Boundary AP, AF", "AP", args.threads, *words, "segm", "boundary", "af"),
        *(peer(name, BY_COCO.format(data, evaluator)) for name, (data, evaluator) in COCO_PROGRAMS.items()),
    ]
    return measured(f"instances, {100 * args.copies} images", contestants, args.rounds)


def map_jobs(folder: Path, args: argparse.Namespace) -> list[list]:
    write_files(folder, sorted(args.maps.rglob("*_instanceIds.png")), args.pairs)
    words = ("panoptic", "--gt", "gt.json", "--pred", "pred.json", "--boundary-ratio", 0.005, "--metrics")
    panoptic = [
        ours("PQ", "PQ", args.threads, *words, "PQ"),
        ours("PQ and Boundary PQ", "PQ", args.threads, *words, "PQ", "Boundary-PQ"),
        peer("hotcoco", HOTCOCO_PQ),
    ]
    words = ("semantic", "--gt", "gt_labels", "--pred", "pred_labels", "--classes", LABELS, "--boundary-ratio", 0.005)
    semantic = [
        ours("mIoU", "mIoU", args.threads, *words, "--metrics", "IoU"),
        ours("all semantic metrics", "mIoU", args.threads, *words),
        peer("hotcoco", HOTCOCO_MIOU),
    ]
    reading = [Contestant("OpenCV, reading alone", [sys.executable, "-c", OPENCV], None)]
    rows = measured(f"panoptic, {args.pairs} pairs", panoptic, args.rounds)
    return rows + measured(f"semantic, {args.pairs} pairs", [*semantic, *reading], args.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=Path, help="folder with COCO's instances and results")
    parser.add_argument("--copies", type=int, default=50, help="of them (default: %(default)s)")
    parser.add_argument("--maps", type=Path, help="folder with *_instanceIds.png")
    parser.add_argument("--pairs", type=int, default=100, help="of maps (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each; 0: all cores (default: %(default)s)")
    args = parser.parse_args()
    if args.threads:
        os.environ |= {"RAYON_NUM_THREADS": str(args.threads), "OMP_NUM_THREADS": str(args.threads)}
    jobs = [(args.instances, instance_jobs), (args.maps, map_jobs)]
    jobs = [(source.resolve(), job) for source, job in jobs if source]
    if args.instances:
        args.instances = args.instances.resolve()
    if args.maps:
        args.maps = args.maps.resolve()
    rows = []
    for _, job in jobs:
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            rows += job(Path(name), args)
            os.chdir(Path(name).parent)
    cores = f"{args.threads} thread(s)" if args.threads else "all cores"
    print(f"{processor()}, {cores}, Python {platform.python_version()}; medians of {args.rounds}")
    headers = ("job", "program", "CPU s", "wall s", "MB", "CPU ratio", "memory ratio", "value")
    print(tabulate(rows, headers, floatfmt=("", "", ".2f", ".2f", ".0f", ".2f", ".2f", ".15f")))


if __name__ == "__main__":
    main()
