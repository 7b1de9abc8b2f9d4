"""COCO panoptic: a JSON of segments, and a folder of PNGs whose colours are the segments' ids.

https://cocodataset.org/#format-data, section 4. The PNGs are in the folder that is called as the JSON is without
".json", or in ``panoptic`` beside it. Also read as instances, which are the segments of things, and as classes.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet, Category, Id
from pnm.annotations.coco import file_name
from pnm.annotations.image_folder import ImageFolder
from pnm.annotations.json_summary import json_summary, lists_in
from pnm.annotations.label_maps import check_inside, png_names
from pnm.annotations.panoptic_content import PanopticFile, reader_of
from pnm.annotations.png_encoding import colour_png
from pnm.annotations.voc_classes import voc_palette
from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.coco_instances import read_json
from pnm.formats.coco_panoptic import (
    EXPECTED,
    MOST_ID,
    VOID,
    annotations_by_image,
    ids_to_rgb,
    panoptic_folder,
    read_categories,
)
from pnm.formats.folders import stem
from pnm.formats.label_png import png_size_of, read_panoptic_png
from pnm.masks.crops import segment_extents

NAME = "coco-panoptic"
TASKS = ("panoptic", "instance", "semantic")
logger = logging.getLogger(__name__)


class _Written(NamedTuple):
    """What the writer makes of an image.

    Attributes:
        ids: (H, W) of the PNG.
        infos: its segments_info.
        gone: segments without a pixel, which are left out.
    """

    ids: np.ndarray
    infos: list[dict[str, Any]]
    gone: int


def recognises(path: Path) -> bool:
    """Whether a file is JSON with annotations that have segments_info."""
    content = json_summary(path)
    if not lists_in(content, "annotations", "categories") or not content["categories"]:
        return False
    return any("segments_info" in entry for entry in content["annotations"])


def read(source: Source) -> AnnotationSet:
    """Segments, instances or classes of a COCO panoptic JSON."""
    return panoptic_annotations(NAME, source, source.path, panoptic_folder(source.path))


def panoptic_annotations(name: str, source: Source, path: Path, folder: Path) -> AnnotationSet:
    """Annotations of a panoptic JSON of whatever data set.

    Args:
        name: of the format.
        path: of the JSON.
        folder: of its PNGs.

    Raises:
        FileNotFoundError, UserError: see :func:`pnm.formats.coco_panoptic.annotations_by_image`; also of an image or
            category that isn't listed. What is wrong with a PNG is told when its image is read.
    """
    content, by_image = annotations_by_image(read_json(path, EXPECTED), path)
    isthing, names = read_categories(content, path)
    rows = {entry["id"]: entry for entry in content["categories"]}
    categories = tuple(Category(names[k], k, thing, rows[k]) for k, thing in isthing.items())
    places = {k: place for place, k in enumerate(isthing)}
    for image, annotation in by_image.items():
        for segment in annotation["segments_info"]:
            if segment["category_id"] not in places:
                raise UserError(
                    f"{path}: image {image} has segment {segment['id']} of category {segment['category_id']}, which "
                    "the file doesn't list: add or remove it"
                )
    images = _images(path, folder, content, by_image, source.images)
    rest = {key: value for key, value in content.items() if key not in ("images", "annotations", "categories")}
    task = source.task or TASKS[0]
    things = [place for place, k in enumerate(isthing) if isthing[k]]
    kept = tuple(categories[place] for place in things) if task == "instance" else categories
    return AnnotationSet(name, task, kept, images, reader_of(task, path, places, things), source.images, rest)


def _images(
    path: Path, folder: Path, content: Mapping[str, Any], by_image: Mapping[Id, dict], image_folder: Path | None
) -> tuple[AnnotatedImage, ...]:
    """The annotated images; those that the file doesn't list are called as their PNGs, and have their size."""
    listed = content.get("images") or []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) and "id" in entry for entry in listed):
        raise UserError(f"{path}: its images are no list of objects with an id: expected {EXPECTED}")
    entries = {str(entry["id"]): entry for entry in listed}
    known = ImageFolder(image_folder) if image_folder is not None else None
    images = []
    for k, annotation in by_image.items():
        png = folder / annotation["file_name"]
        entry = entries.get(str(k), {})
        name, sides = entry.get("file_name"), (entry.get("height"), entry.get("width"))
        if not isinstance(name, str) or not name:
            name = (known and known.of_stem(annotation["file_name"])) or annotation["file_name"]
        name = name.replace("\\", "/")
        check_inside(name, f"{path}: image {k}, file_name")
        stated = all(type(side) is int and side > 0 for side in sides)
        height, width = sides if stated else png_size_of(_there(png, path))
        images.append(AnnotatedImage(name, height, width, k, raw=PanopticFile(png, annotation, entry)))
    return tuple(images)


def _there(png: Path, path: Path) -> Path:
    if not png.is_file():
        raise FileNotFoundError(f"{png} is missing, which {path} names: restore it, or take its annotation out")
    return png


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``panoptic_<split>.json`` with its folder of PNGs, or ``panoptic.json``. Ids stay where they fit.

    Raises:
        UserError: images of one name but for the ending.
    """
    for split, annotations in parts.items():
        path = output / file_name("panoptic", split)
        write_panoptic(annotations, path, path.with_suffix(""))


def write_panoptic(annotations: AnnotationSet, path: Path, folder: Path, *, ids_are_names: bool = False) -> None:
    """A panoptic JSON ``path``, whose PNGs go into ``folder``.

    Args:
        ids_are_names: images have their names, without endings, as ids.
    """
    from_json = annotations.format in PANOPTIC_JSONS
    image_ids: list[Id] = [stem(image.name) for image in annotations.images]
    if not ids_are_names:
        image_ids = _image_ids(annotations)
    category_ids = _category_ids(annotations)
    pngs = _png_names(annotations, from_json)
    images, entries, gone = [], [], 0
    for image, k, png in zip(annotations.images, image_ids, pngs):
        raw = image.raw if from_json and isinstance(image.raw, PanopticFile) else None
        written = _written(annotations, image, category_ids, from_json)
        gone += written.gone
        _write_png(folder / png, written.ids, raw.png if raw else None)
        size = {"id": k, "file_name": image.name, "height": image.height, "width": image.width}
        images.append({**(raw.entry if raw else {}), **size})
        own = raw.annotation if raw else {}
        entries.append({**own, "image_id": k, "file_name": png, "segments_info": written.infos})
    if gone:
        logger.warning("%d segments have no pixel, and are left out of %s", gone, path)
    rest = annotations.raw if from_json and annotations.raw else {}
    numbered = enumerate(zip(annotations.categories, category_ids))
    categories = [_category(one, k, place, from_json) for place, (one, k) in numbered]
    write_text(path, json.dumps({**rest, "images": images, "annotations": entries, "categories": categories}))


PANOPTIC_JSONS = (NAME, "mapillary", "cityscapes")  # formats whose images have a PanopticFile as raw


def _image_ids(annotations: AnnotationSet) -> list[Id]:
    ids = [image.id if image.id is not None else n for n, image in enumerate(annotations.images, 1)]
    return ids if len(set(map(str, ids))) == len(ids) else list(range(1, len(ids) + 1))


def _category_ids(annotations: AnnotationSet) -> list[int]:
    ids = [category.id for category in annotations.categories]
    fit = all(type(k) is int for k in ids) and len(set(ids)) == len(ids)
    return [k for k in ids if k is not None] if fit else list(range(1, len(ids) + 1))


def _category(category: Category, number: int, place: int, from_json: bool) -> dict[str, Any]:
    """A category's entry. One of another format gets what readers expect to be there: a colour, and a name above."""
    kept = {k: v for k, v in category.raw.items() if from_json or k in ("supercategory", "color")}
    if not from_json:
        kept = {"supercategory": category.name, "color": voc_palette()[(place + 1) % 256].tolist(), **kept}
    return {**kept, "id": number, "name": category.name, "isthing": int(category.isthing)}


def _png_names(annotations: AnnotationSet, from_json: bool) -> list[str]:
    """Of the PNGs: those that they had, else those of the images."""
    names = png_names(annotations.images)
    raws = [image.raw for image in annotations.images if from_json and isinstance(image.raw, PanopticFile)]
    own = [raw.annotation["file_name"] for raw in raws]
    return own if len(own) == len(names) and len(set(own)) == len(own) else names


def _written(
    annotations: AnnotationSet, image: AnnotatedImage, category_ids: Sequence[int], from_json: bool
) -> _Written:
    ids, segments = annotations.read(image)
    numbers = [thing.id for thing in segments]
    new: list[int] = list(range(1, len(numbers) + 1))
    if all(type(k) is int and VOID < k <= MOST_ID for k in numbers):
        new = [k for k in numbers if isinstance(k, int)]
    else:
        ids = _renumbered(ids, numbers, new)
    areas, boxes = segment_extents(ids, new)
    infos = []
    for thing, k, area, (top, left, bottom, right) in zip(segments, new, areas.tolist(), boxes.tolist()):
        entry = dict(thing.raw) if from_json and isinstance(thing.raw, dict) else {}
        same = not thing.redrawn and entry.get("area") == area and "bbox" in entry
        box = {} if same else {"area": area, "bbox": [left, top, right - left, bottom - top]}
        facts = {"id": k, "category_id": category_ids[thing.category]}
        if thing.iscrowd or "iscrowd" in entry or not entry:
            facts["iscrowd"] = int(thing.iscrowd)
        attributes = {"attributes": dict(thing.attributes)} if thing.attributes else {}
        if area:
            infos.append({**entry, **facts, **box, **attributes})
    return _Written(ids, infos, len(segments) - len(infos))


def _renumbered(ids: np.ndarray, numbers: Sequence[Any], new: Sequence[int]) -> np.ndarray:
    other = np.zeros_like(ids)
    for old, k in zip(numbers, new):
        other[ids == old] = k
    return other


def _write_png(path: Path, ids: np.ndarray, old: Path | None) -> None:
    """The PNG, the old one if it has the same ids."""
    if old is not None and old.is_file() and np.array_equal(read_panoptic_png(old), ids):
        write_bytes(path, old.read_bytes())
    else:
        write_bytes(path, colour_png(ids_to_rgb(ids)))


FORMAT = AnnotationFormat(
    NAME,
    "COCO panoptic (a JSON with segments_info, and a folder of PNGs beside it)",
    TASKS,
    ("panoptic",),
    recognises,
    read,
    write,
    is_folder=False,
)
