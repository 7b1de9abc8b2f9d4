"""COCO-Stuff: COCO's JSON whose annotations are the pixels of a class in an image, e.g. ``stuff_val2017.json``.

https://github.com/nightrome/cocostuff#results. Read as one class a pixel; where masks share one, the later has it.
Pixels in no mask have no class.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import NO_CLASS, AnnotatedImage, AnnotationSet
from pnm.annotations.formats.coco import annotation_set, category_entry, crop_entry, file_name, numbers_of
from pnm.annotations.formats.json_summary import json_summary, lists_in
from pnm.formats.atomic_files import write_text
from pnm.formats.coco_instances import read_coco_ground_truth, read_json
from pnm.masks.crops import crop_array, crop_runs
from pnm.masks.runs import decode_masks

NAME = "coco-stuff"
_SUPERCATEGORIES = [
    "water", "ground", "solid", "sky", "plant", "structural", "building", "food-stuff", "textile", "furniture-stuff",
    "window", "floor", "ceiling", "wall", "raw-material", "other",
]  # fmt: skip


def recognises(path: Path) -> bool:
    """Whether a file is COCO's JSON whose categories are all stuff: by "isthing", or COCO-Stuff's supercategories."""
    content = json_summary(path)
    if not lists_in(content, "images", "annotations", "categories") or not content["categories"]:
        return False
    if any("segments_info" in entry for entry in content["annotations"]):
        return False
    return all(_is_stuff(entry) for entry in content["categories"])


def _is_stuff(category: Mapping[str, Any]) -> bool:
    if "isthing" in category:
        return category["isthing"] in (0, False)
    return category.get("supercategory") in _SUPERCATEGORIES


def read(source: Source) -> AnnotationSet:
    """Classes of pixels; raises what :func:`pnm.formats.coco_instances.read_coco_ground_truth` does."""
    content = read_json(source.path, "COCO-Stuff annotations")
    truth = read_coco_ground_truth(source.path)
    instances = annotation_set(NAME, source, content, truth)
    places = {number: place for place, number in enumerate(truth.categories)}
    images = tuple(
        replace(image, raw=(image.raw, truth.annotations[k])) for image, k in zip(instances.images, truth.images)
    )

    def read_labels(image: AnnotatedImage) -> np.ndarray:
        return _painted(image, places)

    return AnnotationSet(
        NAME, "semantic", instances.categories, images, read_labels, source.images, instances.raw, instances.remarks
    )


def _painted(image: AnnotatedImage, places: Mapping[int, int]) -> np.ndarray:
    """(H, W) int32 of the annotations of an image that was read here."""
    entries = image.raw[1]
    runs = decode_masks([entry["segmentation"] for entry in entries], *image.size)
    labels = np.full(image.size, NO_CLASS, np.int32)
    for n, entry in enumerate(entries):
        pixels, top, left = crop_runs(runs, n)
        labels[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = places[entry["category_id"]]
    return labels


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``stuff_<split>.json`` of each split, or ``stuff.json``: an RLE for each class and image.

    Annotations of COCO-Stuff stay as they are where the pixels of their class do.
    """
    for split, annotations in parts.items():
        write_text(output / file_name("stuff", split), json.dumps(_content(annotations)))


def _content(annotations: AnnotationSet) -> dict[str, Any]:
    own = annotations.format == NAME
    image_ids = numbers_of([image.id for image in annotations.images])
    category_ids = numbers_of([category.id for category in annotations.categories])
    old = [entry.get("id", 0) for image in annotations.images if own and image.raw for entry in image.raw[1]]
    fresh = count(1 + max((k for k in old if isinstance(k, int)), default=0))
    categories = [category_entry(one, k, own) for one, k in zip(annotations.categories, category_ids)]
    images, entries = [], []
    for image, k in zip(annotations.images, image_ids):
        size = {"id": k, "file_name": image.name, "height": image.height, "width": image.width}
        images.append({**(image.raw[0] if own and image.raw else {}), **size})
        for entry in _entries(annotations, image, category_ids, own):
            entries.append({**entry, "id": entry["id"] if "id" in entry else next(fresh), "image_id": k})
    return {
        **(annotations.raw if own and annotations.raw else {}),
        "images": images,
        "categories": categories if own else [{"isthing": 0, **entry} for entry in categories],
        "annotations": entries,
    }


def _entries(
    annotations: AnnotationSet, image: AnnotatedImage, category_ids: Sequence[int], own: bool
) -> Iterator[dict[str, Any]]:
    """Annotations of an image: the old ones of a class whose pixels they have, new ones else, without ids."""
    labels, old = annotations.read(image), image.raw[1] if own and image.raw else []
    known = {number: place for place, number in enumerate(category_ids)}
    if all(entry["category_id"] in known for entry in old):
        before = _painted(image, known) if old else np.full(image.size, NO_CLASS, np.int32)
    else:
        before, old = np.full(image.size, NO_CLASS, np.int32), []
    if old and np.array_equal(labels, before):
        yield from old
        return
    for place in np.unique([*labels[labels != NO_CLASS], *before[before != NO_CLASS]]).tolist():
        of_class = [entry for entry in old if known[entry["category_id"]] == place]
        mask = labels == place
        if of_class and np.array_equal(mask, before == place):
            yield from of_class
        elif mask.any():
            kept = dict(of_class[0]) if len(of_class) == 1 else {}
            yield {"iscrowd": 0, **kept, "category_id": category_ids[place], **crop_entry(crop_array(mask), image)}


FORMAT = AnnotationFormat(
    NAME,
    "COCO-Stuff (a JSON with images, annotations, and categories that are all stuff)",
    ("semantic",),
    ("semantic",),
    recognises,
    read,
    write,
    is_folder=False,
    names_files=False,
)
