"""COCO panoptic: a JSON of segments, and a folder of PNGs whose colours are the segments' ids.

https://cocodataset.org/#format-data, section 4. The PNGs are in the folder that is called as the JSON is without
".json", beside it or beside its folder, or in ``panoptic`` beside it. Also read as instances, which are the segments of
things, and as classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet, Category, Id
from pnm.annotations.formats.coco import file_name
from pnm.annotations.formats.json_summary import json_summary, lists_in
from pnm.annotations.formats.label_maps import check_inside
from pnm.annotations.formats.panoptic_content import PanopticFile, reader_of
from pnm.annotations.formats.panoptic_writing import write_panoptic
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError
from pnm.formats.coco_instances import read_json
from pnm.formats.coco_panoptic import (
    EXPECTED,
    annotations_by_image,
    panoptic_folder,
    read_categories,
)
from pnm.formats.label_png import png_size_of

NAME = "coco-panoptic"
TASKS = ("panoptic", "instance", "semantic")


def recognises(path: Path) -> bool:
    """Whether a file is JSON with annotations that have segments_info."""
    content = json_summary(path)
    if not lists_in(content, "annotations", "categories") or not content["categories"]:
        return False
    return any("segments_info" in entry for entry in content["annotations"])


def read(source: Source) -> AnnotationSet:
    """Segments, instances or classes of a COCO panoptic JSON."""
    return panoptic_annotations(NAME, source, source.path, _png_folder(source.path))


def _png_folder(path: Path) -> Path:
    """That of :func:`pnm.formats.coco_panoptic.panoptic_folder`, or as Detectron2 has it, beside the JSON's folder."""
    above = path.absolute().parent.parent / path.stem
    return above if above.is_dir() and not path.with_suffix("").is_dir() else panoptic_folder(path)


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
