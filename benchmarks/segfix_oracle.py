#!/usr/bin/env python
"""What SegFix would gain with the ground truth's own field, by how pixels find the label that they take.

python benchmarks/segfix_oracle.py --data DATASETS

Ground truth is made coarse (pnm.masks.degraded_masks) and refined with the boundaries and directions of the
truth itself. DATASETS is a folder as DETECTRON2_DATASETS names it; of it are used, where they are there: Cityscapes'
labelIds (semantic) and instanceIds (panoptic, every id a segment), COCO's instances_val2017.json and
instances_train2017.json of images that are there (instances, each mask moved alone), and panoptic_val2017.json. Values
are percentages, medians over seeds of the degradation; in brackets, their range. Before that, the shares of boundary
pixels on Cityscapes, beside those of Table 1 of SegFix's supplement (all 500 validation images).
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from pnm.masks.degraded_masks import degrade, degrade_partition
from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.formats.coco_instances import read_coco_ground_truth
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.formats.semantic_maps import label_files, train_ids
from pnm.interior_offsets.boundary_shares import BoundaryShares
from pnm.interior_offsets.field import offsets_of_targets
from pnm.interior_offsets.shifting import Shift, shifted_labels, shifted_mask
from pnm.interior_offsets.targets import offset_targets
from pnm.masks.crops import MaskCrop, crop_rle, crop_runs, crop_segments
from pnm.masks.runs import decode_masks
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.metrics.semantic_metrics import SemanticMetrics

IGNORED, VOID = 255, 0
# (how directions are made, scale of a step, steps at most)
WAYS = {
    "one step of 1 px": ({}, 1, 1),
    "one step of 2 px": ({}, 2, 1),
    "up to 8 steps": ({}, 1, 8),
    "up to 12 steps": ({}, 1, 12),
    "up to 8 steps, kernel of 9 px": ({"kernel_px": 9}, 1, 8),
    "up to 8 steps, from the nearest": ({"direction": "nearest"}, 1, 8),
    "up to 8 steps, 16 directions": ({"bins": 16}, 1, 8),
}


# Table 1: shares (%) at 1 to 5 px of some of the classes, and of all.
PAPER_SHARES = {
    "pole": (20.1, 38.1, 51.6, 61.8, 69.8),
    "traffic light": (12.2, 23.4, 32.3, 40.3, 48.5),
    "traffic sign": (9.0, 17.5, 24.2, 30.5, 37.1),
    "vegetation": (2.8, 5.6, 7.8, 9.9, 12.4),
    "car": (2.5, 4.9, 6.8, 8.7, 11.0),
    "road": (1.0, 1.9, 2.7, 3.5, 4.4),
    "all": (2.6, 5.2, 7.2, 9.1, 11.2),
}


class Scene(NamedTuple):
    """Ground truth of an image: labels, of which ``ignored`` are none, and masks of objects, which may overlap."""

    labels: np.ndarray
    ignored: int
    segments: list[dict]
    objects: list[MaskCrop]


def semantic_scenes(data: Path) -> Iterator[Scene]:
    for path in label_files(data / "cityscapes/gtFine", label_ids=True).values():
        labels = train_ids(path, read_label_png(path), truth=True)
        yield Scene(labels, IGNORED, [{"id": k} for k in np.unique(labels).tolist() if k != IGNORED], [])


def instance_scenes(data: Path) -> Iterator[Scene]:
    for split in ("train", "val"):
        path = data / f"coco/annotations/instances_{split}2017.json"
        truth = read_coco_ground_truth(path) if path.is_file() else None
        for image, entry in truth.images.items() if truth else ():
            rows = [row for row in truth.annotations.get(image, []) if not row.get("iscrowd", 0)]
            masks = decode_masks([row["segmentation"] for row in rows], entry.height, entry.width, str)
            crops = [crop_runs(masks, n) for n in range(len(rows))]
            rows = [row for row, crop in zip(rows, crops) if crop.pixels.size]
            crops = [crop for crop in crops if crop.pixels.size]
            labels = np.zeros((entry.height, entry.width), np.int32)
            for k in sorted(range(len(crops)), key=lambda k: -crops[k].pixels.sum()):
                pixels, top, left = crops[k]
                labels[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = k + 1
            yield Scene(labels, -1, [{"category_id": row["category_id"]} for row in rows], crops)


def panoptic_scenes(data: Path) -> Iterator[Scene]:
    for path in sorted(data.glob("cityscapes/gtFine/*/*/*_instanceIds.png")):
        ids = read_label_png(path).astype(np.int32)
        kinds = {k: k // 1000 if k >= 1000 else k for k in np.unique(ids).tolist()}
        segments = [{"id": k, "category_id": kind} for k, kind in kinds.items() if kind in CITYSCAPES_CLASSES]
        ids[~np.isin(ids, [segment["id"] for segment in segments])] = VOID
        yield Scene(ids, VOID, segments, [])
    path = data / "coco/annotations/panoptic_val2017.json"
    for entry in json.loads(path.read_text())["annotations"] if path.is_file() else ():
        ids = read_panoptic_png(data / "coco/panoptic_val2017" / entry["file_name"])
        segments = [
            {"id": s["id"], "category_id": 1000 + s["category_id"]} for s in entry["segments_info"] if not s["iscrowd"]
        ]
        ids = np.where(np.isin(ids, [segment["id"] for segment in segments]), ids, VOID)
        yield Scene(ids, VOID, segments, [])


def coarse_labels(scene: Scene, seed: int) -> np.ndarray:
    ids = [segment["id"] for segment in scene.segments]
    crops = dict(zip(ids, crop_segments(scene.labels, ids)))
    return degrade_partition(scene.labels, crops, np.random.default_rng(seed))


def score_semantic(scenes: list[Scene], seed: int, shifts: list[Shift] | None) -> dict[str, float]:
    metric = SemanticMetrics(len(CITYSCAPES_CLASSES), metrics=("IoU", "Boundary-F"), f_score_px=(1,))
    for n, scene in enumerate(scenes):
        labels = coarse_labels(scene, seed)
        metric.update(shifted_labels(labels, shifts[n], range(IGNORED)) if shifts else labels, scene.labels)
    values = metric.compute()
    return {"mIoU": values["mIoU"], "boundary F, 1 px": values["Boundary-F-1px"]}


def score_instances(scenes: list[Scene], seed: int, shifts: list[Shift] | None) -> dict[str, float]:
    categories = sorted({segment["category_id"] for scene in scenes for segment in scene.segments})
    metric = InstanceMetrics(categories, metrics=("segm", "boundary"))
    for n, scene in enumerate(scenes):
        size, rng = scene.labels.shape, np.random.default_rng(seed)
        masks = [degrade(crop, *size, rng) for crop in scene.objects]
        masks = [shifted_mask(mask, shifts[n]) for mask in masks] if shifts else masks
        sides = [
            [{**s, "segmentation": crop_rle(m, *size), "score": 1.0} for s, m in zip(scene.segments, side)]
            for side in (scene.objects, masks)
        ]
        metric.update(n, *size, *sides)
    values = metric.compute()
    return {"AP": values["AP"], "Boundary AP": values["Boundary-AP"]}


def score_panoptic(scenes: list[Scene], seed: int, shifts: list[Shift] | None) -> dict[str, float]:
    categories = {segment["category_id"] for scene in scenes for segment in scene.segments}
    metric = PanopticQuality(dict.fromkeys(sorted(categories), True), boundary_ratio=0.005)
    for n, scene in enumerate(scenes):
        labels = coarse_labels(scene, seed)
        ids = [segment["id"] for segment in scene.segments]
        labels = shifted_labels(labels, shifts[n], ids) if shifts else labels
        present = set(np.unique(labels).tolist())
        metric.update(scene.labels, scene.segments, labels, [s for s in scene.segments if s["id"] in present])
    values = metric.compute()
    return {"PQ": values["PQ"], "Boundary PQ": values["Boundary-PQ"]}


def shares_table(scenes: list[Scene]) -> str:
    """Shares of boundary pixels, ours and the paper's."""
    shares = BoundaryShares(len(CITYSCAPES_CLASSES))
    for scene in scenes:
        shares.add(scene.labels)
    ours = dict(zip(CITYSCAPES_CLASSES.values(), shares.by_class().T)) | {"all": shares.of_all()}
    rows = [
        [name, *(f"{100 * mine:.1f} [{theirs}]" for mine, theirs in zip(ours[name], paper))]
        for name, paper in PAPER_SHARES.items()
    ]
    headers = ("near a boundary, % [paper]", *(f"{width} px" for width in shares.widths_px))
    return tabulate(rows, headers, disable_numparse=True)


Score = Callable[[list[Scene], int, list[Shift] | None], dict[str, float]]
TASKS: dict[str, tuple[Callable[[Path], Iterator[Scene]], Score]] = {
    "semantic": (semantic_scenes, score_semantic),
    "instance": (instance_scenes, score_instances),
    "panoptic": (panoptic_scenes, score_panoptic),
}


def shift_of_truth(scene: Scene, options: dict, scale: int, steps: int) -> Shift:
    targets = offset_targets(scene.labels, ignore_label=scene.ignored, **options)
    return offsets_of_targets(targets, options.get("bins", 8)).shift(scale=scale, steps=steps)


def cell(values: list[float]) -> str:
    middle, low, high = (100 * f(values) for f in (statistics.median, min, max))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DATASETS")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    args = parser.parse_args()
    columns: dict[str, list[str]] = {"refined by": ["nothing", *WAYS]}
    for task, (scenes_of, score) in TASKS.items():
        scenes = list(scenes_of(args.data))
        if not scenes:
            continue
        if task == "semantic":
            print(f"{shares_table(scenes)}\n")
        print(f"{task}: {len(scenes)} images, {sum(len(scene.segments) for scene in scenes)} segments")
        runs = [[score(scenes, seed, None) for seed in range(args.seeds)]]
        for options, scale, steps in tqdm(WAYS.values(), desc=task):
            shifts = [shift_of_truth(scene, options, scale, steps) for scene in scenes]
            runs.append([score(scenes, seed, shifts) for seed in range(args.seeds)])
        for name in runs[0][0]:
            columns[name] = [cell([one[name] for one in run]) for run in runs]
    print(tabulate(columns, headers="keys", disable_numparse=True))


if __name__ == "__main__":
    main()
