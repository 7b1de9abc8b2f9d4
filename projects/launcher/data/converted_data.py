"""Data sets in ``DATASETS.REGISTER`` whose type is a format of annotations (labelme, yolo, cvat, ...).

They are read once, and kept as COCO JSON, label PNGs or COCO panoptic files under ``OUTPUT_DIR/converted/<name>``; what
is there is used again as long as no file of the annotations has changed.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import TASKS, AnnotationSet
from pnm.annotations.formats.coco import numbers_of
from pnm.annotations.known_formats import FORMATS
from pnm.annotations.staging import digest_of, ignored_label, named_annotations, stage, staged_path
from pnm.errors import UserError

from .register_data import PanopticFiles, Semantic, register_coco, register_panoptic, register_semantic, require

logger = logging.getLogger(__name__)
REQUIRED = {"name", "type", "annotations"}
OPTIONAL = {"images", "classes", "split", "task", "map", "unlabelled", "crowds"}


def register_converted(cfg: CfgNode, entry: Mapping[str, Any]) -> list[str]:
    """Registers annotations of any format; returns the names of their classes.

    All processes call it: one of each machine converts, the others wait.

    Raises:
        UserError: the annotations cannot be read, or the folder of images isn't known.
    """
    name, path = entry["name"], Path(entry["annotations"])
    require({"annotations": path}, name)
    annotations = _read(entry, path)
    folder = Path(cfg.OUTPUT_DIR) / "converted" / name
    if comm.get_local_rank() == 0:
        settings = {key: entry[key] for key in entry if key not in ("name", "crowds")}
        stage(annotations, folder, digest_of(path, settings))
    comm.synchronize()
    _REGISTER[annotations.task](name, annotations, staged_path(annotations.task, folder), entry)
    return [category.name for category in annotations.categories]


def _read(entry: Mapping[str, Any], path: Path) -> AnnotationSet:
    name, task = entry["name"], entry.get("task", FORMATS[entry["type"]].reads[0])
    if task not in TASKS:
        raise UserError(f"DATASETS.REGISTER, {name}: task is {task!r}, expected one of {', '.join(TASKS)}")
    images = Path(entry["images"]) if "images" in entry else None
    class_map = Path(entry["map"]) if "map" in entry else None
    classes = listed_classes(entry["classes"], name) if "classes" in entry else None
    try:
        source = Source(path, images, classes, entry.get("split"), task)
        annotations = named_annotations(source, entry["type"], class_map, entry.get("unlabelled"))
    except (UserError, FileNotFoundError) as error:
        raise UserError(f"data set {name}: {error}") from None
    for remark in annotations.remarks:
        logger.warning("%s: %s", name, remark)
    if annotations.folder is None:
        raise UserError(f"data set {name}: {path} doesn't say where its images are: add 'images' to the entry")
    if not annotations.images:
        raise UserError(f"data set {name}: no image is annotated in {path}: check the path, and the split")
    return annotations


def listed_classes(classes: Any, name: str) -> list[str]:
    """Names of classes from a list, or a text file with one in each line."""
    if isinstance(classes, str):
        require({"class file": Path(classes)}, name)
        try:
            classes = [line.strip() for line in Path(classes).read_text("utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"data set {name}: class file {classes} cannot be read ({error}); it should be text"
            ) from None
    if not isinstance(classes, (list, tuple)) or not classes:
        raise UserError(f"data set {name}: classes must be a list of names or a text file with a name on each line")
    return [str(c) for c in classes]


def _register_instances(name: str, annotations: AnnotationSet, path: Path, entry: Mapping[str, Any]) -> None:
    assert annotations.folder is not None
    ids = numbers_of([category.id for category in annotations.categories])
    classes = dict(sorted(zip(ids, (category.name for category in annotations.categories))))
    crowds = entry.get("crowds") == "objects"
    register_coco(name, path, annotations.folder, classes, crowds_are_objects=crowds)
    MetadataCatalog.get(name).set(mask_format="bitmask")  # masks may be RLEs


def _register_labels(name: str, annotations: AnnotationSet, path: Path, entry: Mapping[str, Any]) -> None:
    assert annotations.folder is not None
    names = [category.name for category in annotations.categories]
    images = [image.name for image in annotations.images]
    ignored = ignored_label(len(names))
    register_semantic(name, annotations.folder, Semantic(path, names, ignored, image_names=images))


def _register_segments(name: str, annotations: AnnotationSet, path: Path, entry: Mapping[str, Any]) -> None:
    assert annotations.folder is not None
    ids = numbers_of([category.id for category in annotations.categories])
    by_id = sorted(zip(ids, annotations.categories))
    things, stuff = ({k: c.name for k, c in by_id if c.isthing == isthing} for isthing in (True, False))
    register_panoptic(name, annotations.folder, PanopticFiles(path, path.with_suffix("")), things, stuff)


_REGISTER = {"instance": _register_instances, "semantic": _register_labels, "panoptic": _register_segments}
