#!/usr/bin/env python
"""Time, peak memory and disk of runs in shards, by the number of images: what grows, and what doesn't.

python benchmarks/scale.py                                # 10,000 and 100,000 images in 10 and 100 shards
python benchmarks/scale.py --images 1000000 --shards 100 --steps evaluate-merge

Images are made up and small (seven objects each), and nothing is predicted or decoded where that isn't what a step is
about: what is measured is what the split itself costs, of one shard and of putting all together. Each step is a process
of its own. --folder, with the files that one step leaves to the next, is emptied before.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.formats.label_png import encode_label_png
from pnm.masks.crops import crop_array, crop_rle
from pnm.null_model.stored.maps import WeightMapParameters
from pnm.null_model.stored.sharded_maps import merge_map_shards, write_map_shard
from pnm.predictions import open_predictions
from pnm.predictions.prediction_set import PredictionSet
from pnm.scoring.opening import DEFAULT_METRICS, ScoringSettings, semantic_metric
from pnm.scoring.score_states import SideState, write_state
from pnm.scoring.scores import ImagesState
from pnm.scoring.sharded_scores import merge_states
from pnm.shards import Shard, all_shards

OBJECTS, CLASSES, SIDE = 7, 19, 64
BELONGS = {"scale": True}
TOY = WeightMapParameters("toy", 7)


def make_results(folder: Path, images: int, shards: int) -> None:
    """COCO results, and what all shards but the first made of them."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    rle = crop_rle(crop_array((rows - 30) ** 2 + (columns - 25) ** 2 < 200), SIDE, SIDE)
    entries = (
        {"image_id": n, "category_id": 1, "score": 0.5, "segmentation": rle}
        for n in range(images)
        for _ in range(OBJECTS)
    )
    with (folder / "results.json").open("w", encoding="utf-8") as file:
        file.write("[" + ", ".join(map(json.dumps, entries)) + "]")
    predictions = open_predictions(folder / "results.json")
    for shard in all_shards(shards)[1:]:
        refine(folder, predictions, shard)


def refine(folder: Path, predictions: PredictionSet, shard: Shard) -> None:
    """A shard of which each mask loses a row."""
    with predictions.writer(folder / "refined.json", "toy", shard=shard) as writer:
        for key in shard.part(predictions.keys):
            coarse = predictions.read(key)
            writer.write(
                key, [mask._replace(pixels=mask.pixels[1:], top=mask.top + 1) for mask in coarse.masks], coarse
            )


def merge_results(folder: Path, shards: int) -> None:
    predictions = open_predictions(folder / "results.json")
    writer = predictions.writer(folder / "refined.json", "toy", merges=True)
    writer.merge(*writer.written_by_shards(shards, predictions.keys))


def label_files(folder: Path, images: int) -> list[Path]:
    return [folder / f"labels/{n % 1000:03}/{n:09}.png" for n in range(images)]


def make_labels(folder: Path, images: int, shards: int) -> None:
    """Label maps, each different, and the weight maps of all shards but the first."""
    for n, file in enumerate(label_files(folder, images)):
        file.parent.mkdir(parents=True, exist_ok=True)
        bits = np.unpackbits(np.frombuffer(n.to_bytes(8, "big"), np.uint8))
        file.write_bytes(encode_label_png(bits.reshape(8, 8)))
    for shard in all_shards(shards)[1:]:
        write_map_shard(folder / "maps", TOY, label_files(folder, images), shard)


def settings() -> ScoringSettings:
    return ScoringSettings("semantic", "labels", DEFAULT_METRICS["semantic"])


def make_states(folder: Path, images: int, shards: int) -> None:
    """States of a semantic evaluation with six classes in each image."""
    rng, listed = np.random.default_rng(0), [f"image_{n:09}" for n in range(images)]
    metric = semantic_metric(settings(), [str(k) for k in range(CLASSES)])
    for shard in all_shards(shards):
        keys = list(shard.part(listed))
        statistics = np.zeros((len(keys), *metric.statistics.shape), np.int64)
        for classes in rng.integers(0, CLASSES, (6, len(keys))):
            statistics[np.arange(len(keys)), :, classes] = rng.integers(1, 10**6, statistics.shape[:2])
        counted = statistics[:, metric.rows.index("truth")].sum(axis=1)
        arrays = {"statistics": statistics, "counted": counted, "pixels": counted}
        state = ImagesState({"class_names": metric.class_names}, keys, keys, arrays)
        path = folder / f"states/{shard.folder_name}.npz"
        write_state(path, BELONGS, shard, listed, [SideState([], [], [], state)])


def merge_scores(folder: Path) -> None:
    merge_states(sorted((folder / "states").glob("*.npz")), BELONGS, settings()).scores[0].whole()


STEPS = {  # what is made for it, the step, and what it leaves
    "refine-shard": (
        make_results,
        lambda folder, *_, shards: refine(folder, open_predictions(folder / "results.json"), Shard(1, shards)),
        "refined.json.partial",
    ),
    "refine-merge": (None, lambda folder, *_, shards: merge_results(folder, shards), "refined.json"),
    "weights-shard": (
        make_labels,
        lambda folder, images, shards: write_map_shard(
            folder / "maps", TOY, label_files(folder, images), Shard(1, shards)
        ),
        "maps",
    ),
    "weights-merge": (
        None,
        lambda folder, images, shards: merge_map_shards(folder / "maps", TOY, label_files(folder, images), shards),
        "maps",
    ),
    "evaluate-merge": (make_states, lambda folder, *_, shards: merge_scores(folder), "states"),
}


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def run_step(args: argparse.Namespace, part: str, step: str, images: int, shards: int) -> str:
    words = ["--folder", args.folder, "--part", part, "--steps", step, "--images", images, "--shards", shards]
    done = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 100], help="one number for each number of images")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, default=Path("output/scale"))
    parser.add_argument("--part", choices=("make", "run"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        make, step, _ = STEPS[args.steps[0]]
        work, start = (make if args.part == "make" else step), time.perf_counter()
        work(args.folder, args.images[0], shards=args.shards[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{time.perf_counter() - start:.1f} {peak:.0f}")
        return
    rows = []
    for images, shards in zip(args.images, args.shards, strict=True):
        shutil.rmtree(args.folder, ignore_errors=True)
        args.folder.mkdir(parents=True)
        for step in args.steps:
            if STEPS[step][0]:
                run_step(args, "make", step, images, shards)
            seconds, peak = run_step(args, "run", step, images, shards).split()
            rows.append([step, images, shards, seconds, peak, f"{megabytes(args.folder / STEPS[step][2]):.0f}"])
            print(*rows[-1], flush=True)
    from null_model import processor  # not before: a process's peak of memory begins with that of its parent

    print(f"{processor()}, Python {sys.version.split()[0]}")
    print(tabulate(rows, ("step", "images", "shards", "s", "peak MB", "left on disk, MB")))


if __name__ == "__main__":
    main()
