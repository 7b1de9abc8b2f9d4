#!/usr/bin/env python
"""What a training sample costs with pixel weights of each MODEL.PNM.SOURCE, and how these differ under scaling.

python benchmarks/weight_sources.py --cityscapes datasets/cityscapes

Of the label files of Cityscapes below --cityscapes, and their images (noise, where an image isn't there): milliseconds
of one core for a sample as configs/Cityscapes-SemanticSegmentation/Base-Semantic-Network.yaml makes it (resized by 0.5
to 2, cropped to 512 x 1024 px, flipped, SSD's colours), the median of rounds over the same random augmentations,
"offline" with maps that are made first; and the weights at other scales, of the augmented label ("online") and those
of the stored label moved to that scale ("label").
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
from null_model import processor
from tabulate import tabulate

import pnm  # noqa: F401 - makes detectron2 importable
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T

from pnm.formats.label_png import read_label_png
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.stored.maps import WeightMapParameters, weight_folder
from pnm.null_model.stored.surprisal import encode_surprisal, weights_of_surprisal
from pnm.null_model.stored.writer import write_weight_maps
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.mappers import build_mapper
from pnm.projects.pnm_heads.weight_mapper import move_surprisal

CONFIG = ROOT / "configs/Cityscapes-SemanticSegmentation/pspnet_R_101_40k.yaml"
NAME, LOCALITY, IGNORED = "cityscapes_labels", 35, 255
SOURCES = ("no weights", "online", "label", "offline")


def records(root: Path, folder: Path, number: int) -> list[dict]:
    """Dataset dicts of label files and images."""
    found = []
    for label in sorted(root.glob("gtFine/*/*/*_labelTrainIds.png"))[:number]:
        stem = label.name.removesuffix("_gtFine_labelTrainIds.png")
        image = root / "leftImg8bit" / label.parent.relative_to(root / "gtFine") / f"{stem}_leftImg8bit.png"
        height, width = read_label_png(label).shape
        if not image.is_file():
            image = folder / image.name
            noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
            cv2.imwrite(str(image), cv2.resize(noise, (width, height)))
        sizes = {"height": height, "width": width}
        found.append({"file_name": str(image), "sem_seg_file_name": str(label), "image_id": stem, **sizes})
    if not found:
        sys.exit(f"error: {root} has no *_labelTrainIds.png: run datasets/prepare_cityscapes.py")
    return found


def milliseconds(entries: list[dict], folder: Path, rounds: int) -> list[list]:
    """Rows of source and median milliseconds of a sample, and what it takes beyond one without weights."""
    DatasetCatalog.register(NAME, lambda: entries)
    MetadataCatalog.get(NAME).set(ignore_label=IGNORED)
    parameters = WeightMapParameters(NAME, LOCALITY)
    write_weight_maps(weight_folder(folder, parameters), parameters, [x["sem_seg_file_name"] for x in entries])
    mappers = {}
    for source in SOURCES:
        node = {
            "MODEL.PNM.ENABLED": source != "no weights",
            "DATASETS.TRAIN": (NAME,),
            "MODEL.PNM.MAPS_ROOT": str(folder),
        }
        if source != "no weights":
            node["MODEL.PNM.SOURCE"] = source
        mappers[source] = build_mapper(load_config(str(CONFIG), [part for pair in node.items() for part in pair]), True)
    taken: dict[str, list[float]] = {source: [] for source in SOURCES}
    for round_ in range(rounds + 1):  # the first compiles and warms the disk's cache
        for number, entry in enumerate(entries):
            turn = (round_ + number) % len(SOURCES)  # side by side, and each of them first as often as another
            for source in (*SOURCES[turn:], *SOURCES[:turn]):
                np.random.seed(round_ * len(entries) + number)  # noqa: NPY002 - Detectron2 draws from it
                start = time.perf_counter()
                mappers[source](entry)
                if round_:
                    taken[source].append(1e3 * (time.perf_counter() - start))
    medians = {source: statistics.median(times) for source, times in taken.items()}
    return [[source, ms, ms - medians["no weights"]] for source, ms in medians.items()]


def at_scales(entries: list[dict]) -> list[list]:
    """Rows of scale, correlation of both weights, and % of the valid pixels above 1 of each."""
    rows = []
    for scale in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0):
        pairs = []
        for entry in entries:
            labels = read_label_png(entry["sem_seg_file_name"])
            height, width = labels.shape
            resize = T.ResizeTransform(height, width, round(height * scale), round(width * scale))
            moved = resize.apply_segmentation(labels)
            online = pixel_weights(pixel_null_model(moved, LOCALITY))
            encoded = encode_surprisal(pixel_null_model(labels, LOCALITY), labels == IGNORED)
            label = weights_of_surprisal(move_surprisal(encoded, T.TransformList([resize])))
            pairs.append(np.stack([online, label])[:, moved != IGNORED])
        online, label = np.concatenate(pairs, axis=1)
        one_only = 100 * ((online > 1) != (label > 1)).mean()
        above = [100 * (weights > 1).mean() for weights in (online, label)]
        rows.append([scale, np.corrcoef(online, label)[0, 1], one_only, *above, online.mean(), label.mean()])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cityscapes", type=Path, required=True, metavar="DIR", help="with gtFine and leftImg8bit")
    parser.add_argument("--images", type=int, default=4, help="at most (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        entries = records(args.cityscapes, Path(name), args.images)
        costs = milliseconds(entries, Path(name), args.rounds)
    print(f"{processor()}, one core, {len(entries)} images\n")
    print(tabulate(costs, ("weights", "ms a sample", "of these for weights"), tablefmt="github", floatfmt=".1f"))
    header = ("scale", "correlation", "% weighted by one only", "% above 1, online", "label", "mean, online", "label")
    print(f"\n{tabulate(at_scales(entries), header, tablefmt='github', floatfmt='.3g')}")


if __name__ == "__main__":
    main()
