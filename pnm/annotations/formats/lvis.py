"""LVIS: COCO's JSON for many classes, of which not all are looked for in each image.

https://www.lvisdataset.org/dataset. Images have no file name, but a ``coco_url`` that ends in one
("val2017/000000397133.jpg"), and say which classes are not there (``neg_category_ids``) or not wholly annotated
(``not_exhaustive_category_ids``). Categories have a ``frequency``: in at most 10 images they are "r" (rare), in at most
100 "c" (common), else "f" (frequent). There are no crowds.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotationSet
from pnm.annotations.formats.coco import annotation_set, coco_content, file_name
from pnm.annotations.formats.json_summary import json_summary, lists_in
from pnm.errors import UserError
from pnm.formats.atomic_files import write_text
from pnm.formats.coco_instances import CocoImage, read_coco_ground_truth, read_json

NAME = "lvis"
_MARKS = ("neg_category_ids", "not_exhaustive_category_ids")
_FREQUENCIES = ((10, "r"), (100, "c"))  # most images of a class
logger = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether a file is COCO's JSON with what LVIS adds to images or categories."""
    content = json_summary(path)
    if not lists_in(content, "images", "annotations", "categories"):
        return False
    marked = any(mark in entry for entry in content["images"] for mark in _MARKS)
    return marked or any("frequency" in entry for entry in content["categories"][:1])


def read(source: Source) -> AnnotationSet:
    """Instances of an LVIS JSON; errors are those of COCO's, and of images without a name."""
    content = read_json(source.path, "LVIS annotations")
    truth = read_coco_ground_truth(source.path)
    entries = {entry["id"]: entry for entry in content["images"]}
    images = {
        k: CocoImage(image.height, image.width, image.file_name or _name_in_url(entries[k], source.path))
        for k, image in truth.images.items()
    }
    return annotation_set(NAME, source, content, replace(truth, images=images))


def _name_in_url(entry: Mapping[str, Any], path: Path) -> str:
    """The last two parts of an image's address: its folder and file."""
    url = entry.get("coco_url")
    parts = [part for part in url.split("/") if part] if isinstance(url, str) else []
    if not parts:
        raise UserError(f"{path}: image {entry['id']} has neither file_name nor coco_url: add one")
    return "/".join(parts[-2:])


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``lvis_<split>.json`` of each split, or ``lvis.json``. Crowds are left out, of which LVIS has none."""
    for split, annotations in parts.items():
        content = coco_content(annotations)
        crowds = sum(bool(entry["iscrowd"]) for entry in content["annotations"])
        if crowds:
            logger.warning("LVIS has no crowds: %d objects are left out", crowds)
        content["annotations"] = [_annotation(entry) for entry in content["annotations"] if not entry["iscrowd"]]
        content["images"] = [_image(entry, annotations.format == NAME) for entry in content["images"]]
        _add_counts(content)
        write_text(output / file_name("lvis", split), json.dumps(content))


def _annotation(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "iscrowd"}


def _image(entry: dict[str, Any], from_lvis: bool) -> dict[str, Any]:
    """An image's entry, with a file name only if the address doesn't say it."""
    entry = {**{mark: [] for mark in _MARKS}, "coco_url": entry["file_name"], **entry}
    parts = [part for part in str(entry["coco_url"]).split("/") if part]
    if from_lvis and "/".join(parts[-2:]) == entry["file_name"]:
        del entry["file_name"]
    return entry


def _add_counts(content: Mapping[str, Any]) -> None:
    """Frequencies of the categories that have none, by the images of this split."""
    images: dict[int, set[int]] = {}
    objects: dict[int, int] = {}
    for entry in content["annotations"]:
        images.setdefault(entry["category_id"], set()).add(entry["image_id"])
        objects[entry["category_id"]] = objects.get(entry["category_id"], 0) + 1
    for category in content["categories"]:
        count = len(images.get(category["id"], ()))
        if "frequency" not in category:
            category["frequency"] = next((letter for most, letter in _FREQUENCIES if count <= most), "f")
            category |= {"image_count": count, "instance_count": objects.get(category["id"], 0)}


FORMAT = AnnotationFormat(
    NAME,
    "LVIS (COCO's JSON with neg_category_ids, and frequencies of categories)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=False,
    names_files=False,
)
