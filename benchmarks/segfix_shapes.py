#!/usr/bin/env python
"""What SegFix gains on synthetic scenes: one model for three tasks, beside and before BPR, and for two data sets.

python benchmarks/segfix_shapes.py --output output/segfix_shapes
python benchmarks/segfix_shapes.py --output output/segfix_shapes --seeds 0 --only tasks

Needs datasets/make_shapes.py's data. Trains what the tables need with the quick start's configs and keeps it: a run
that was ended goes on. SegFix and BPR are trained once for each seed, on the same base models; gains are those of the
seeds, and their intervals, of bootstrapped images, are those of tools/evaluate.py. The second data set has other
scenes, other colours (channels exchanged and inverted) and other classes (five, of joined ones). Two hours on a core.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = "configs/quickstart"
CLASSES = 8
JOINED = np.array([0, 0, 1, 2, 3, 4, 4, 3], np.uint8)  # classes of the second data set
TABLES = ("tasks", "steps", "chain", "unified")
METRICS = {
    "semantic": ("mIoU", "Boundary-IoU", "Boundary-F-1px"),
    "instance": ("AP", "Boundary-AP"),
    "panoptic": ("PQ", "Boundary-PQ"),
}
BASES = {  # config, suffix of the data set, result file
    "mask_rcnn": ("mask_rcnn_R_18_FPN_PNM", "", "coco_instances_results.json"),
    "semantic_fpn": ("semantic_fpn_R_18", "_sem_seg", "sem_seg_predictions.json"),
    "panoptic_fpn": ("panoptic_fpn_R_18", "_panoptic", "predictions.json"),
}
TASKS = {"semantic": "semantic_fpn", "instance": "mask_rcnn", "panoptic": "panoptic_fpn"}


def data_folder() -> Path:
    return Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets")).expanduser().resolve()


def run(program: str, *words: object) -> None:
    print(f"$ python {program}", *words, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, program, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])


def train(config: str, folder: Path, *overrides: object) -> Path:
    """The weights of a config, trained now if they aren't there."""
    weights = folder / "model_final.pth"
    if not weights.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        run("train_net.py", "--config-file", config, "DATASETS.TEST", "()", "OUTPUT_DIR", folder, *overrides)
    return weights


def predict(config: str, folder: Path, names: Iterable[str], file: str, *overrides: object) -> dict[str, Path]:
    """Result files of a trained model by data set."""
    files = {name: folder / "inference" / name / file for name in names}
    if not all(path.is_file() for path in files.values()):
        weights = ("MODEL.WEIGHTS", folder / "model_final.pth", "OUTPUT_DIR", folder)
        tests = ("DATASETS.TEST", str(tuple(files)))
        run("train_net.py", "--config-file", config, "--eval-only", *weights, *tests, *overrides)
    return files


def make_second_data(output: Path) -> Path:
    """``<output>/second/shapes``: other scenes, colours and classes."""
    folder = output / "second" / "shapes"
    if not (folder / "made").is_file():
        run("datasets/make_shapes.py", "--output", folder, "--seed", 7)
        for path in sorted(folder.glob("images/*/*.png")):
            cv2.imwrite(str(path), 255 - cv2.imread(str(path))[..., [2, 0, 1]])
        for path in sorted(folder.glob("semantic_*/*.png")):
            labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(path), np.where(labels < CLASSES, JOINED[labels % CLASSES], labels))
        (folder / "made").touch()
    return folder


def registered(folder: Path) -> tuple[str, str]:
    """Override that registers the second data set, ``second_{train,val}``."""
    names = [f"class {k}" for k in range(JOINED.max() + 1)]
    entries = [
        {
            "name": f"second_{split}",
            "type": "semantic",
            "images": str(folder / "images" / split),
            "labels": str(folder / f"semantic_{split}"),
            "classes": names,
        }
        for split in ("train", "val")
    ]
    return "DATASETS.REGISTER", str(entries)


def ground_truth(task: str, data: Path, classes: int = CLASSES) -> list[str]:
    """Arguments of tools/evaluate.py for the validation images."""
    if task == "instance":
        return ["--gt", f"{data}/annotations/instances_val.json"]
    if task == "panoptic":
        return ["--gt", f"{data}/annotations/panoptic_val.json", "--gt-folder", f"{data}/panoptic_val"]
    ids = [str(k) for k in range(classes)]
    return ["--gt", f"{data}/semantic_val", "--classes", str(classes), "--category-ids", *ids]


def refined(weights: Path, predictions: Path, images: Path, output: Path, *then: object) -> Path:
    """Result file of SegFix on result files; ``then`` is what follows its weights: overrides, or another refiner."""
    if not output.is_file():
        files = ("--images", images, "--predictions", predictions, "--output", output, "--overwrite")
        run("tools/refine.py", "--config-file", f"{QUICKSTART}/segfix.yaml", *files, "MODEL.WEIGHTS", weights, *then)
    return output


def gains(task: str, before: Path, after: Path, truth: list[str]) -> dict[str, dict]:
    """{metric: {"a", "b", "difference"}} of a refined result file, values in 0..1 with intervals."""
    report = after.with_suffix(".comparison.json")
    if not report.is_file():
        run("tools/evaluate.py", task, "--pred", before, "--compare", after, *truth, "--output", report)
    return json.loads(report.read_text())["comparison"]


def cells(found: list[dict]) -> list[str]:
    """Before, after, and the gain with the interval of the first seed and the range of all, in percent."""
    before = 100 * found[0]["a"]["value"]
    after = statistics.median(100 * one["b"]["value"] for one in found)
    low, high = (100 * found[0]["difference"][side] for side in ("low", "high"))
    each = ", ".join(f"{100 * one['difference']['value']:.2f}" for one in found)
    return [f"{before:.2f}", f"{after:.2f}", f"{after - before:.2f}", f"[{low:.2f}, {high:.2f}]", each]


HEADERS = ("before", "after (median)", "gain", "95 % (first seed)", "gain of each seed")


class Bench:
    """Trains and scores what the tables need, below one folder."""

    def __init__(self, output: Path, seeds: list[int]):
        self.output, self.seeds, self.data = output, seeds, data_folder() / "shapes"
        self.images = self.data / "images" / "val"

    def base(self, name: str) -> dict[str, Path]:
        config, suffix, file = BASES[name]
        path, folder = f"{QUICKSTART}/{config}.yaml", self.output / name
        train(path, folder)
        return predict(path, folder, [f"shapes_{split}{suffix}" for split in ("train", "val")], file)

    def coarse(self, task: str) -> Path:
        return self.base(TASKS[task])[f"shapes_val{BASES[TASKS[task]][1]}"]

    def segfix(self, name: str, seed: int, *overrides: object) -> Path:
        return train(f"{QUICKSTART}/segfix.yaml", self.output / f"segfix_{name}_{seed}", "SEED", seed, *overrides)

    def bpr(self, seed: int) -> Path:
        files = self.base("mask_rcnn")
        named = ("DATASETS.PREDICTIONS_TRAIN", f"('{files['shapes_train']}',)")
        return train(f"{QUICKSTART}/bpr_instance.yaml", self.output / f"bpr_{seed}", "SEED", seed, *named)

    def tasks(self) -> str:
        """One SegFix for three tasks."""
        rows = []
        for task, metrics in METRICS.items():
            before, truth = self.coarse(task), ground_truth(task, self.data)
            found = []
            for seed in self.seeds:
                weights = self.segfix("panoptic", seed)
                after = refined(weights, before, self.images, weights.with_name(f"{task}.json"))
                found.append(gains(task, before, after, truth))
            rows += [[TASKS[task], m, *cells([one[m] for one in found])] for m in metrics]
        return tabulate(rows, ("refined by SegFix", "metric", *HEADERS), disable_numparse=True)

    def steps(self) -> str:
        """Gains by how a boundary pixel finds the label that it takes, medians of the seeds."""
        rows = []
        for steps, scale in ((1, 1), (1, 2), (8, 1), (12, 1)):
            row = [f"{steps} of {scale} px"]
            for task, metrics in METRICS.items():
                before, truth, found = self.coarse(task), ground_truth(task, self.data), []
                for seed in self.seeds:
                    weights = self.segfix("panoptic", seed)
                    after = weights.with_name(f"{task}_{steps}_{scale}.json")
                    overrides = ("MODEL.SEGFIX.STEPS", steps, "MODEL.SEGFIX.SCALE", float(scale))
                    found.append(gains(task, before, refined(weights, before, self.images, after, *overrides), truth))
                for metric in (metrics[0], metrics[-1]):
                    row.append(f"{statistics.median(100 * one[metric]['difference']['value'] for one in found):.2f}")
            rows.append(row)
        names = [metric for metrics in METRICS.values() for metric in (metrics[0], metrics[-1])]
        return tabulate(rows, ("steps, at most", *names), disable_numparse=True)

    def chain(self) -> str:
        """SegFix, BPR, and one after the other, on Mask R-CNN's masks."""
        before, truth, rows = self.coarse("instance"), ground_truth("instance", self.data), []
        found: dict[str, list] = {"SegFix": [], "BPR": [], "SegFix, then BPR": []}
        for seed in self.seeds:
            weights, bpr = self.segfix("panoptic", seed), self.bpr(seed)
            alone, both = bpr.with_name("refined.json"), bpr.with_name("both.json")
            if not alone.is_file():
                files = ("--images", self.images, "--predictions", before, "--output", alone)
                config = f"{QUICKSTART}/bpr_instance.yaml"
                run("tools/refine.py", "--config-file", config, *files, "MODEL.WEIGHTS", bpr)
            then = ("--then", f"{QUICKSTART}/bpr_instance.yaml", "MODEL.WEIGHTS", bpr)
            refined(weights, before, self.images, both, *then)
            for name, after in zip(found, (weights.with_name("instance.json"), alone, both)):
                refined(weights, before, self.images, weights.with_name("instance.json"))
                found[name].append(gains("instance", before, after, truth))
        for name, ones in found.items():
            rows += [[name, m, *cells([one[m] for one in ones])] for m in METRICS["instance"]]
        return tabulate(rows, ("Mask R-CNN +", "metric", *HEADERS), disable_numparse=True)

    def unified(self) -> str:
        """A model for each of two data sets, and one for both, in as many iterations of as many images."""
        second = make_second_data(self.output)
        register = registered(second)
        config, folder = f"{QUICKSTART}/semantic_fpn_R_18.yaml", self.output / "semantic_fpn_second"
        classes = int(JOINED.max()) + 1
        overrides = (*register, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes)
        train(config, folder, *overrides, "DATASETS.TRAIN", "('second_train',)")
        coarse = predict(config, folder, ["second_val"], "sem_seg_predictions.json", *overrides)["second_val"]
        sets = {
            "first": (self.coarse("semantic"), self.images, ground_truth("semantic", self.data)),
            "second": (coarse, second / "images" / "val", ground_truth("semantic", second, classes)),
        }
        semantic = (*register, "MODEL.SEGFIX.TASK", "semantic")
        trained_on = {
            "first": ("DATASETS.TRAIN", "('shapes_train_sem_seg',)"),
            "second": ("DATASETS.TRAIN", "('second_train',)"),
            "both": ("DATASETS.TRAIN", "('shapes_train_sem_seg','second_train')", "DATALOADER.DATASET_SHARES", "(1,1)"),
        }
        rows = []
        for name, (before, images, truth) in sets.items():
            for model in (name, "both", next(other for other in sets if other != name)):
                found = []
                for seed in self.seeds:
                    weights = self.segfix(model, seed, *semantic, *trained_on[model])
                    after = refined(weights, before, images, weights.with_name(f"on_{name}.json"))
                    found.append(gains("semantic", before, after, truth))
                rows += [[name, model, m, *cells([one[m] for one in found])] for m in METRICS["semantic"]]
        return tabulate(rows, ("data set", "SegFix of", "metric", *HEADERS), disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "segfix_shapes", metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=TABLES, nargs="+", default=TABLES)
    args = parser.parse_args()
    bench = Bench(args.output.resolve(), args.seeds)
    for name in args.only:
        table = getattr(bench, name)
        print(f"\n{table.__doc__}\n\n{table()}", flush=True)


if __name__ == "__main__":
    main()
