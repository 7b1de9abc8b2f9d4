#!/usr/bin/env python
"""Speed of SegFix without its network, on one core: distances, targets, offsets applied and stored.

python benchmarks/segfix.py
python benchmarks/segfix.py --data datasets/cityscapes/gtFine --limit 4 --peer openseg.pytorch

Label maps are Cityscapes' 19 classes with --data, else drawn. Beside ours stands the same with a distance transform
of OpenCV for each class, which must find the same distances. --peer names a clone of the authors' code, whose own
functions are then called: the making of ground truth (`process` of the Cityscapes generator, file to file; ours reads
the same label file and stores a PNG), and `shift`, which moves a label map by given offsets. Each round runs everyone
once, in turn; times are medians over rounds, in milliseconds for each image. The first use compiles and is not timed.
"""

import argparse
import ast
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from evaluation import drawn_segments
from null_model import processor
from tabulate import tabulate

from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.formats.label_png import decode_label_png, encode_grey16_png, read_label_png
from pnm.formats.semantic_maps import label_files, train_ids
from pnm.interior_offsets.directions import bin_steps
from pnm.interior_offsets.distances import label_distances
from pnm.interior_offsets.field import InteriorOffsets, offsets_of_targets, packed, unpacked
from pnm.interior_offsets.shifting import shifted_labels, shifted_mask
from pnm.interior_offsets.targets import offset_targets
from pnm.masks.crops import crop_segments

SIZE = 1024, 2048
OBJECTS = 20
Contestants = dict[str, Callable[[], Any]]


def drawn(rng: np.random.Generator) -> np.ndarray:
    """(H, W) uint8 of 19 classes and some void."""
    ids = drawn_segments(rng, *SIZE, 80)
    return np.where(ids > 0, ids % len(CITYSCAPES_CLASSES), 255).astype(np.uint8)


def label_maps(data: Path | None, limit: int) -> dict[str, np.ndarray]:
    if data is None:
        rng = np.random.default_rng(0)
        return {f"drawn {k}": drawn(rng) for k in range(limit)}
    files = list(label_files(data, label_ids=True).items())[:limit]
    return {str(path): train_ids(path, read_label_png(path), truth=True) for _, path in files}


def by_opencv(labels: np.ndarray) -> np.ndarray:
    """Distances with a transform for each label."""
    distances = np.zeros(labels.shape, np.float32)
    for k in np.unique(labels):
        mask = (labels == k).astype(np.uint8)
        distances += cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * mask
    return distances


def moved_labels(labels: np.ndarray, offsets: InteriorOffsets, steps: int, scale: int) -> np.ndarray:
    return shifted_labels(labels, offsets.shift(scale=scale, steps=steps), range(19))


def moved_objects(crops: list, offsets: InteriorOffsets) -> list:
    shift = offsets.shift(steps=8)
    return [shifted_mask(crop, shift) for crop in crops]


def objects_of(labels: np.ndarray) -> list:
    """The largest connected pieces of all classes."""
    crops = []
    for k in np.unique(labels[labels < 19]):
        number, pieces = cv2.connectedComponents((labels == k).astype(np.uint8))
        crops += crop_segments(pieces, list(range(1, number)))
    return sorted(crops, key=lambda crop: -np.count_nonzero(crop.pixels))[:OBJECTS]


def functions_of(path: Path, names: set[str], scope: dict[str, Any]) -> SimpleNamespace:
    """Some functions of a file that is a script: it is not run, only what it defines of these names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    kept += [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in names]
    exec(compile(ast.Module(kept, []), str(path), "exec"), scope)
    return SimpleNamespace(**{name: scope[name] for name in names})


def peer(clone: Path, labels: np.ndarray, offsets: InteriorOffsets, folder: Path) -> tuple[Contestants, Contestants]:
    """The authors' steps beside ours: ground truth from a label file to a file, and labels moved by offsets."""
    import scipy.io
    import scipy.ndimage
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    scope = {"np": np, "torch": torch, "Image": Image, "io": scipy.io, "osp": os.path, "print": lambda *words: None}
    scope |= {"distance_transform_edt": scipy.ndimage.distance_transform_edt, "F": torch.nn.functional}
    generator = clone / "lib/datasets/preprocess/cityscapes/dt_offset_generator.py"
    made = functions_of(generator, {"process", "_encode_label", "sobel_kernel", "label_list"}, scope)
    kernels = [made.sobel_kernel((5, 5), axis=axis) for axis in (1, 0)]
    scope |= {"ksize": 5, "sobel_ker": torch.stack(kernels).float(), "args": SimpleNamespace(metric="euc")}
    ids = np.full(256, 0, np.uint8)
    ids[: len(CITYSCAPES_CLASSES)] = list(CITYSCAPES_CLASSES)
    cv2.imwrite(str(folder / "labels.png"), ids[labels])

    def ours() -> None:
        read = train_ids(folder / "labels.png", read_label_png(folder / "labels.png"), truth=True)
        targets = offset_targets(read, ignore_label=255)
        (folder / "ours.png").write_bytes(encode_grey16_png(packed(offsets_of_targets(targets, 8))))

    moved = functions_of(clone / "scripts/cityscapes/segfix.py", {"shift", "gen_coord_map"}, scope)
    bins = offsets.on_boundary()
    steps = np.vstack([bin_steps(8, 2), np.zeros((256 - 8, 2), np.int64)])
    field = steps[bins].transpose(2, 0, 1).astype(np.float32)
    truth = {"ours": ours, "authors'": lambda: made.process((str(folder), str(folder), "labels.png"))}
    shifts = {
        "ours": lambda: moved_labels(labels, offsets, 1, 2),
        "authors'": lambda: moved.shift(labels.astype(np.float32), field),
    }
    return truth, shifts


def timed(contestants: Contestants, rounds: int) -> dict[str, float]:
    """Median milliseconds of each, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def contestants_of(labels: np.ndarray, offsets: InteriorOffsets, crops: list) -> dict[str, Contestants]:
    png = encode_grey16_png(packed(offsets))
    window = np.ascontiguousarray(labels[:512, :512])
    return {
        "distances of all labels": {"ours": lambda: label_distances(labels), "OpenCV": lambda: by_opencv(labels)},
        "targets, gradient, kernel of 5 px": {"ours": lambda: offset_targets(labels, ignore_label=255)},
        "targets, gradient, kernel of 9 px": {"ours": lambda: offset_targets(labels, ignore_label=255, kernel_px=9)},
        "targets, nearest": {"ours": lambda: offset_targets(labels, ignore_label=255, direction="nearest")},
        "targets of a crop of 512 x 512": {"ours": lambda: offset_targets(window, ignore_label=255)},
        "19 classes moved, up to 8 steps": {"ours": lambda: moved_labels(labels, offsets, 8, 1)},
        "19 classes moved, one step": {"ours": lambda: moved_labels(labels, offsets, 1, 2)},
        f"{len(crops)} objects moved, up to 8 steps": {"ours": lambda: moved_objects(crops, offsets)},
        "offsets to a PNG": {"ours": lambda: encode_grey16_png(packed(offsets))},
        "offsets of a PNG": {"ours": lambda: unpacked(decode_label_png(png, "offsets"), 8)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="GTFINE", help="folder of Cityscapes' label PNGs")
    parser.add_argument("--limit", type=int, default=4, metavar="N", help="images (default: 4)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--peer", type=Path, metavar="CLONE", help="the authors' openseg.pytorch")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    found: dict[tuple[str, str], list[float]] = {}
    sizes = []
    for labels in label_maps(args.data, args.limit).values():
        np.testing.assert_allclose(label_distances(labels), by_opencv(labels), rtol=1e-4)
        offsets = offsets_of_targets(offset_targets(labels, ignore_label=255), 8)
        sizes.append(len(encode_grey16_png(packed(offsets))) / labels.size)
        work = contestants_of(labels, offsets, objects_of(labels))
        with tempfile.TemporaryDirectory() as folder:
            if args.peer:
                truth, shifts = peer(args.peer, labels, offsets, Path(folder))
                work |= {"ground truth, file to file": truth, "19 classes moved, one step of 2 px": shifts}
            for task, contestants in work.items():
                for name, milliseconds in timed(contestants, args.rounds).items():
                    found.setdefault((task, name), []).append(milliseconds)
    rows = []
    for (task, name), each in found.items():
        ratio = "" if name == "ours" else f"{statistics.median(each) / statistics.median(found[task, 'ours']):.1f}"
        rows.append([task, name, f"{statistics.median(each):.1f}", f"{max(each):.1f}", ratio])
    print(f"{processor()}, one core; {len(sizes)} images of {SIZE[0]} x {SIZE[1]}, medians of {args.rounds} rounds\n")
    print(tabulate(rows, ("", "by", "ms, median", "ms, slowest image", "times ours"), disable_numparse=True))
    print(f"\nstored offsets: {statistics.mean(sizes):.2f} bytes a pixel")


if __name__ == "__main__":
    main()
