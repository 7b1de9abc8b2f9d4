"""COCO instances: one JSON with images, categories and annotations, whose masks are polygons or RLEs.

https://cocodataset.org/#format-data. "attributes" of an annotation are CVAT's and Datumaro's addition.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotationSet,
    Category,
    object_masks,
)
from pnm.annotations.formats.json_summary import json_summary, lists_in
from pnm.formats.atomic_files import write_text
from pnm.formats.coco_instances import CocoGroundTruth, read_coco_ground_truth, read_json
from pnm.masks.crops import MaskCrop, crop_rle, crop_runs
from pnm.masks.runs import decode_masks

NAME = "coco"
_NUMBER = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{1,15})")


def recognises(path: Path) -> bool:
    """Whether a file is JSON with COCO's three lists."""
    content = json_summary(path)
    lists = lists_in(content, "images", "annotations", "categories")
    return lists and not any("segments_info" in entry for entry in content["annotations"])


def read(source: Source) -> AnnotationSet:
    """Instances of a COCO JSON; raises what :func:`pnm.formats.coco_instances.read_coco_ground_truth` does."""
    content = read_json(source.path, "COCO annotations")
    return annotation_set(NAME, source, content, read_coco_ground_truth(source.path))


def annotation_set(name: str, source: Source, content: Mapping[str, Any], truth: CocoGroundTruth) -> AnnotationSet:
    """A set of checked COCO instances.

    Args:
        name: of the format.
        content: of the file.
        truth: what was read of it. Images without a file name are called by their id.
    """
    places = {category: place for place, category in enumerate(truth.categories)}
    rows = {entry["id"]: entry for entry in content["categories"]}
    categories = [Category(text, k, bool(rows[k].get("isthing", 1)), rows[k]) for k, text in truth.categories.items()]
    entries = {entry["id"]: entry for entry in content["images"]}
    images = [
        AnnotatedImage((image.file_name or str(k)).replace("\\", "/"), image.height, image.width, k, raw=entries[k])
        for k, image in truth.images.items()
    ]

    def read_objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        assert image.id is not None
        return tuple(coco_object(image, entry, places, str(source.path)) for entry in truth.annotations[image.id])

    rest = {key: value for key, value in content.items() if key not in ("images", "annotations", "categories")}
    remarks = tuple(truth.remarks)
    return AnnotationSet(name, "instance", tuple(categories), tuple(images), read_objects, source.images, rest, remarks)


def coco_object(
    image: AnnotatedImage, entry: Mapping[str, Any], places: Mapping[int, int], name: str
) -> AnnotatedObject:
    """The object that an entry is.

    Args:
        places: of the categories by their ids.
        name: of the file, for messages.
    """
    mask, attributes = entry["segmentation"], entry.get("attributes")
    return AnnotatedObject(
        places[entry["category_id"]],
        tuple(np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in mask) if isinstance(mask, list) else None,
        None
        if isinstance(mask, list)
        else crop_runs(decode_masks([mask], *image.size, lambda _: f"{name}: image {image.name}"), 0),
        entry.get("id"),
        bool(entry.get("iscrowd", 0)),
        entry.get("score"),
        attributes if isinstance(attributes, dict) else {},
        entry,
    )


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``instances_<split>.json`` of each split, or ``instances.json``."""
    for split, annotations in parts.items():
        write_text(output / file_name("instances", split), coco_json(annotations))


def file_name(stem: str, split: str) -> str:
    """``stem.json``, or ``stem_split.json``."""
    return f"{stem}_{split}.json" if split else f"{stem}.json"


def coco_json(annotations: AnnotationSet) -> str:
    """The text of a COCO JSON, see :func:`coco_content`."""
    return json.dumps(coco_content(annotations))


def coco_content(annotations: AnnotationSet) -> dict[str, Any]:
    """What a COCO JSON has. Numbers of images, categories and objects stay where all have one of their own."""
    from_coco = annotations.format in (NAME, "lvis")
    image_ids = image_numbers(annotations.images)
    category_ids = numbers_of([category.id for category in annotations.categories])
    return {
        **(annotations.raw if from_coco and annotations.raw else {}),
        "images": [_image_entry(image, k, from_coco) for image, k in zip(annotations.images, image_ids)],
        "categories": [
            category_entry(category, k, from_coco) for category, k in zip(annotations.categories, category_ids)
        ],
        "annotations": list(_annotation_entries(annotations, image_ids, category_ids, from_coco)),
    }


def numbers_of(ids: Sequence[Any]) -> list[int]:
    """The ids where they are numbers from 0 and all differ, else 1, 2, 3, ..."""
    fit = all(type(k) is int and k >= 0 for k in ids) and len(set(ids)) == len(ids)
    return list(ids) if fit else list(range(1, len(ids) + 1))


def image_numbers(images: Sequence[AnnotatedImage]) -> list[int]:
    """Ids of images: their own where they are numbers, else those that their files are called by, as COCO's are."""
    if all(type(image.id) is int for image in images):
        return numbers_of([image.id for image in images])
    return image_numbers_in_names(images) or numbers_of([None for _ in images])


def image_numbers_in_names(images: Sequence[AnnotatedImage]) -> list[int] | None:
    """Numbers that images' files are called by; None unless all have one of their own."""
    matches = [_NUMBER.fullmatch(PurePosixPath(image.name).stem) for image in images]
    numbers = [int(match[1]) for match in matches if match]
    return numbers if len(numbers) == len(images) == len(set(numbers)) else None


def _image_entry(image: AnnotatedImage, number: int, from_coco: bool) -> dict[str, Any]:
    entry = dict(image.raw) if from_coco and image.raw else {}
    entry |= {"id": number, "file_name": image.name, "height": image.height, "width": image.width}
    return entry | ({"attributes": dict(image.attributes)} if image.attributes else {})


def category_entry(category: Category, number: int, from_coco: bool) -> dict[str, Any]:
    """What COCO has of a category: all that there was where that was COCO's, too."""
    of_any = ("supercategory", "color", "isthing")
    kept = {key: value for key, value in category.raw.items() if from_coco or key in of_any}
    return {**kept, "id": number, "name": category.name}


def _annotation_entries(
    annotations: AnnotationSet, image_ids: Sequence[int], category_ids: Sequence[int], from_coco: bool
) -> Iterator[dict[str, Any]]:
    every = [(number, image, annotations.read(image)) for number, image in zip(image_ids, annotations.images)]
    ids = iter(numbers_of([thing.id for _, _, objects in every for thing in objects]))
    for number, image, objects in every:
        for thing, crop in zip(objects, object_masks(image, objects)):
            entry = dict(thing.raw) if from_coco and thing.raw else {}
            entry |= {"id": next(ids), "image_id": number, "category_id": category_ids[thing.category]}
            entry |= {"iscrowd": int(thing.iscrowd)}
            if thing.redrawn or not (from_coco and thing.raw):
                entry |= _mask_entry(thing, crop, image)
            entry |= {"score": thing.score} if thing.score is not None else {}
            yield entry | ({"attributes": dict(thing.attributes)} if thing.attributes else {})


def _mask_entry(thing: AnnotatedObject, crop: MaskCrop, image: AnnotatedImage) -> dict[str, Any]:
    entry = crop_entry(crop, image)
    if thing.polygons is not None:
        entry["segmentation"] = [polygon.reshape(-1).tolist() for polygon in thing.polygons]
    return entry


def crop_entry(crop: MaskCrop, image: AnnotatedImage) -> dict[str, Any]:
    """The fields of a mask: its RLE, pixels and box."""
    height, width = crop.pixels.shape
    area, box = int(crop.pixels.sum()), [crop.left, crop.top, width, height]
    return {"segmentation": crop_rle(crop, *image.size), "area": area, "bbox": box}


FORMAT = AnnotationFormat(
    NAME,
    "COCO instances (a JSON with images, annotations and categories)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=False,
    names_files=False,
)
