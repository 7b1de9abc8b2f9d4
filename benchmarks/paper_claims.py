#!/usr/bin/env python
"""What the PNM paper claims, checked on data that can be had; prints a Markdown section.

python benchmarks/paper_claims.py                                   # Fig. 6 and properties P1 to P4: seconds
python benchmarks/paper_claims.py --voc FOLDER                      # and Fig. 5, on predictions of a real DeepLabV3+
python benchmarks/paper_claims.py --train output/claims --seeds 3   # and baseline against PNM on shapes: half an hour

``--voc`` is a folder of ``N_target.png`` and ``N_pred.png`` in the VOC colours. ``--train`` keeps what has been trained
there already; it wants ``python datasets/make_shapes.py`` first.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as rle
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from pnm.formats.label_png import read_label_png
from pnm.metrics.semantic_metrics import SemanticMetrics
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights

LOCALITY = 35
VOC_VOID = (224, 224, 192)


def weights_of(labels: np.ndarray, locality: int = LOCALITY) -> np.ndarray:
    """Eq. 3."""
    return pixel_weights(pixel_null_model(labels, locality, ignore_label=None))


def triangular_image(number: int, side: int) -> np.ndarray:
    """(side, side) uint8: the labels of the ``number``-th image of Fig. 6, 0 left of the zigzag and 1 right of it.

    The zigzag starts in the middle of the upper edge and ends in the middle of the lower; between, it touches the
    right edge at the 1st, 5th, ... and the left edge at the 3rd, 7th, ... point of its division into 2**(number+1).
    """
    parts, scale = 2 ** (number + 1), 4
    edge = side * scale
    points = [(edge / 2, 0.0)]
    points += [(edge if k % 4 == 1 else 0, edge * k / parts) for k in range(1, parts, 2)]
    points.append((edge / 2, float(edge)))
    canvas = Image.new("L", (edge, edge), 1)
    ImageDraw.Draw(canvas).polygon([(0, 0), *points, (0, edge)], fill=0)
    return (np.asarray(canvas)[scale // 2 :: scale, scale // 2 :: scale]).copy()


def figure_6(side: int = 1024) -> list[list]:
    """Rows of image number, mIoU and PNM IoU in percent, of a segmenter that halves every image."""
    halves = np.zeros((side, side), np.uint8)
    halves[:, side // 2 :] = 1
    rows = []
    for number in range(1, 6):
        metric = SemanticMetrics(2, ignore_label=None, locality=LOCALITY, metrics=("IoU", "PNM-IoU"))
        metric.update(halves, triangular_image(number, side))
        result = metric.compute()
        rows.append([number, 100 * result["mIoU"], 100 * result["PNM-IoU"]])
    return rows


def discs(*circles: tuple[int, int, int, int]) -> np.ndarray:
    """(200, 300) uint8 of filled circles (x, y, radius, label)."""
    y, x = np.mgrid[:200, :300]
    labels = np.zeros((200, 300), np.uint8)
    for cx, cy, radius, label in circles:
        labels[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = label
    return labels


def properties() -> list[list]:
    """Rows of property, larger and smaller mean weight, and whether it holds, on drawn label maps."""
    two = discs((60, 100, 12, 1), (200, 100, 60, 1))
    weights = weights_of(two)
    x = np.mgrid[:200, :300][1]
    small, large = (weights[(two == 1) & side].mean() for side in (x < 100, x >= 100))
    one = discs((150, 100, 60, 1))
    inner = discs((150, 100, 40, 1))
    weights_one = weights_of(one)
    boundary, interior = weights_one[(one == 1) & (inner == 0)].mean(), weights_one[inner == 1].mean()
    square = np.zeros((200, 300), np.uint8)
    square[50:150, 100:200] = 1
    weights_square = weights_of(square)
    corner, side = weights_square[50:55, 100:105].mean(), weights_square[50:55, 145:155].mean()
    pole = np.zeros((200, 300), np.uint8)
    pole[:, 145:153] = 1
    weights_pole = weights_of(pole)
    thin, beside = weights_pole[50:150, 145:153].mean(), weights_pole[50:150, 135:145].mean()
    pairs = {
        "P1 smaller instance of a class > larger one": (small, large),
        "P2 boundary > interior": (boundary, interior),
        "P3 sharp corner > straight edge": (corner, side),
        "P4 smaller class of a boundary > larger class": (thin, beside),
    }
    return [[name, more, less, "holds" if more > less else "FAILS"] for name, (more, less) in pairs.items()]


def voc_pair(target_file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours as numbers (H, W) of ground truth and prediction, and which pixels are valid."""
    numbers = []
    for path in (target_file, target_file.with_name(target_file.name.replace("_target", "_pred"))):
        rgb = np.asarray(Image.open(path).convert("RGB")).astype(np.int32)
        numbers.append(rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2])
    void = VOC_VOID[0] + 256 * VOC_VOID[1] + 65536 * VOC_VOID[2]
    return numbers[0], numbers[1], numbers[0] != void


def figure_5(folder: Path, edges: tuple[float, ...] = (1, 1.0001, 1.25, 1.5, 1.75, 2, 2.5, 3, 99)) -> list[list]:
    """Rows of weight interval, share of the valid pixels and error rate in percent.

    Void is a label like others for the null model here: VOC's void is a band along every boundary, and leaving it out
    would leave few pixels near a boundary at all.
    """
    all_weights, all_wrong = [], []
    for target_file in sorted(folder.glob("*_target.png")):
        truth, pred, valid = voc_pair(target_file)
        all_weights.append(weights_of(truth)[valid])
        all_wrong.append((truth != pred)[valid])
    weights, wrong = np.concatenate(all_weights), np.concatenate(all_wrong)
    rows = []
    for low, high in zip(edges, edges[1:]):
        chosen = (weights >= low) & (weights < high)
        if chosen.any():
            name = "1" if high < 1.01 else f"{max(low, 1):.2f} to {high:.2f}" if high < 99 else f"above {low:.2f}"
            rows.append([name, 100 * chosen.mean(), 100 * wrong[chosen].mean()])
    return rows


def train(output: Path, config: str, seed: int) -> Path:
    """The result folder of a quick-start run; one that has been finished is kept."""
    folder = output / f"{config}_seed{seed}"
    result = folder / "inference/shapes_val_sem_seg/sem_seg_predictions.json"
    if not result.exists():
        command = [sys.executable, "train_net.py", "--config-file", f"configs/quickstart/{config}.yaml", "--resume"]
        command += ["OUTPUT_DIR", str(folder.resolve()), "SEED", str(seed)]
        print("training", folder, file=sys.stderr)
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return result


def predicted_labels(result_file: Path, number_of_classes: int) -> dict[str, np.ndarray]:
    """(H, W) uint8 by image stem, from Detectron2's ``sem_seg_predictions.json``."""
    found: dict[str, np.ndarray] = {}
    for row in json.loads(result_file.read_text()):
        mask = rle.decode(row["segmentation"]).astype(bool)
        labels = found.setdefault(Path(row["file_name"]).stem, np.full(mask.shape, 255, np.uint8))
        labels[mask] = row["category_id"]
    assert all(labels.max() < number_of_classes for labels in found.values())
    return found


def score(result_file: Path, label_folder: Path) -> dict[str, float]:
    """mIoU, PNM IoU, Boundary IoU and boundary F at 1 px, in percent."""
    metric = SemanticMetrics(8, locality=LOCALITY, f_score_px=(1,), f_score_absent=False)
    for stem, labels in predicted_labels(result_file, 8).items():
        metric.update(labels, read_label_png(label_folder / f"{stem}.png"))
    result = metric.compute()
    return {name: 100 * result[name] for name in ("mIoU", "PNM-IoU", "Boundary-IoU", "Boundary-F-1px")}


def training_rows(output: Path, seeds: int) -> list[list]:
    """Rows of metric; mean and spread of baseline and PNM; mean and spread of the differences, seed by seed."""
    labels = Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets")).expanduser() / "shapes/semantic_val"
    scores = {
        config: [score(train(output, config, seed), labels) for seed in range(seeds)]
        for config in ("semantic_fpn_R_18", "semantic_fpn_R_18_PNM")
    }
    rows = []
    for name in next(iter(scores.values()))[0]:
        base, weighted = (np.array([one[name] for one in runs]) for runs in scores.values())
        cells = [f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in (base, weighted, weighted - base)]
        rows.append([name, *cells, " ".join(f"{d:+.2f}" for d in weighted - base)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, help="folder of N_target.png and N_pred.png")
    parser.add_argument("--train", type=Path, help="folder of the runs of baseline and PNM")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    tables = [
        ("Fig. 6, d = 35, 1024 px", ("image", "mIoU", "PNM IoU"), figure_6()),
        ("Properties, d = 35", ("property", "mean weight", "against", ""), properties()),
    ]
    if args.voc:
        tables.append(("Fig. 5, DeepLabV3+ on VOC, d = 35", ("weight", "% of pixels", "% wrong"), figure_5(args.voc)))
    if args.train:
        header = ("metric", "baseline", "PNM", "difference", "by seed")
        tables.append((f"Semantic FPN on shapes, {args.seeds} seeds", header, training_rows(args.train, args.seeds)))
    for title, header, rows in tables:
        print(f"\n{title}\n\n{tabulate(rows, headers=header, floatfmt='.2f', tablefmt='github')}")


if __name__ == "__main__":
    main()
