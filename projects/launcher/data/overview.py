"""``train_net.py --check``: everything that a run's data sets name is read, and what is in them is printed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from pnm.errors import UserError, listed
from pnm.formats.coco_instances import CocoGroundTruth, read_coco_ground_truth
from pnm.formats.label_png import read_label_png
from pnm.usable_cores import usable_cores

from ...dataset_mappers.reading import errors_that_name
from .checks import used_data_sets

_SMALL, _MEDIUM = 32**2, 96**2  # pixels, as COCO counts


def overview(cfg: CfgNode) -> str:
    """Tables of all data sets in ``DATASETS.TRAIN`` and ``TEST``.

    Raises:
        UserError: an image or label that cannot be read, or does not fit.
    """
    parts = []
    for name in used_data_sets(cfg):
        metadata = MetadataCatalog.get(name)
        parts.append(f"\n== {name}")
        if metadata.get("json_file", None):
            parts.append(_of_instances(read_coco_ground_truth(metadata.json_file, masks=False)))
        entries = DatasetCatalog.get(name)
        sizes = _in_threads(_image_size, entries, f"{name}: images")
        parts.append(f"{len(entries)} images of {_sizes(sizes)}")
        if entries and "sem_seg_file_name" in entries[0]:
            parts.append(_of_labels(name, metadata, entries, sizes))
    return "\n".join(parts)


def _in_threads(work: Any, items: Sequence, what: str) -> list:
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(tqdm(pool.map(work, items), total=len(items), desc=what, unit="file"))


def _image_size(entry: dict) -> tuple[int, int]:
    """(height, width) of the file, whose pixels are read, too."""
    with errors_that_name([entry["file_name"]]), Image.open(entry["file_name"]) as image:
        image.load()
        return image.height, image.width


def _sizes(sizes: Iterable[tuple[int, int]]) -> str:
    count = Counter(sizes)
    common = ", ".join(f"{h} x {w} ({n})" for (h, w), n in count.most_common(3))
    return common + (f" and {len(count) - 3} other sizes" if len(count) > 3 else "")


def _of_instances(truth: CocoGroundTruth) -> str:
    """Objects of each class by size, crowds, images without objects."""
    count: dict[int, Counter] = {category: Counter() for category in truth.categories}
    empty = sum(not annotations for annotations in truth.annotations.values())
    for annotations in truth.annotations.values():
        for annotation in annotations:
            box = annotation.get("bbox") or (0, 0, 0, 0)
            area = annotation.get("area", box[2] * box[3])
            size = "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"
            count[annotation["category_id"]]["crowds" if annotation.get("iscrowd", 0) else size] += 1
    columns = ("small", "medium", "large", "crowds")
    rows: list[list[Any]] = [
        [truth.categories[k], sum(c.values()), *(c[column] for column in columns)] for k, c in count.items()
    ]
    rows.append(["all", *(sum(row[k] for row in rows) for k in range(1, 6))])
    absent = [truth.categories[k] for k, c in count.items() if not c]
    lines = [tabulate(rows, headers=("class", "objects", *columns)), f"{empty} images without objects"]
    lines += [f"classes without objects: {listed(absent)}"] if absent else []
    return "\n".join([*lines, *truth.remarks])


def _of_labels(name: str, metadata: Any, entries: Sequence[dict], sizes: Sequence[tuple[int, int]]) -> str:
    """Shares of the classes in pixels and images, and of what is ignored."""
    classes, ignored = list(metadata.stuff_classes), metadata.get("ignore_label", 255)

    def histogram(place: int) -> np.ndarray:
        entry = entries[place]
        labels = read_label_png(entry["sem_seg_file_name"])
        if labels.shape != sizes[place]:
            size = " x ".join(map(str, sizes[place]))
            raise UserError(
                f"data set {name}: {entry['file_name']} is {size}, its labels {' x '.join(map(str, labels.shape))}"
            )
        return np.bincount(labels.reshape(-1), minlength=2**16 if labels.dtype == np.uint16 else 256)

    pixels, images = np.zeros(2**16, np.int64), np.zeros(2**16, np.int64)
    strange: dict[int, str] = {}
    for entry, one in zip(entries, _in_threads(histogram, range(len(entries)), f"{name}: labels")):
        pixels[: len(one)] += one
        images[: len(one)] += one > 0
        for label in np.flatnonzero(one[len(classes) :]).tolist():
            if label + len(classes) != ignored:
                strange.setdefault(label + len(classes), entry["sem_seg_file_name"])
    if strange:
        label, file = next(iter(strange.items()))
        raise UserError(
            f"data set {name}: labels {listed(sorted(strange))} are no class of {len(classes)}, and not the ignored "
            f"{ignored}; {label} is in {file}"
        )
    total = max(int(pixels.sum()), 1)
    rows = [[c, images[k], 100 * pixels[k] / total] for k, c in enumerate(classes)]
    rows.append([f"ignored ({ignored})", images[ignored], 100 * pixels[ignored] / total])
    table = tabulate(rows, headers=("class", "images", "% of pixels"), floatfmt=".2f")
    absent = [c for k, c in enumerate(classes) if not images[k]]
    return table + (f"\nclasses without a pixel: {listed(absent)}" if absent else "")
