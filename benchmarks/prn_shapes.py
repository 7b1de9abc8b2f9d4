#!/usr/bin/env python
"""What PRN gains on synthetic scenes, beside BPR and SegFix, without any base model's predictions, on another base
model's results, and part by part.

python benchmarks/prn_shapes.py --output output/prn_shapes
python benchmarks/prn_shapes.py --output output/prn_shapes --seeds 0 --only refiners

Needs datasets/make_shapes.py's data. Trains what the tables need with the quick start's configs and keeps it: a run
that was ended goes on. The base model is Panoptic FPN; the other one, Mask R-CNN's instances laid over Semantic FPN's
stuff by the rule of that model's paper. Refiners are trained once for each seed; gains are those of the seeds, and
their intervals, of bootstrapped images, are those of tools/evaluate.py. Three hours on a core.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image
from segfix_shapes import HEADERS, QUICKSTART, cells, data_folder, ground_truth, predict, run, train
from segfix_shapes import BASES as SINGLE_BASES
from tabulate import tabulate

from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.masks.crops import paste
from pnm.predictions import open_predictions

TABLES = ("refiners", "other_base", "training", "grouping")
METRICS = ("PQ", "RQ", "SQ", "PQ_th", "RQ_th", "SQ_th", "PQ_st", "Boundary-PQ")
SPLITS = ("train", "val")
STUFF_AREA, LEAST_SCORE, MOST_HIDDEN = 256, 0.5, 0.5  # of merging instances and stuff
COUNTS = (
    "inserted",
    "deleted",
    "re-classed",
    "split",
    "merged",
    "found",
    "lost",
    "false ones deleted",
    "new false ones",
)
LETTER = {"CENTER_BOX": "center", "DUPLICATE_IOU": "1.0", "UNMATCHED": "remove"}
GROUPINGS = {  # keys of MODEL.PRN that differ from the defaults
    "default": {},
    "without boxes": {"USE_BOXES": "False"},
    "foreground from the semantic map": {"FOREGROUND": "semantic"},
    "neither": {"USE_BOXES": "False", "FOREGROUND": "semantic"},
    "box at the centre's pixel": {"CENTER_BOX": "center"},
    "duplicates kept": {"DUPLICATE_IOU": "1.0"},
    "unmatched pixels removed": {"UNMATCHED": "remove"},
    "the paper's letter": LETTER,
}
SHORT = 200  # iterations
COORDS = {  # (COORD_ENCODER, COORD_DECODER)
    "none": ("False", "False"),
    "encoder": ("True", "False"),
    "decoder": ("False", "True"),
    "both": ("True", "True"),
}


def laid_over(instances: Path, semantic: Path, output: Path, truth: Path) -> Path:
    """A panoptic result file of detections and a semantic map, merged as Panoptic FPN's paper says."""
    if output.is_file():
        return output
    things, maps = open_predictions(instances), open_predictions(semantic)
    content = json.loads(truth.read_text())
    categories = content["categories"]  # in the order of Semantic FPN's classes
    by_name = {Path(str(key)).stem: key for key in maps.keys}
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for annotation in content["annotations"]:
        classes = maps.read(by_name[Path(annotation["file_name"]).stem])
        labels, rows = np.zeros(classes.size, np.int64), []
        if annotation["image_id"] in things:
            objects = things.read(annotation["image_id"])
            for n in np.argsort(-np.array(objects.scores), kind="stable").tolist():
                mask = paste(objects.masks[n], *classes.size)
                free = mask & (labels == 0)
                if objects.scores[n] >= LEAST_SCORE and free.sum() > (1 - MOST_HIDDEN) * mask.sum():
                    rows.append({"id": len(rows) + 1, "category_id": objects.categories[n], "score": objects.scores[n]})
                    labels[free] = len(rows)
        for label, place in zip(classes.segments, classes.categories, strict=True):
            free = (classes.labels == label) & (labels == 0)
            if not categories[place]["isthing"] and free.sum() >= STUFF_AREA:
                rows.append({"id": len(rows) + 1, "category_id": categories[place]["id"]})
                labels[free] = len(rows)
        annotation["segments_info"] = rows
        Image.fromarray(ids_to_rgb(labels)).save(folder / annotation["file_name"])
    output.write_text(json.dumps(content))
    return output


class Bench:
    """Trains and scores what the tables need, below one folder."""

    def __init__(self, output: Path, seeds: list[int]):
        self.output, self.seeds, self.data = output, seeds, data_folder() / "shapes"
        self.truth = ground_truth("panoptic", self.data)

    def results(self, name: str) -> dict[str, Path]:
        """Result files of a model by split."""
        config, suffix, file = SINGLE_BASES[name]
        path, folder = f"{QUICKSTART}/{config}.yaml", self.output / name
        train(path, folder)
        names = [f"shapes_{split}{suffix}" for split in SPLITS]
        return dict(zip(SPLITS, predict(path, folder, names, file).values(), strict=True))

    def base(self, name: str) -> dict[str, Path]:
        """Panoptic result files by split, of "panoptic_fpn" or of "laid_over"."""
        if name == "panoptic_fpn":
            return self.results(name)
        parts = self.results("mask_rcnn"), self.results("semantic_fpn")
        return {
            split: laid_over(
                *(part[split] for part in parts),
                self.output / "laid_over" / f"{split}.json",
                self.data / f"annotations/panoptic_{split}.json",
            )
            for split in SPLITS
        }

    def trained(self, refiner: str, name: str, seed: int, base: str, *overrides: object) -> Path:
        """Weights of a refiner that learned from a base's results ("" for degraded truth)."""
        named: tuple[object, ...] = ()
        if refiner != "segfix":
            named = ("DATASETS.PREDICTIONS_TRAIN", f"('{self.base(base)['train']}',)" if base else "()")
        folder = self.output / f"{name}_{seed}"
        return train(f"{QUICKSTART}/{refiner}.yaml", folder, "SEED", seed, *named, *overrides)

    def refined(self, refiner: str, weights: Path, base: str, name: str = "", *overrides: object) -> Path:
        """Result file of a refiner on a base's results of the validation scenes."""
        output = weights.with_name(f"on_{base}{name}.json")
        if not output.is_file():
            files = ("--images", self.data / "images/val", "--predictions", self.base(base)["val"])
            config = ("--config-file", f"{QUICKSTART}/{refiner}.yaml", *files, "--output", output, "--overwrite")
            run("tools/refine.py", *config, "MODEL.WEIGHTS", weights, *overrides)
        return output

    def gains(self, after: Path, before: str | Path) -> dict[str, dict]:
        """{metric: {"a", "b", "difference"}} against a base's results or another refined file."""
        path = before if isinstance(before, Path) else self.base(before)["val"]
        report = after.with_suffix(f".against_{before.stem if isinstance(before, Path) else 'base'}.json")
        if not report.is_file():
            words = ("--pred", path, "--compare", after, *self.truth, "--output", report)
            run("tools/evaluate.py", "panoptic", *words)
        return json.loads(report.read_text())["comparison"]

    def counts(self, after: Path, base: str) -> dict[str, int]:
        """What became of the segments, things and stuff together."""
        report = after.with_suffix(".changes.json")
        if not report.is_file():
            files = ("--before", self.base(base)["val"], "--after", after, *self.truth)
            run("tools/segment_changes.py", *files, "--json", report)
        return {name: row["all"] for name, row in json.loads(report.read_text())["counts"].items()}

    def rows(self, name: str, afters: Sequence[Path], base: str, metrics: Sequence[str] = METRICS) -> list[list[str]]:
        found = [self.gains(after, base) for after in afters]
        return [[name, metric, *cells([one[metric] for one in found])] for metric in metrics]

    def changes(self, name: str, afters: Sequence[Path], base: str) -> list[str]:
        """Medians of the seeds."""
        found = [self.counts(after, base) for after in afters]
        return [name, *(f"{statistics.median(one[kind] for one in found):.0f}" for kind in COUNTS)]

    def prn(self, name: str, base: str, learned: str, *overrides: object, on: str = "") -> list[Path]:
        """Refined results of the base ``on`` (default: ``base``), one for each seed."""
        return [
            self.refined("prn", self.trained("prn", name, seed, learned, *overrides), on or base, "", *overrides)
            for seed in self.seeds
        ]

    def refiners(self) -> str:
        """PRN on Panoptic FPN's results, by what it learned from, beside BPR and SegFix on the same files."""
        base, share = "panoptic_fpn", "MODEL.PRN.DEGRADED_SHARE"
        afters = {
            "PRN": self.prn("prn", base, base),
            "PRN, half and half": self.prn("prn_half", base, base, share, 0.5),
            "PRN, degraded truth alone": self.prn("prn_degraded", base, ""),
        }
        for refiner in ("bpr_panoptic", "segfix"):
            weights = [self.trained(refiner, refiner, seed, base) for seed in self.seeds]
            afters[refiner.split("_")[0].upper()] = [self.refined(refiner, one, base) for one in weights]
        rows = [row for name, files in afters.items() for row in self.rows(name, files, base)]
        changes = [self.changes(name, files, base) for name, files in afters.items()]
        return "\n\n".join(
            [
                tabulate(rows, ("refined by", "metric", *HEADERS), disable_numparse=True),
                tabulate(changes, ("refined by", *COUNTS), disable_numparse=True),
            ]
        )

    def other_base(self) -> str:
        """PRN on results of a model that it was not trained for."""
        rows, shown = [], ("PQ", "RQ", "SQ", "Boundary-PQ")
        for on, other in (("panoptic_fpn", "laid_over"), ("laid_over", "panoptic_fpn")):
            names = {on: f"prn_{on}" if on == "laid_over" else "prn"}
            names[other] = f"prn_{other}" if other == "laid_over" else "prn"
            afters = {
                "the same": self.prn(names[on], on, on),
                "the other": self.prn(names[other], on, other, on=on),
                "none (degraded truth)": self.prn("prn_degraded", on, "", on=on),
            }
            for learned, files in afters.items():
                rows += [[on, *row] for row in self.rows(learned, files, on, shown)]
        return tabulate(rows, ("base", "trained on", "metric", *HEADERS), disable_numparse=True)

    def training(self) -> str:
        """Where convolutions see coordinates (CoordConv); trained for 200 iterations."""
        base, rows = "panoptic_fpn", []
        for name, (encoder, decoder) in COORDS.items():
            keys = ("MODEL.PRN.COORD_ENCODER", encoder, "MODEL.PRN.COORD_DECODER", decoder)
            afters = self.prn(f"prn_short_{name}", base, base, *keys, "SOLVER.MAX_ITER", SHORT)
            rows += self.rows(name, afters, base, ("PQ", "RQ", "SQ", "PQ_th"))
        return tabulate(rows, ("coordinates", "metric", *HEADERS), disable_numparse=True)

    def grouping(self) -> str:
        """The same weights, grouped in other ways; against the default."""
        base, rows = "panoptic_fpn", []
        weights = [self.trained("prn", "prn", seed, base) for seed in self.seeds]
        default = self.prn("prn", base, base)
        for number, (name, keys) in enumerate(GROUPINGS.items()):
            words = [word for key, value in keys.items() for word in (f"MODEL.PRN.{key}", value)]
            afters = [self.refined("prn", one, base, f"_{number}" if number else "", *words) for one in weights]
            found = [self.gains(after, base) for after in afters]
            differences = ["", "", ""]
            if number:
                against = [self.gains(after, one)["PQ"]["difference"] for one, after in zip(default, afters)]
                each = [100 * one["value"] for one in against]
                low, high = (100 * against[0][side] for side in ("low", "high"))
                seeds = ", ".join(f"{value:.2f}" for value in each)
                differences = [f"{statistics.median(each):.2f}", f"[{low:.2f}, {high:.2f}]", seeds]
            medians = [f"{statistics.median(100 * one[m]['b']['value'] for one in found):.2f}" for m in METRICS[:6]]
            rows.append([name, *medians, *differences])
        headers = ("grouping", *METRICS[:6], "PQ - default", "95 % (first seed)", "of each seed")
        return tabulate(rows, headers, disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/prn_shapes"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=TABLES, nargs="+", default=TABLES)
    args = parser.parse_args()
    bench = Bench(args.output.resolve(), args.seeds)
    for name in args.only:
        table = getattr(bench, name)
        print(f"\n{table.__doc__}\n\n{table()}", flush=True)


if __name__ == "__main__":
    main()
