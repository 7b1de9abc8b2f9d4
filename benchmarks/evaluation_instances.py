#!/usr/bin/env python
"""Speed of the instance metrics against the programs that people use, in one run on the same files.

python benchmarks/evaluation_instances.py
python benchmarks/evaluation_instances.py --boundary-iou-api clone --rounds 5

Instances and detections are drawn and written as COCO files, as many in an image as a usual data set and model have.
Everyone reads those files and computes all numbers of its table on one core; times are medians over rounds, in
milliseconds for each image, each round beginning with another one. Whoever isn't installed is left out, and everybody's
AP must be the same. The first use compiles and is not timed.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import logging
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
from PIL import Image
from pycocotools import mask as coco_mask
from tabulate import tabulate

from pnm.formats.coco_instances import read_coco_ground_truth, read_coco_results
from pnm.metrics.cityscapes_instance_ap import CityscapesInstanceAP
from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES
from pnm.metrics.instance_ap import InstanceMetrics

SIZES = {"480 x 640": (480, 640, 20, 50, 0.02), "1024 x 2048": (1024, 2048, 30, 45, 0.005)}
Contestant = Callable[[], float | None]


def outline(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(360, 2) x, y of a bumpy ellipse, between a 25th and a 4th of the height across."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    bumps = 1 + sum(rng.normal(0, 0.15 / k) * np.sin(k * angle + rng.uniform(0, 6)) for k in (2, 3, 5, 8, 13))
    x, y = rng.uniform(height / 50, height / 8, size=(2, 1)) * np.stack([np.cos(angle), np.sin(angle)]) * bumps
    turn = rng.uniform(0, np.pi)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return turned + rng.uniform([0, 0], [width, height])


def filled(points: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [points.round().astype(np.int32)], 1)


def entry(image: int, category: int, mask: np.ndarray) -> dict:
    text = coco_mask.encode(np.asfortranarray(mask))
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": text | {"counts": text["counts"].decode()},
    }


def draw_image(rng: np.random.Generator, image: int, height: int, width: int, instances: int, found: int, classes: int):
    """``(annotations, detections)``; four of five detections are an instance, moved and with a rough edge."""
    outlines = [(outline(rng, height, width), int(rng.integers(classes)) + 1) for _ in range(instances)]
    gt, dt = [], []
    for points, category in outlines:
        mask = filled(points, height, width)
        gt.append(entry(image, category, mask) | {"area": int(mask.sum()), "iscrowd": 0})
    for _ in range(found):
        points, category = outlines[rng.integers(instances)]
        if rng.random() < 0.2:
            points = outline(rng, height, width)
        points = points + rng.normal(0, height / 250, size=2) + rng.normal(0, height / 600, size=points.shape)
        dt.append(entry(image, category, filled(points, height, width)) | {"score": float(rng.random())})
    return [g for g in gt if g["area"]], dt


def write_files(folder: Path, images: int, classes: int, height: int, width: int, instances: int, found: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_image(rng, k, height, width, instances, found, classes) for k in range(1, images + 1)]
    annotations = [annotation for gt, _ in drawn for annotation in gt]
    for n, annotation in enumerate(annotations):
        annotation |= {"id": n + 1, "bbox": coco_mask.toBbox(annotation["segmentation"]).tolist()}
    content = {
        "images": [{"id": k, "height": height, "width": width} for k in range(1, images + 1)],
        "categories": [{"id": k, "name": str(k)} for k in range(1, classes + 1)],
        "annotations": annotations,
    }
    (folder / "gt.json").write_text(json.dumps(content))
    (folder / "dt.json").write_text(json.dumps([detection for _, dt in drawn for detection in dt]))


def ours(folder: Path, ratio: float, *metrics: str, value: str) -> float:
    gt = read_coco_ground_truth(folder / "gt.json")
    results = read_coco_results(folder / "dt.json", gt)
    measured = InstanceMetrics(list(gt.categories), metrics=metrics, boundary_ratio=ratio)
    for image, (height, width, _) in gt.images.items():
        measured.update(image, height, width, gt.annotations[image], results.by_image[image])
    return measured.compute()[value]


def by_coco(coco, evaluator, folder: Path, kind: str, loading: dict | None = None, **options) -> float:
    """AP by pycocotools or a program with its interface."""
    gt = coco(str(folder / "gt.json"), **(loading or {}))
    evaluation = evaluator(gt, gt.loadRes(str(folder / "dt.json")), kind, **options)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def module(name: str):
    """A peer's module, or None if it isn't installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def mask_contestants(folder: Path, ratio: float) -> dict[str, Contestant]:
    contestants: dict[str, Contestant] = {"ours": lambda: ours(folder, ratio, "segm", value="AP")}
    from pycocotools import coco, cocoeval

    contestants["pycocotools"] = lambda: by_coco(coco.COCO, cocoeval.COCOeval, folder, "segm")
    if faster := module("faster_coco_eval"):
        contestants["faster-coco-eval"] = lambda: by_coco(faster.COCO, faster.COCOeval_faster, folder, "segm")
    return contestants


def boundary_contestants(folder: Path, ratio: float) -> dict[str, Contestant]:
    contestants: dict[str, Contestant] = {"ours": lambda: ours(folder, ratio, "boundary", value="Boundary-AP")}
    if faster := module("faster_coco_eval"):
        options = {"boundary_dilation_ratio": ratio, "boundary_cpu_count": 1}
        contestants["faster-coco-eval"] = lambda: by_coco(
            faster.COCO, faster.COCOeval_faster, folder, "boundary", **options
        )
    data, evaluation = (module(f"boundary_iou.coco_instance_api.{name}") for name in ("coco", "cocoeval"))
    if data and evaluation:
        alone = module("boundary_iou.utils.boundary_utils").augment_annotations_with_boundary_single_core
        data.augment_annotations_with_boundary_multi_core = lambda *given, **options: alone(0, *given, **options)
        contestants["boundary-iou-api"] = lambda: by_coco(
            data.COCO, evaluation.COCOeval, folder, "boundary", {"get_boundary": True, "dilation_ratio": ratio}
        )
    return contestants


def write_cityscapes(folder: Path, images: int) -> None:
    rng = np.random.default_rng(1)
    labels = list(CITYSCAPES_INSTANCE_CLASSES)
    for k in range(images):
        gt, dt = draw_image(rng, k, 1024, 2048, 30, 40, len(labels))
        ids = np.full((1024, 2048), 7, np.uint16)
        for n, annotation in enumerate(gt):
            label = labels[annotation["category_id"] - 1]
            ids[coco_mask.decode(annotation["segmentation"]) > 0] = 1000 * label + n
        Image.fromarray(ids).save(folder / f"a_{k:06d}_000000_gtFine_instanceIds.png")
        lines = []
        for n, detection in enumerate(dt):
            cv2.imwrite(str(folder / f"{k}_{n}.png"), 255 * coco_mask.decode(detection["segmentation"]))
            lines.append(f"{k}_{n}.png {labels[detection['category_id'] - 1]} {detection['score']}\n")
        (folder / f"a_{k:06d}_000000.txt").write_text("".join(lines))


def read_png(path: str | Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def cityscapes_contestants(folder: Path) -> dict[str, Contestant]:
    truths = sorted(map(str, folder.glob("*_instanceIds.png")))
    predictions = [truth.replace("_gtFine_instanceIds.png", ".txt") for truth in truths]

    masks = sorted(folder.glob("[0-9]*.png"))
    contestants: dict[str, Contestant] = {}

    def reading() -> None:
        for path in [*masks, *truths]:
            read_png(path)

    contestants["reading the PNGs alone, by OpenCV"] = reading

    def our_ap() -> float:
        metrics = CityscapesInstanceAP()
        for truth, prediction in zip(truths, predictions):
            dt = []
            for line in Path(prediction).read_text().splitlines():
                name, label, score = line.split()
                dt.append({"category_id": int(label), "segmentation": read_png(folder / name), "score": float(score)})
            metrics.update(truth, read_png(truth), dt)
        return metrics.compute()["AP"]

    contestants["ours"] = our_ap
    if program := module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"):
        args = program.args
        args.quiet, args.JSONOutput, args.predictionPath = True, False, str(folder)

        def its_ap() -> float:
            args.gtInstancesFile = str(folder / f"instances_{time.time_ns()}.json")
            program.setInstanceLabels(
                args
            )  # step by step: the whole stumbles over NumPy's integers when it writes JSON
            instances = program.getGtInstances(truths, args)
            matches = program.matchGtWithPreds(predictions, truths, instances, args)
            return float(np.nanmean(program.evaluateMatches(matches, args)[0]))

        contestants["cityscapesscripts"] = its_ap
    return contestants


def medians(contestants: dict[str, Contestant], rounds: int, images: int) -> dict[str, tuple[float, float | None]]:
    """Milliseconds an image, and AP, which must agree to 1e-9."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    values = {}
    names = list(contestants)
    for k in range(rounds + 1):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                values[name] = contestants[name]()
            if k:
                seconds[name].append(time.perf_counter() - start)
    scores = [value for value in values.values() if value is not None]
    np.testing.assert_allclose(scores, values["ours"], atol=1e-9)
    return {name: (1000 * statistics.median(times) / images, values[name]) for name, times in seconds.items()}


def report(what: str, results: dict[str, tuple[float, float | None]]) -> list[list]:
    base = results["ours"][0]
    return [[what, name, ms, f"{ms / base:.1f}x", value] for name, (ms, value) in results.items()]


def bootstrap_ms(folder: Path, replicates: int) -> float:
    gt = read_coco_ground_truth(folder / "gt.json")
    results = read_coco_results(folder / "dt.json", gt)
    metrics = InstanceMetrics(list(gt.categories))
    for image, (height, width, _) in gt.images.items():
        metrics.update(image, height, width, gt.annotations[image], results.by_image[image])
    number = len(gt.images)
    times = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=replicates)
    start = time.perf_counter()
    metrics.compute_many(times)
    return 1000 * (time.perf_counter() - start) / replicates


def versions() -> str:
    names = ("numpy", "numba", "opencv-python-headless", "pycocotools", "faster-coco-eval", "cityscapesScripts")
    found = []
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10, help="of each size (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=8, help="in the COCO files (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measured runs of each (default: %(default)s)")
    parser.add_argument(
        "--boundary-iou-api", type=Path, metavar="CLONE", help="https://github.com/bowenc0221/boundary-iou-api"
    )
    parser.add_argument("--no-cityscapes", action="store_true", help="leave out Cityscapes' AP")
    args = parser.parse_args()
    if args.boundary_iou_api:
        sys.path.insert(0, str(args.boundary_iou_api))
    cv2.setNumThreads(1)
    logging.disable(logging.INFO)
    # boundary-iou-api and cityscapesscripts were written for older releases of NumPy.
    for name, value in (("float", float), ("in1d", np.isin)):
        if not hasattr(np, name):
            setattr(np, name, value)

    print(f"{processor()}, one core, Python {platform.python_version()}, {versions()}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for what, (height, width, instances, found, narrow) in SIZES.items():
            folder = Path(temporary)
            write_files(folder, args.images, args.classes, height, width, instances, found)
            about = f"{what}, {instances} + {found}"
            rows += report(f"mask AP, {about}", medians(mask_contestants(folder, 0.02), args.rounds, args.images))
            for ratio in sorted({0.02, narrow}, reverse=True):
                ms = medians(boundary_contestants(folder, ratio), args.rounds, args.images)
                rows += report(f"boundary AP, ratio {ratio}, {about}", ms)
            everything = {"ours": lambda f=folder: ours(f, 0.02, "bbox", "segm", "boundary", "af", value="AF")}
            rows += report(f"box, mask, boundary AP and AF, {about}", medians(everything, args.rounds, args.images))
        rows.append([f"bootstrap, {args.images} images, each replicate", "ours", bootstrap_ms(folder, 50), "", None])
        if not args.no_cityscapes:
            write_cityscapes(folder, args.images)
            ms = medians(cityscapes_contestants(folder), args.rounds, args.images)
            rows += report("Cityscapes AP, 1024 x 2048, 30 + 40 PNGs", ms)
    print(
        tabulate(
            rows,
            ["task", "by", "ms an image", "time / ours", "value"],
            floatfmt=("", "", ".2f", "", ".4f"),
            colalign=("left", "left", "right", "right", "right"),
        )
    )


if __name__ == "__main__":
    main()
