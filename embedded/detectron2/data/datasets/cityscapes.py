"""Cityscapes' instance and semantic annotations.

Images are read in the order of their names, not of the file system, so that all machines agree.
"""

import importlib.util
import logging
import multiprocessing
import os
from functools import partial

import cv2
import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.comm import get_world_size
from detectron2.utils.file_io import PathManager
from PIL import Image
from pycocotools import mask as mask_util

from .annotation_files import read_json, require_file, require_folder
from .builtin_meta import CITYSCAPES_CATEGORIES

logger = logging.getLogger(__name__)

_THING_IDS = [category["id"] for category in CITYSCAPES_CATEGORIES if category["isthing"]]
_EVALUATED = {category["name"]: category["id"] for category in CITYSCAPES_CATEGORIES}
# Annotated, but void in every task.
_VOID = frozenset(
    ["unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"]
    + ["rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer"]
)
_UNDRAWN = "license plate"  # id −1: what lies behind it counts
_IMAGE_SUFFIX = "leftImg8bit.png"


def list_images(image_dir: str) -> list[tuple[str, str]]:
    """[(city, path)] of the images of a split, by name. Raises FileNotFoundError or ValueError."""
    require_folder(image_dir, "image folder")
    images = []
    for city in sorted(PathManager.ls(image_dir)):
        folder = os.path.join(image_dir, city)
        for name in sorted(PathManager.ls(folder)):
            if not name.endswith(_IMAGE_SUFFIX):
                raise ValueError(f"{os.path.join(folder, name)} is no Cityscapes image (*_{_IMAGE_SUFFIX}): remove it")
            images.append((city, os.path.join(folder, name)))
    if not images:
        raise ValueError(f"no images in {image_dir}: unpack leftImg8bit_trainvaltest.zip there")
    return images


def _get_cityscapes_files(image_dir: str, gt_dir: str) -> list[tuple[str, str, str, str]]:
    """[(image, instanceIds PNG, labelIds PNG, polygons JSON)]; whether the annotations exist is not checked."""
    files = []
    for city, image in list_images(image_dir):
        stem = os.path.join(gt_dir, city, os.path.basename(image)[: -len(_IMAGE_SUFFIX)] + "gtFine_")
        files.append((image, f"{stem}instanceIds.png", f"{stem}labelIds.png", f"{stem}polygons.json"))
    return files


def can_use_polygons(image_dir: str, gt_dir: str) -> bool:
    """Whether the polygon files are there, and shapely, which cuts overlapping polygons."""
    return importlib.util.find_spec("shapely") is not None and PathManager.isfile(
        _get_cityscapes_files(image_dir, gt_dir)[0][3]
    )


def load_cityscapes_instances(
    image_dir: str, gt_dir: str, from_json: bool = True, to_polygons: bool = True
) -> list[dict]:
    """Loads instances, from the polygons (JSON) or from the instanceIds PNGs.

    Args:
        image_dir, gt_dir: e.g. cityscapes/leftImg8bit/train and cityscapes/gtFine/train.
        to_polygons: masks as polygons; otherwise (PNGs only) as RLE.

    Returns: dicts with "annotations": XYXY boxes, category ids 0–7, "iscrowd" for groups.
    """
    if from_json and not to_polygons:
        raise ValueError("the JSON annotations are polygons: use from_json=False for RLE masks")
    files = _get_cityscapes_files(image_dir, gt_dir)
    require_file(files[0][3 if from_json else 1], "annotation", "unpack gtFine_trainvaltest.zip next to leftImg8bit")
    parse = _entry_from_polygons if from_json else partial(_entry_from_instance_ids, to_polygons=to_polygons)
    entries = _map_in_processes(parse, files)
    logger.info("Loaded %d images from %s", len(entries), image_dir)
    return entries


def _map_in_processes(parse, files: list) -> list[dict]:
    processes = max(multiprocessing.cpu_count() // get_world_size() // 2, 1)
    if processes == 1 or len(files) < 16:
        return [parse(names) for names in files]
    with multiprocessing.Pool(processes) as pool:
        return pool.map(parse, files)


def load_cityscapes_semantic(image_dir: str, gt_dir: str) -> list[dict]:
    """Loads (image, labelTrainIds PNG) pairs with their "height" and "width"."""
    entries = []
    for image, _, label_ids, _ in _get_cityscapes_files(image_dir, gt_dir):
        labels = label_ids.replace("labelIds", "labelTrainIds")
        require_file(labels, "label image", "make it with python datasets/prepare_cityscapes.py")
        with PathManager.open(labels, "rb") as stream, Image.open(stream) as header:
            width, height = header.size
        entries.append({"file_name": image, "sem_seg_file_name": labels, "height": height, "width": width})
    return entries


def _base_entry(image_file: str, height: int, width: int) -> dict:
    return {"file_name": image_file, "image_id": os.path.basename(image_file), "height": height, "width": width}


def _annotation(label_id: int, is_crowd: bool, box, segmentation) -> dict:
    return {
        "iscrowd": is_crowd,
        "category_id": _THING_IDS.index(label_id),
        "bbox": tuple(box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": segmentation,
    }


def _entry_from_instance_ids(files: tuple, to_polygons: bool) -> dict:
    """Ids ≥ 1000 are label · 1000 + instance; a thing's bare label id marks a group."""
    image_file, instance_file, _, _ = files
    with PathManager.open(instance_file, "rb") as stream:
        ids = np.asarray(Image.open(stream), order="F")
    annotations = []
    for instance_id in np.unique(ids).tolist():
        label_id = instance_id // 1000 if instance_id >= 1000 else instance_id
        if label_id not in _THING_IDS:
            continue
        mask = np.asarray(ids == instance_id, dtype=np.uint8, order="F")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]
        if box[2] == box[0] or box[3] == box[1]:
            continue  # a line has no area as a box
        segmentation = _outlines(mask) if to_polygons else mask_util.encode(mask)
        if segmentation:
            annotations.append(_annotation(label_id, instance_id < 1000, box, segmentation))
    return dict(_base_entry(image_file, *ids.shape), annotations=annotations)


def _outlines(mask: np.ndarray) -> list[list[int]]:
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    return [contour.reshape(-1).tolist() for contour in contours if len(contour) >= 3]


def _label_of(name: str, json_file: str) -> tuple[int | None, bool]:
    """(label id, or None for void; whether it is a group) of a polygon's label name."""
    is_group = name not in _EVALUATED and name not in _VOID and name.endswith("group")
    base = name[: -len("group")] if is_group else name
    if base not in _EVALUATED and base not in _VOID:
        raise ValueError(f"{json_file} has a polygon labelled {name!r}, which is no Cityscapes label: correct it")
    return _EVALUATED.get(base), is_group


def _entry_from_polygons(files: tuple) -> dict:
    """Polygons are listed from back to front; each instance keeps what nothing in front of it covers."""
    from shapely.geometry import Polygon

    image_file, _, _, json_file = files
    content = read_json(json_file)
    covered, annotations = Polygon(), []
    for drawn in reversed(content["objects"]):
        if "deleted" in drawn or drawn["label"] == _UNDRAWN:
            continue
        label_id, is_group = _label_of(drawn["label"], json_file)
        # Corners are pixel indices: +0.5 moves them to pixel centres, and the buffer out to the pixels' edges.
        shape = Polygon(np.asarray(drawn["polygon"], dtype="f4") + 0.5).buffer(0.5, quad_segs=4)
        visible = shape.difference(covered)
        is_thing = label_id in _THING_IDS
        if is_thing and visible.is_empty:
            continue
        covered = covered.union(shape)
        if is_thing:
            outlines = [part.exterior.coords for part in _polygon_parts(visible)]
            segmentation = [[float(value) for point in outline for value in point] for outline in outlines]
            annotations.append(_annotation(label_id, is_group, visible.bounds, segmentation))
    return dict(_base_entry(image_file, content["imgHeight"], content["imgWidth"]), annotations=annotations)


def _polygon_parts(geometry) -> list:
    parts = getattr(geometry, "geoms", [geometry])
    return [part for part in parts if part.geom_type == "Polygon"]
