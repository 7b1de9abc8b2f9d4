"""COCO results, a list of detections, as annotations of the images and classes of a ground truth, and back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, object_masks
from pnm.annotations.formats.coco import coco_object, image_numbers, numbers_of
from pnm.errors import UserError
from pnm.formats.coco_instances import EXPECTED_RESULTS, check_result
from pnm.formats.json_list import JsonList
from pnm.masks.crops import crop_rle

NAME = "COCO results"


def read_results(path: Path, truth: AnnotationSet) -> AnnotationSet:
    """Detections as a set of the images of a ground truth, whose ids and classes they have; an image is as large as the
    RLEs of its detections say.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no such list, or an image or class isn't there.
    """
    places = {number: place for place, number in enumerate(numbers_of([c.id for c in truth.categories]))}
    image_of = dict(zip(image_numbers(truth.images), truth.images))
    numbers: dict[str, list[int]] = {image.name: [] for image in truth.images}
    sizes: dict[str, tuple[int, int]] = {}

    def visit(n: int, entry: Any) -> None:
        image, category = check_result(path, n, entry)
        if image not in image_of or category not in places:
            what = f"image {image}" if image not in image_of else f"category {category}"
            raise UserError(f"{path}: entry {n} is of {what}, which the ground truth doesn't have")
        numbers[image_of[image].name].append(n)
        mask = entry.get("segmentation")
        size = mask.get("size") if isinstance(mask, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
            sizes[image_of[image].name] = size[0], size[1]

    entries = JsonList(path, EXPECTED_RESULTS, visit)

    def read(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        return tuple(coco_object(image, entry, places, str(path)) for entry in entries.read(numbers[image.name]))

    images = [image if image.name not in sizes else _of_size(image, sizes[image.name]) for image in truth.images]
    return AnnotationSet(NAME, "instance", truth.categories, tuple(images), read, truth.folder)


def _of_size(image: AnnotatedImage, size: tuple[int, int]) -> AnnotatedImage:
    return replace(image, height=size[0], width=size[1])


def results_json(annotations: AnnotationSet) -> str:
    """The text of COCO results. Objects without a score have 1; crowds, which nobody predicts, are left out."""
    return json.dumps(list(_entries(annotations)))


def _entries(annotations: AnnotationSet) -> Iterator[dict[str, Any]]:
    image_ids = image_numbers(annotations.images)
    category_ids = numbers_of([category.id for category in annotations.categories])
    for number, image in zip(image_ids, annotations.images):
        objects = [thing for thing in annotations.read(image) if not thing.iscrowd]
        for thing, crop in zip(objects, object_masks(image, objects)):
            height, width = crop.pixels.shape
            yield {
                "image_id": number,
                "category_id": category_ids[thing.category],
                "score": 1.0 if thing.score is None else thing.score,
                "bbox": [crop.left, crop.top, width, height],
                "segmentation": crop_rle(crop, *image.size),
            }
