"""COCO's panoptic JSON and its PNGs, written of segments, see :mod:`pnm.annotations.formats.coco_panoptic`."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet, Category, Id
from pnm.annotations.formats.label_maps import png_names
from pnm.annotations.formats.panoptic_content import PanopticFile
from pnm.annotations.formats.png_encoding import colour_png
from pnm.annotations.formats.voc_classes import voc_palette
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.coco_panoptic import MOST_ID, VOID, ids_to_rgb
from pnm.formats.folders import stem
from pnm.formats.label_png import read_panoptic_png
from pnm.masks.crops import segment_extents

PANOPTIC_JSONS = ("coco-panoptic", "mapillary", "cityscapes")  # formats whose images have a PanopticFile as raw
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
