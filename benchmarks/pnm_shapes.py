#!/usr/bin/env python
"""What weighting by the null model does to networks trained on synthetic scenes; prints Markdown tables.

python benchmarks/pnm_shapes.py --output output/pnm_shapes
python benchmarks/pnm_shapes.py --output output/pnm_shapes --only networks sources

Needs datasets/make_shapes.py's data. Trains what the tables need with the quick start's configs, and keeps it: run
again, it goes on. Hours on a core.

- networks: OCRNet, CCNet and NLNet without and with weights.
- sources: weights of the stored label (SOURCE label) against those of the augmented one (online), images resized by 0.5
  to 2 and cropped.
- labels: weights of panoptic ids (LABELS panoptic) against those of semantic labels.
- pseudo: a teacher learns from 40 labelled scenes, a student from its predictions on the other 360, with and without
  weights of the predictions.

Differences are those of the seeds, mean and standard deviation, and of each seed with the 95 % interval of the
bootstrapped validation images (tools/evaluate.py --compare).
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from segfix_shapes import QUICKSTART, data_folder, gains, ground_truth, predict, run, train
from tabulate import tabulate

SEMANTIC = {"mIoU": "mIoU", "PNM-IoU": "PNM IoU", "Boundary-IoU": "Boundary IoU", "Boundary-F-1px": "boundary F, 1 px"}
PANOPTIC = {"PQ": "PQ", "PQ_th": "PQ things", "PQ_st": "PQ stuff", "Boundary-PQ": "Boundary PQ"}
RESIZED = ("INPUT.MIN_SIZE_TRAIN", "(96,128,192,256,320,384)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice")
RESIZED += ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(192,256)")
WEIGHTED = ("MODEL.PNM.ENABLED", True)
NETWORKS = {"OCRNet": "ocrnet_HR_18s", "CCNet": "ccnet_R_18", "NLNet": "nlnet_R_18"}
LABELLED = 40  # scenes that the teacher learns from
TEACHER_SHARE = 0.5  # of the iterations, for a tenth of the scenes


class Arm(NamedTuple):
    """One side of a comparison: what a run is called, and what is trained."""

    name: str
    config: str
    overrides: tuple[object, ...] = ()


class Bench:
    """Trains and scores what the tables need, below one folder."""

    def __init__(self, output: Path, seeds: list[int], iterations: int):
        self.output, self.seeds, self.iterations = output, seeds, iterations
        self.data = data_folder() / "shapes"

    def trained(self, arm: Arm, seed: int, iterations: int = 0) -> tuple[str, Path, tuple[object, ...]]:
        """Config, folder and overrides of a run that has been finished."""
        config, folder = f"{QUICKSTART}/{arm.config}.yaml", self.output / f"{arm.name}_{seed}"
        train(config, folder, "SEED", seed, "SOLVER.MAX_ITER", iterations or self.iterations, *arm.overrides)
        return config, folder, arm.overrides

    def results(self, arm: Arm, seed: int, task: str) -> Path:
        """Result file on the validation scenes."""
        name, file = {
            "semantic": ("shapes_val_sem_seg", "sem_seg_predictions.json"),
            "panoptic": ("shapes_val_panoptic", "predictions.json"),
        }[task]
        config, folder, overrides = self.trained(arm, seed)
        return predict(config, folder, [name], file, *overrides)[name]

    def compared(self, title: str, arms: Callable[[int], tuple[Arm, Arm]], task: str = "semantic") -> list[list]:
        """Rows of metric, both sides, their difference over the seeds, and of each seed with its interval.

        Args:
            arms: the two sides, given the seed.
        """
        names, truth, found = SEMANTIC if task == "semantic" else PANOPTIC, ground_truth(task, self.data), []
        for seed in self.seeds:
            before, after = (self.results(arm, seed, task) for arm in arms(seed))
            found.append(gains(task, before, after, truth))
        rows = []
        for key, name in names.items():
            a, b = (100 * np.array([f[key][side]["value"] for f in found]) for side in "ab")
            cells = [f"{v.mean():.2f} ± {v.std(ddof=1) if len(v) > 1 else 0:.2f}" for v in (a, b, b - a)]
            each = [f[key]["difference"] for f in found]
            seeds = [f"{100 * d['value']:+.2f} [{100 * d['low']:.2f}, {100 * d['high']:.2f}]" for d in each]
            rows.append([title, name, *cells, ", ".join(seeds)])
        return rows

    def networks(self) -> list[list]:
        rows = []
        for title, config in NETWORKS.items():
            arms = Arm(config, config), Arm(f"{config}_PNM", f"{config}_PNM")
            rows += self.compared(title, lambda seed, arms=arms: arms)
        return rows

    def sources(self) -> list[list]:
        base = (*WEIGHTED, *RESIZED)
        online, label = (
            Arm(f"source_{source}", "semantic_fpn_R_18", (*base, "MODEL.PNM.SOURCE", source))
            for source in ("online", "label")
        )
        return self.compared("Semantic FPN", lambda seed: (online, label))

    def labels(self) -> list[list]:
        rows = []
        for title, config, task in (
            ("Semantic FPN", "semantic_fpn_R_18_PNM", "semantic"),
            ("Panoptic FPN", "panoptic_fpn_R_18_PNM", "panoptic"),
        ):
            arms = Arm(config, config), Arm(f"{config}_ids", config, ("MODEL.PNM.LABELS", "panoptic"))
            rows += self.compared(title, lambda seed, arms=arms: arms, task)
        return rows

    def pseudo(self) -> list[list]:
        return self.compared("Semantic FPN", self._students)

    def _students(self, seed: int) -> tuple[Arm, Arm]:
        data = self._registered("pseudo", self.output / "split/rest/images", self._pseudo_labels(seed))
        options = (*data, "DATASETS.TRAIN", "('pseudo',)")
        arms = Arm("student", "semantic_fpn_R_18", options), Arm("student_PNM", "semantic_fpn_R_18_PNM", options)
        return arms

    def _split(self) -> None:
        """``few`` and ``rest``: folders of links to the scenes that are labelled, and that aren't."""
        images = sorted((self.data / "images/train").iterdir())
        for name, part in (("few", images[:LABELLED]), ("rest", images[LABELLED:])):
            for image in part:
                for folder, source in (("images", image), ("labels", self.data / f"semantic_train/{image.stem}.png")):
                    link = self.output / "split" / name / folder / source.name
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.unlink(missing_ok=True)
                    link.symlink_to(source)

    def _registered(self, name: str, images: Path, labels: Path) -> tuple[str, str]:
        from pnm.projects.launcher.data.shapes import STUFF_CLASSES, THING_CLASSES

        classes = [*THING_CLASSES.values(), *STUFF_CLASSES.values()]
        entry = {"name": name, "type": "semantic", "images": str(images), "labels": str(labels), "classes": classes}
        return "DATASETS.REGISTER", str([entry])

    def _pseudo_labels(self, seed: int) -> Path:
        """Label PNGs that a teacher of this seed predicts for the scenes that are not labelled."""
        self._split()
        few, rest, labels = self.output / "split/few", self.output / "split/rest", self.output / f"pseudo_{seed}"
        register = self._registered("few", few / "images", few / "labels")
        teacher = Arm("teacher", "semantic_fpn_R_18", (*register, "DATASETS.TRAIN", "('few',)"))
        config, folder, _ = self.trained(teacher, seed, round(TEACHER_SHARE * self.iterations))
        weights = ("MODEL.WEIGHTS", folder / "model_final.pth")
        command = ("--config-file", config, "--images", rest / "images", "--output", labels, "--resume", *weights)
        run("tools/pseudo_labels.py", *command)
        return labels


HEADERS = ("", "metric", "first", "second", "difference", "of each seed [95 % over images]")
TABLES = {
    "networks": "Without and with weights",
    "sources": "Weights of the augmented label, and of the stored label",
    "labels": "Weights of semantic labels, and of panoptic ids",
    "pseudo": "Students of predicted labels, without and with weights of them",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/pnm_shapes"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=300, help="of each training (default: %(default)s)")
    parser.add_argument("--only", choices=TABLES, nargs="+", default=list(TABLES))
    args = parser.parse_args()
    bench = Bench(args.output.resolve(), args.seeds, args.iterations)
    for name in args.only:
        rows = getattr(bench, name)()
        print(f"\n{TABLES[name]}\n\n{tabulate(rows, headers=HEADERS, tablefmt='github')}", flush=True)


if __name__ == "__main__":
    main()
