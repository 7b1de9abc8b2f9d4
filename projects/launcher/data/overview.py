"""``train_net.py --check``: everything that a run's data sets name is read, and what is in them is printed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from pnm.annotations.checking import check_doubts
from pnm.errors import UserError, listed
from pnm.formats.coco_instances import CocoGroundTruth, read_coco_ground_truth
from pnm.formats.label_png import read_label_png
from pnm.usable_cores import usable_cores

from ...dataset_mappers.panoptic_classes import classes_of
from ...dataset_mappers.panoptic_mapper import segment_numbers
from ...dataset_mappers.reading import errors_that_name
from .annotated_data import registered_annotations
from .checks import used_data_sets
from .mappers import lacks_twins

_SMALL, _MEDIUM = 32**2, 96**2  # pixels, as COCO counts


def overview(cfg: CfgNode) -> str:
    """Tables of all data sets in ``DATASETS.TRAIN`` and ``TEST``; a page of each goes to ``OUTPUT_DIR/check``.

    Raises:
        UserError: an image or label that cannot be read, or does not fit.
    """
    parts, pages = [], Path(cfg.OUTPUT_DIR) / "check"
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
        if lacks_twins(metadata):
            parts.append(_of_panoptic(name, metadata, entries, sizes))
        parts.append(check_doubts(registered_annotations(name, entries), pages / f"{name}.jpg"))
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
            count[annotation["category_id"]]["crowds" if annotation.get("iscrowd", 0) else _size(area)] += 1
    return "\n".join([_objects({truth.categories[k]: c for k, c in count.items()}, empty), *truth.remarks])


def _size(area: float) -> str:
    return "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"


def _objects(count: Mapping[str, Counter], empty: int) -> str:
    """Table of the objects of each class by size; ``empty`` images have none."""
    columns = ("small", "medium", "large", "crowds")
    rows: list[list[Any]] = [[c, sum(n.values()), *(n[column] for column in columns)] for c, n in count.items()]
    rows.append(["all", *(sum(row[k] for row in rows) for k in range(1, 6))])
    absent = [c for c, n in count.items() if not n]
    lines = [tabulate(rows, headers=("class", "objects", *columns)), f"{empty} images without objects"]
    return "\n".join(lines + ([f"classes without objects: {listed(absent)}"] if absent else []))


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


def _of_panoptic(name: str, metadata: Any, entries: Sequence[dict], sizes: Sequence[tuple[int, int]]) -> str:
    """Objects of the things by size, shares of the stuff in images and pixels, and of what is void or crowds."""
    classes = classes_of(name, metadata)
    things = len(classes.things)
    names = [metadata.thing_classes[k] for _, k in classes.things]
    names += [metadata.stuff_classes[~k] for _, k in classes.stuff]

    def areas(place: int) -> np.ndarray:
        """Pixels of void, and of each segment."""
        numbers = segment_numbers(entries[place], *sizes[place])
        return np.bincount(numbers.reshape(-1), minlength=len(entries[place]["segments_info"]) + 1)

    objects: list[Counter] = [Counter() for _ in classes.things]
    pixels, images = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    void = crowds = empty = 0
    for entry, one in zip(entries, _in_threads(areas, range(len(entries)), f"{name}: panoptic PNGs")):
        rows = entry["segments_info"]
        indices, seen = classes.indices_of_segments(rows, entry["file_name"]), set()
        void += int(one[0])
        for row, k, area in zip(rows, indices, one[1:].tolist()):
            if not area:
                continue
            if row.get("iscrowd", 0):
                crowds += area
                if k < things:
                    objects[k]["crowds"] += 1
                continue
            seen.add(k)
            pixels[k] += area
            if k < things:
                objects[k][_size(area)] += 1
        images[list(seen)] += 1
        empty += not any(k < things for k in seen)
    return "\n".join([_objects(dict(zip(names, objects)), empty), _stuff(names, things, pixels, images, void, crowds)])


def _stuff(names: Sequence[str], things: int, pixels: np.ndarray, images: np.ndarray, void: int, crowds: int) -> str:
    """Table of the stuff classes, which follow ``things`` things, and of the rest."""
    total = max(int(pixels.sum()) + void + crowds, 1)
    rows: list[list[Any]] = [[names[k], images[k], 100 * pixels[k] / total] for k in range(things, len(names))]
    rest = {"all things": int(pixels[:things].sum()), "crowds": crowds, "void": void}
    rows += [[what, "", 100 * count / total] for what, count in rest.items()]
    return tabulate(rows, headers=("class", "images", "% of pixels"), floatfmt=".2f")
