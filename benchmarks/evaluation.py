#!/usr/bin/env python
"""Speed of the semantic and panoptic metrics beside that of decoding the files, and of other programs, on one core.

python benchmarks/evaluation.py
python benchmarks/evaluation.py --panopticapi clone --boundary-iou-api clone
python benchmarks/evaluation.py --data datasets/cityscapes/gtFine --pattern "*_instanceIds.png" --limit 2

Without --data, maps of overlapping shapes are drawn; with it, label maps are read, whose values become classes (modulo
--classes) and segments. Predictions are the maps moved by a few pixels, smoothed, with mistaken parts. Everybody reads
the same PNGs and must get the same values; panopticapi and boundary-iou-api take part where they can be imported.
--metrics semantic or panoptic runs one half. Each round runs everyone once, in turn; the tables give medians over
rounds, in milliseconds for each image. The first use compiles and is not timed.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numba
import numpy as np
from null_model import drawn_map, medians, processor
from PIL import Image
from tabulate import tabulate

from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.metrics.boundary_width import boundary_distance_px
from pnm.scoring.panoptic_files import score_panoptic_files
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.metrics.semantic_metrics import METRICS, SemanticMetrics

Contestants = dict[str, Callable[[], object]]


def drawn_segments(rng: np.random.Generator, height: int, width: int, number: int) -> np.ndarray:
    """(H, W) int32: ellipses over ten horizontal bands, at most ``number`` segments, and void above."""
    ids = np.repeat(np.arange(height) * 10 // height + 1, width).reshape(height, width).astype(np.int32)
    for k in range(11, number + 1):
        center, axes = rng.integers([width, height]).tolist(), rng.integers(20, height // 6, size=2).tolist()
        cv2.ellipse(ids, center, axes, float(rng.integers(180)), 0, 360, k, -1)
    ids[: height // 50] = 0
    return ids


def predicted(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The map moved by 2 px down and 3 px to the right, smoothed by a median, with 20 labels taken for another one."""
    moved = np.roll(labels, (2, 3), axis=(0, 1))
    values, index = np.unique(moved, return_inverse=True)
    smooth = values[np.minimum(cv2.medianBlur(index.reshape(labels.shape).astype(np.uint8), 9), len(values) - 1)]
    for _ in range(20):
        y, x = (rng.integers(size) for size in labels.shape)
        smooth[y : y + 40, x : x + 60] = smooth[y, x]
    return smooth.astype(labels.dtype)


def by_opencv(pred: np.ndarray, target: np.ndarray, classes: int, d: int) -> dict[str, float]:
    """Boundary IoU and boundary F-score at 1 px with an erosion and a dilation for each class."""
    square, disk = np.ones((2 * d + 1, 2 * d + 1), np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    iou, f = np.full(classes, np.nan), np.ones(classes)
    for k in range(classes):
        masks = [((labels == k) & (target != 255)).astype(np.uint8) for labels in (pred, target)]
        p, t = (m & ~cv2.erode(m, square, borderType=cv2.BORDER_CONSTANT, borderValue=0) for m in masks)
        if masks[1].any():
            iou[k] = np.count_nonzero(p & t) / np.count_nonzero(p | t)
        a, b = (contour(m) for m in masks)
        hits = np.count_nonzero(a & cv2.dilate(b, disk)), np.count_nonzero(b & cv2.dilate(a, disk))
        if a.any() and b.any():
            precision, recall = hits[0] / np.count_nonzero(a), hits[1] / np.count_nonzero(b)
            f[k] = 2 * precision * recall / (precision + recall) if sum(hits) else 0.0
        else:
            f[k] = float(a.any() == b.any())
    return {"Boundary-IoU": float(np.nanmean(iou)), "Boundary-F-1px": float(f.mean())}


def contour(mask: np.ndarray) -> np.ndarray:
    framed = cv2.copyMakeBorder(mask, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    right, below, corner = framed[:-1, 1:].copy(), framed[1:, :-1].copy(), framed[1:, 1:].copy()
    right[-1], below[:, -1] = mask[-1], mask[:, -1]
    right[-1, :-1] = mask[-1, 1:]
    below[:-1, -1] = mask[1:, -1]
    corner[-1], corner[:, -1] = mask[-1], mask[:, -1]
    return (mask ^ right) | (mask ^ below) | (mask ^ corner)


def readers(files: list[Path], ours: Callable[[Path], np.ndarray]) -> Contestants:
    """Our reader of the files and those of image libraries: pixels without ids, and no test for damage."""

    def by_pillow(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            return np.asarray(image)

    def by_cv2(file: Path) -> np.ndarray:
        return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)

    def each(read: Callable[[Path], np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            for file in files:
                read(file)

        return run

    return {"decode": each(ours), "decode, Pillow": each(by_pillow), "decode, OpenCV": each(by_cv2)}


def compare_semantic(maps: dict[str, np.ndarray], classes: int, rounds: int, folder: Path) -> None:
    columns: dict[str, dict[str, float]] = {}
    for name, target in maps.items():
        rng = np.random.default_rng(0)
        pred = predicted(target, rng)
        pred[pred == 255] = 0
        files = [folder / "pred.png", folder / "target.png"]
        for labels, file in zip((pred, target), files):
            Image.fromarray(labels).save(file)
        everything = SemanticMetrics(classes)
        contestants = readers(files, read_label_png)
        for metric in METRICS:
            one = SemanticMetrics(classes, metrics=[metric])
            contestants[metric] = lambda one=one, pred=pred, target=target: one.image_statistics(pred, target)
        contestants["all"] = lambda m=everything, pred=pred, target=target: m.image_statistics(pred, target)
        d = boundary_distance_px(target.shape[0], target.shape[1], 0.02)
        contestants["OpenCV"] = lambda pred=pred, target=target, d=d: by_opencv(pred, target, classes, d)
        everything.update(pred, target)
        ours, theirs = everything.compute(), by_opencv(pred, target, classes, d)
        np.testing.assert_allclose([ours[key] for key in theirs], list(theirs.values()), rtol=1e-9)
        ms = medians(contestants, rounds)
        ratios = {f"all / {reader}": ms["all"] / ms[reader] for reader in ms if reader.startswith("decode")}
        columns[name] = ms | ratios | {"OpenCV / all": ms["OpenCV"] / ms["all"]}
    print(f"\nsemantic, {classes} classes, ms for each image: decoding both PNGs, each metric, all at once; by OpenCV,")
    print("with an erosion and dilations for each class, Boundary-IoU and Boundary-F-1px only")
    rows = [[what, *(column[what] for column in columns.values())] for what in next(iter(columns.values()))]
    print(tabulate(rows, ["", *columns], floatfmt=".1f"))


def write_panoptic(maps: dict[str, np.ndarray], folder: Path) -> list[Path]:
    """COCO panoptic files of ids, ground truth and prediction; category 1 is stuff, 2 and 3 are things.

    Ids begin at 1000, as boundary-iou-api can't have that of the last category and one more (4 here) for a segment.
    """
    categories = [{"id": k, "name": str(k), "isthing": int(k > 1)} for k in (1, 2, 3)]
    sides: dict[str, list] = {"gt": [], "pred": []}
    for number, small_ids in enumerate(maps.values()):
        ids = np.where(small_ids > 0, small_ids + 1000, 0)
        for side, labels in (("gt", ids), ("pred", predicted(ids, np.random.default_rng(1)))):
            (folder / side).mkdir(exist_ok=True)
            Image.fromarray(ids_to_rgb(labels)).save(folder / side / f"{number}.png")
            segments = [
                {"id": int(k), "category_id": int(k) % 3 + 1, "iscrowd": 0, "area": int(area)}
                for k, area in zip(*np.unique(labels, return_counts=True))
                if k
            ]
            sides[side].append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    for side, annotations in sides.items():
        content = {
            "images": [{"id": k} for k in range(len(maps))],
            "categories": categories,
            "annotations": annotations,
        }
        (folder / f"{side}.json").write_text(json.dumps(content))
    return [folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred"]


def peer(module: str, files: list[Path], *options: object) -> Callable[[], float] | None:
    """PQ over all categories by a program's own work for one core; None if it can't be imported."""
    try:
        evaluation = __import__(module, fromlist=["pq_compute_single_core"])
    except ImportError:
        return None

    def run() -> float:
        gt, pred = (json.loads(file.read_text()) for file in files[::2])
        categories = {c["id"]: c for c in gt["categories"]}
        pairs = list(zip(gt["annotations"], pred["annotations"]))
        with contextlib.redirect_stdout(io.StringIO()):
            found = evaluation.pq_compute_single_core(0, pairs, str(files[1]), str(files[3]), categories, *options)
        return found.pq_average(categories, isthing=None)[0]["pq"]

    return run


def compare_panoptic(maps: dict[str, np.ndarray], rounds: int, folder: Path) -> None:
    files = write_panoptic(maps, folder)
    pngs = [file for side in files[1::2] for file in sorted(side.glob("*.png"))]

    def ours(name: str, **options: float) -> float:
        return score_panoptic_files(*files, **options).quality.compute()[name]

    contestants: dict[str, Callable[[], object] | None] = {
        **readers(pngs, read_panoptic_png),
        "PQ": lambda: ours("PQ"),
        "PQ, panopticapi": peer("panopticapi.evaluation", files),
    }
    for ratio in (0.02, 0.005):
        name = f"Boundary PQ {ratio}"
        contestants[name] = lambda ratio=ratio: ours("Boundary-PQ", boundary_ratio=ratio)
        module = "boundary_iou.coco_panoptic_api.evaluation"
        contestants[f"{name}, boundary-iou-api"] = peer(module, files, "boundary", ratio)
    present = {name: run for name, run in contestants.items() if run is not None}
    for name, run in present.items():
        if "api" in name:
            np.testing.assert_allclose(run(), present[name.split(",")[0]](), atol=1e-9, err_msg=name)
    ms = {name: value / len(maps) for name, value in medians(present, rounds).items()}
    rows = []
    for name, value in ms.items():
        theirs = next((ms[other] for other in ms if other.startswith(f"{name}, ")), None)
        of_decoding = value / ms["decode"], value / ms["decode, Pillow"]
        rows.append([name, value, *of_decoding, f"{theirs / value:.1f}x" if theirs and name != "decode" else ""])
    segments = [len(np.unique(ids[ids > 0])) for ids in maps.values()]
    print(f"\npanoptic, {segments} segments, reading included; ms for each image")
    header = ["", "ms", "of decoding", "of Pillow's", "faster than peer"]
    print(tabulate(rows, header, floatfmt=("", ".1f", ".2f", ".2f", "")))


def read_maps(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, np.ndarray]:
    files = sorted(args.data.rglob(args.pattern))[: args.limit]
    if not files:
        parser.error(f"no {args.pattern} in {args.data}: give the folder of the label maps")
    return {file.stem[:40]: np.unique(read_label_png(file), return_inverse=True)[1] for file in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of label PNGs, searched through; default: drawn maps")
    parser.add_argument("--pattern", default="*.png", help="names of the PNGs in --data (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=2, help="PNGs to take (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 2048], metavar=("H", "W"), help="of drawn maps")
    parser.add_argument("--classes", type=int, default=19, help="of semantic maps (default: %(default)s)")
    parser.add_argument("--segments", type=int, default=40, help="of drawn panoptic maps (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="measured runs of each (default: %(default)s)")
    parser.add_argument("--metrics", choices=("semantic", "panoptic", "all"), default="all")
    parser.add_argument("--panopticapi", type=Path, help="folder of its clone, if it isn't installed")
    parser.add_argument("--boundary-iou-api", type=Path, help="folder of its clone, if it isn't installed")
    args = parser.parse_args()
    sys.path += [str(clone) for clone in (args.panopticapi, args.boundary_iou_api) if clone]

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    if args.data:
        ids = {name: labels.astype(np.int32) for name, labels in read_maps(args, parser).items()}
        semantic = {name: (labels % args.classes).astype(np.uint8) for name, labels in ids.items()}
    else:
        ids = {"drawn": drawn_segments(rng, *args.size, args.segments)}
        semantic = {"drawn": drawn_map(rng, *args.size, args.classes)}
        semantic["drawn"][: args.size[0] // 50] = 255
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    found = [*simd["baseline"], *simd["found"]]
    has_avx512 = "with" if any(name.startswith(("AVX512", "X86_V4")) for name in found) else "without"
    print(f"{processor()} {has_avx512} AVX-512, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{m.__name__} {m.__version__}" for m in (np, numba, cv2)))
    with tempfile.TemporaryDirectory(prefix="evaluation_") as scratch:
        if args.metrics != "panoptic":
            compare_semantic(semantic, args.classes, args.rounds, Path(scratch))
        if args.metrics != "semantic":
            compare_panoptic(ids, args.rounds, Path(scratch))


if __name__ == "__main__":
    main()
