#!/usr/bin/env python
"""What SE-PSNet does on synthetic scenes: beside Panoptic FPN, part by part (Table I), over alpha (Table II).

python benchmarks/se_psnet_shapes.py --output output/se_psnet_shapes
python benchmarks/se_psnet_shapes.py --output output/se_psnet_shapes --only alpha

Needs datasets/make_shapes.py's data. Trains what the tables need with the quick start's configs and keeps it: a run
that was ended goes on. Differences are those of the seeds, mean and deviation; intervals, of bootstrapped images, are
those of tools/evaluate.py. Table I is trained on small images for a short time, its Mask Score rows are the same
weights with and without the scores, whose head has no gradient into the rest. Hours on a core.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from segfix_shapes import QUICKSTART, cells, data_folder, gains, ground_truth, predict, run, train
from tabulate import tabulate

import pnm  # noqa: F401 - makes detectron2 importable

TABLES = ("networks", "switches", "alpha", "scores")
SPLITS = ("train", "val")
PANOPTIC = ("PQ", "PQ_th", "PQ_st", "SQ", "RQ", "Boundary-PQ")
INSTANCE = ("AP", "Boundary-AP")
SWITCHES = ("MASK_LOSS", "BASIS_SILHOUETTE", "MASK_AUX", "STUFF_SILHOUETTE")
ROWS = ("0000", "1000", "1100", "1110", "1001")  # of Table I, the Mask Score left out
PAPER = {  # PQ and PQ with Mask Score
    "0000": (57.88, None),
    "1000": (58.25, 58.44),
    "1100": (58.91, 59.10),
    "1110": (59.00, 59.15),
    "1001": (59.03, 59.07),
    "1101": (59.51, 59.60),
    "1111": (59.83, 59.95),
}
PAPER_ALPHA = (56.29, 57.11, 57.78, 57.98, 59.07, 59.61, 59.71, 59.95, 59.77, 59.55)
ALPHAS = tuple(k / 10 for k in range(1, 11))
THRESHOLDS = tuple(k / 20 for k in range(4, 15))
SHORT = ("SOLVER.MAX_ITER", 180, "INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", 128)
CONFIG = f"{QUICKSTART}/se_psnet.yaml"


class Truth(NamedTuple):
    """An image's panoptic ground truth, and its true instance masks by class."""

    ids: np.ndarray
    segments: list[dict]


class Outputs:
    """What a trained network says of the validation scenes, from which all variants of fusion are scored."""

    def __init__(self, weights: Path, *overrides: object):
        import torch
        from detectron2.data import DatasetCatalog, MetadataCatalog
        from detectron2.modeling import build_model

        from pnm.formats.label_png import read_panoptic_png
        from pnm.metrics.panoptic_quality import PanopticQuality
        from pnm.projects.launcher.checkpoint import SafeCheckpointer
        from pnm.projects.launcher.config import load_config
        from pnm.projects.launcher.data.checks import take_from_data
        from pnm.projects.launcher.data.mappers import build_mapper
        from pnm.projects.launcher.data.shapes import register_shapes

        name = "shapes_val_panoptic"
        if name not in DatasetCatalog.list():
            register_shapes()
        cfg = load_config(CONFIG, [str(word) for word in overrides])
        take_from_data(cfg)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.model = build_model(cfg).eval()
        SafeCheckpointer(self.model, strict=True).load(str(weights))
        mapper, metadata = build_mapper(cfg, False), MetadataCatalog.get(name)
        self.categories = {(True, k): c for c, k in metadata.thing_dataset_id_to_contiguous_id.items()}
        self.categories |= {(False, k): c for c, k in metadata.stuff_dataset_id_to_contiguous_id.items()}
        isthing = {c: thing for (thing, k), c in self.categories.items() if thing or k}
        self.quality = PanopticQuality(isthing, boundary_ratio=0.02)
        self.truths, self.found = [], []
        for entry in DatasetCatalog.get(name):
            sample = mapper(entry)
            with torch.no_grad():
                self.found.append((self.model.predict([sample])[0], (entry["height"], entry["width"])))
            rows = [
                {**s, "category_id": self.categories[bool(s["isthing"]), s["category_id"]]}
                for s in entry["segments_info"]
            ]
            self.truths.append(Truth(read_panoptic_png(entry["pan_seg_file_name"]), rows))

    def statistics(self, alpha: float, *, groups: bool = True, threshold: float | None = None) -> np.ndarray:
        """(images, rows, classes) counts of PQ.

        Args:
            alpha: of the Mask Score; 1 with ``groups`` False is the network without its confidence head.
            threshold: of the score in fusion, None for the config's.
        """
        import dataclasses

        from pnm.projects.se_psnet.results import image_results
        from pnm.silhouettes.mask_scores import mask_score

        settings = self.model.settings
        if threshold is not None:
            fusion = dataclasses.replace(settings.fusion, min_score=threshold)
            settings = dataclasses.replace(settings, fusion=fusion)
        counts = []
        for (output, size), truth in zip(self.found, self.truths, strict=True):
            scores = mask_score(output.fcos_scores, output.iou_scores, alpha)
            changed = output._replace(scores=scores)
            changed = changed if groups else changed._replace(iou_scores=None, silhouette_scores=None)
            ids, segments = image_results(changed, size, self.model.output_classes, settings)["panoptic_seg"]
            rows = [{"id": s["id"], "category_id": self.categories[s["isthing"], s["category_id"]]} for s in segments]
            counts.append(self.quality.image_statistics(truth.ids, truth.segments, ids.numpy(), rows))
        return np.stack(counts)

    def scores(self, counts: np.ndarray) -> dict[str, float]:
        """Metrics in percent."""
        found = self.quality.compute_many(counts.sum(0)[None]).means
        return {name: 100 * float(found[name][0]) for name in PANOPTIC}

    def difference(self, before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
        """PQ after less PQ before, and its bootstrap interval, in percent."""
        from pnm.scoring.compare import compare

        def on(counts: np.ndarray):
            return lambda draws: self.quality.compute_many(np.einsum("bi,irc->brc", draws, counts))

        found = compare(on(before), on(after), len(before)).means["PQ"].difference
        return 100 * found.value, 100 * found.low, 100 * found.high


def deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):+.2f} ± {spread:.2f}"


class Bench:
    """Trains and scores what the tables need, below one folder."""

    def __init__(self, output: Path, seeds: list[int], data: Path):
        self.output, self.seeds, self.data = output, seeds, data
        self._outputs: dict[Path, Outputs] = {}

    def outputs(self, weights: Path, *overrides: object) -> Outputs:
        if weights not in self._outputs:
            self._outputs[weights] = Outputs(weights, *overrides)
        return self._outputs[weights]

    def switched(self, row: str, seed: int) -> tuple[Path, tuple[object, ...]]:
        """Weights of a row of Table I, and the overrides that they were trained with."""
        keys = [part for s, on in zip(SWITCHES, row) for part in (f"MODEL.SE_PSNET.{s}", str(on == "1"))]
        overrides = (*keys, *SHORT)
        return train(CONFIG, self.output / f"switches_{row}_{seed}", "SEED", seed, *overrides), overrides

    def switches(self) -> str:
        """Table I in kind: PQ of each row over the seeds, and what each switch adds."""
        found: dict[tuple[str, bool], list[dict[str, float]]] = {}
        for row in ROWS:
            for seed in self.seeds:
                weights, overrides = self.switched(row, seed)
                outputs = Outputs(weights, *overrides)
                for scored in (False, True):
                    counts = outputs.statistics(0.8 if scored else 1.0, groups=scored)
                    found.setdefault((row, scored), []).append(outputs.scores(counts))
        lines = []
        for (row, scored), each in found.items():
            marks = ["x" if on == "1" else "" for on in (row[0], str(int(scored)), *row[1:])]
            means = [f"{statistics.mean(one[m] for one in each):.2f}" for m in PANOPTIC]
            paper = PAPER[row][scored]
            lines.append([*marks, *means, "-" if paper is None else f"{paper:.2f}"])
        headers = ("Mask Loss", "Mask Score", "Silh. Feature", "Mask Aux", "Stuff Silh.", *PANOPTIC, "paper's PQ")
        return "\n\n".join([tabulate(lines, headers, disable_numparse=True), self._added(found)])

    def _added(self, found: Mapping[tuple[str, bool], list[dict[str, float]]]) -> str:
        """Differences between rows that differ by one switch, seed by seed."""
        lines = []
        for k, name in enumerate(("Mask Loss", "Silhouette Feature", "Mask Aux", "Stuff Silhouette", "Mask Score")):
            pairs = [
                ((row, False), (row, True)) if k == 4 else ((row, False), (row[:k] + "1" + row[k + 1 :], False))
                for row in ROWS
                if k == 4 or row[k] == "0"
            ]
            for before, after in pairs:
                if after not in found:
                    continue
                cells_of = [
                    deviation([b[m] - a[m] for a, b in zip(found[before], found[after])])
                    for m in ("PQ", "PQ_th", "PQ_st", "Boundary-PQ")
                ]
                paper = [PAPER[row][scored] for row, scored in (before, after)]
                said = "-" if None in paper else f"{paper[1] - paper[0]:+.2f}"
                lines.append([name, _named(before[0]), *cells_of, said])
        headers = ("switch", "beside", "PQ", "PQ_th", "PQ_st", "Boundary-PQ", "paper's PQ")
        return tabulate(lines, headers, disable_numparse=True)

    def full(self, seed: int) -> Path:
        """Weights of the quick start's SE-PSNet."""
        return self.timed("se_psnet", seed)

    def timed(self, config: str, seed: int, *overrides: object) -> Path:
        """Weights of a config; ``minutes`` beside them tells the processor time of training, if it was trained now."""
        folder = self.output / f"{config}_{seed}"
        is_new, start = not (folder / "model_final.pth").is_file(), os.times()
        weights = train(f"{QUICKSTART}/{config}.yaml", folder, "SEED", seed, *overrides)
        if is_new:
            end = os.times()
            seconds = end.children_user + end.children_system - start.children_user - start.children_system
            (folder / "minutes").write_text(f"{seconds / 60:.1f}")
        return weights

    def _minutes(self, config: str) -> str:
        files = [self.output / f"{config}_{seed}" / "minutes" for seed in self.seeds[:3]]
        return ", ".join(file.read_text() if file.is_file() else "not measured" for file in files)

    def alpha(self) -> str:
        """Table II in kind: one checkpoint, alpha from 0.1 to 1.0, the threshold held and tuned on the same images."""
        outputs = self.outputs(self.full(self.seeds[0]))
        held = {a: outputs.statistics(a) for a in ALPHAS}
        lines = []
        for a, paper in zip(ALPHAS, PAPER_ALPHA, strict=True):
            tuned = {t: outputs.scores(outputs.statistics(a, threshold=t))["PQ"] for t in THRESHOLDS}
            best = max(tuned, key=lambda t: tuned[t])
            values = outputs.scores(held[a])
            lines.append([f"{a:.1f}", *(f"{values[m]:.2f}" for m in PANOPTIC), f"{tuned[best]:.2f} ({best:g})", paper])
        table = tabulate(lines, ("alpha", *PANOPTIC, "PQ tuned (at)", "paper's PQ"), disable_numparse=True)
        differences = [
            f"alpha 0.8 - {other}: PQ {value:+.2f} [{low:+.2f}, {high:+.2f}]"
            for other in (1.0, 0.1)
            for value, low, high in [outputs.difference(held[other], held[0.8])]
        ]
        return "\n".join([table, *differences])

    def scores(self) -> str:
        """How well the scores tell the quality of masks: Pearson correlations over matched detections."""
        lines = []
        for seed in self.seeds[:3]:
            outputs = self.outputs(self.full(seed))
            told = np.array(list(matched(outputs)))
            for k, name in ((0, "FCOS score"), (1, "predicted IoU"), (2, "predicted silhouette score")):
                truth = [np.corrcoef(told[:, k], told[:, column])[0, 1] for column in (3, 4)]
                lines.append([seed, len(told), name, *(f"{value:.3f}" for value in truth)])
        return tabulate(lines, ("seed", "detections", "score", "true IoU", "true silhouette score"))

    def networks(self) -> str:
        """SE-PSNet and Panoptic FPN, the same backbone and data; and BPR on SE-PSNet's results."""
        lines = []
        truth = {task: ground_truth(task, self.data) for task in ("panoptic", "instance")}
        files: dict[tuple[str, int], dict[str, dict[str, Path]]] = {}
        for config in ("panoptic_fpn_R_18", "se_psnet"):
            for seed in self.seeds[:3]:
                weights = self.timed(config, seed)
                is_refined = config == "se_psnet" and seed == self.seeds[0]
                splits = SPLITS if is_refined else SPLITS[1:]
                names = [f"shapes_{split}_panoptic" for split in splits]
                found = predict(f"{QUICKSTART}/{config}.yaml", weights.parent, names, "predictions.json")
                both = {"panoptic": dict(zip(splits, found.values()))}
                both["instance"] = {s: f.with_name("coco_instances_results.json") for s, f in both["panoptic"].items()}
                files[config, seed] = both
        for task, metrics in (("panoptic", PANOPTIC), ("instance", INSTANCE)):
            found_of = [
                gains(task, files["panoptic_fpn_R_18", s][task]["val"], files["se_psnet", s][task]["val"], truth[task])
                for s in self.seeds[:3]
            ]
            for metric in metrics:
                lines.append([metric, *compared([one[metric] for one in found_of])])
        minutes = [f"{config}: {self._minutes(config)}" for config in ("panoptic_fpn_R_18", "se_psnet")]
        headers = ("metric", "Panoptic FPN", "SE-PSNet (medians)", "difference of each seed", "95 % (first seed)")
        parts = [
            "processor minutes of training: " + "; ".join(minutes),
            tabulate(lines, headers, disable_numparse=True),
        ]
        return "\n".join([*parts, "", self._refined(files["se_psnet", self.seeds[0]], truth)])

    def _refined(self, files: Mapping[str, Mapping[str, Path]], truth: Mapping[str, list[str]]) -> str:
        """BPR, trained on SE-PSNet's results of the training scenes."""
        lines = []
        for task, config, metrics in (("panoptic", "bpr_panoptic", PANOPTIC), ("instance", "bpr_instance", INSTANCE)):
            suffix = "_panoptic" if task == "panoptic" else ""
            data = (
                "DATASETS.TRAIN",
                f"('shapes_train{suffix}',)",
                "DATASETS.PREDICTIONS_TRAIN",
                f"('{files[task]['train']}',)",
            )
            weights = train(f"{QUICKSTART}/{config}.yaml", self.output / config, *data)
            after = weights.with_name("refined.json")
            if not after.is_file():
                given = ("--images", self.data / "images/val", "--predictions", files[task]["val"], "--output", after)
                run("tools/refine.py", "--config-file", f"{QUICKSTART}/{config}.yaml", *given, "MODEL.WEIGHTS", weights)
            found = gains(task, files[task]["val"], after, truth[task])
            lines += [[metric, *cells([found[metric]])[:4]] for metric in metrics]
        headers = ("metric", "SE-PSNet", "refined by BPR", "gain", "95 %")
        return tabulate(lines, headers, disable_numparse=True)


def _named(row: str) -> str:
    names = ("Mask Loss", "Silh. Feature", "Mask Aux", "Stuff Silh.")
    return ", ".join(name for name, on in zip(names, row) if on == "1") or "nothing"


def compared(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Medians of both, differences of the seeds, the first's interval; in percent."""
    medians = [statistics.median(100 * one[side]["value"] for one in found) for side in ("a", "b")]
    each = ", ".join(f"{100 * one['difference']['value']:+.2f}" for one in found)
    low, high = (100 * found[0]["difference"][side] for side in ("low", "high"))
    return [*(f"{value:.2f}" for value in medians), each, f"[{low:+.2f}, {high:+.2f}]"]


def matched(outputs: Outputs) -> Iterable[tuple[float, ...]]:
    """FCOS score, predicted IoU, predicted silhouette score, true IoU and true silhouette score of each detection that
    overlaps an object of its class by more than half of their boxes' union."""
    import torch
    from torchvision.ops import box_iou

    from pnm.projects.se_psnet.results import image_results
    from pnm.silhouettes.overlap_losses import silhouette_scores
    from pnm.silhouettes.silhouettes import label_silhouettes

    for (output, size), truth in zip(outputs.found, outputs.truths, strict=True):
        found = image_results(output, size, outputs.model.output_classes, outputs.model.settings)["instances"]
        rows = [s for s in truth.segments if s["isthing"]]
        if not rows or not len(found):
            continue
        masks = torch.stack([torch.from_numpy(truth.ids == s["id"]) for s in rows])
        boxes = torch.stack([torch.tensor(_box(mask.numpy())) for mask in masks])
        ious = box_iou(found.pred_boxes.tensor, boxes)
        classes = torch.tensor([s["category_id"] for s in rows])
        own = torch.tensor([outputs.categories[True, k] for k in found.pred_classes.tolist()])
        ious[own[:, None] != classes[None]] = 0
        best, index = ious.max(1)
        for n in (best > 0.5).nonzero()[:, 0].tolist():
            mask, true = found.pred_masks[n], masks[index[n]]
            lines = label_silhouettes(torch.stack([mask, true]))
            iou = (mask & true).sum() / (mask | true).sum()
            silhouette = silhouette_scores(lines[:1], lines[1:])[0]
            said = found.fcos_scores[n], found.mask_iou_scores[n], found.silhouette_scores[n]
            yield tuple(float(value) for value in (*said, iou, silhouette))


def _box(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/se_psnet_shapes"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", choices=TABLES, nargs="+", default=TABLES)
    args = parser.parse_args()
    bench = Bench(args.output.resolve(), args.seeds, data_folder() / "shapes")
    for name in args.only:
        table = getattr(bench, name)
        print(f"\n{table.__doc__}\n\n{table()}", flush=True)


if __name__ == "__main__":
    main()
