"""COCO's instance format in and out, and folders of label images."""

import datetime
import json
import logging
import math
import os
from collections import defaultdict

import numpy as np
from detectron2.structures import Boxes, BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock
from pycocotools import mask as mask_util

from ..catalog import DatasetCatalog, MetadataCatalog
from .annotation_files import read_json, require_file, require_folder

__all__ = ["convert_to_coco_dict", "convert_to_coco_json", "load_coco_json", "load_sem_seg", "register_coco_instances"]

logger = logging.getLogger(__name__)


def load_coco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: list[str] | None = None,
) -> list[dict]:
    """Loads COCO instance annotations.

    Args:
        json_file: annotations; ``image_root``: the folder of the images.
        dataset_name: if given, category ids become contiguous from 0 in the order of the file's ids, and the
            data set's metadata gets "thing_classes" and "thing_dataset_id_to_contiguous_id".
        extra_annotation_keys: further keys of the annotations to keep.

    Returns: one dict per image, by ascending id, with "annotations" whose boxes are XYWH and whose masks are
        polygons or compressed RLE. Polygons of fewer than three points are left out where others remain.
    Raises: FileNotFoundError, or a one-line ValueError that names the offending annotation.
    """
    content = read_json(json_file)
    if not isinstance(content, dict) or "images" not in content:
        raise ValueError(f"{json_file} is not a COCO instance file: it has no 'images'")
    images = {image["id"]: image for image in content["images"]}
    if len(images) < len(content["images"]):
        raise ValueError(
            f"{json_file}: {len(content['images'])} images share {len(images)} ids: give each its own 'id'"
        )
    if images and image_root:
        require_folder(image_root, "image folder")
    id_map = None if dataset_name is None else _register_categories(content, json_file, dataset_name)
    annotations = _group_by_image(content.get("annotations", []), images, json_file)
    parse = _AnnotationParser(json_file, id_map, extra_annotation_keys or [])

    entries = []
    for image_id in sorted(images):
        image = images[image_id]
        absent = {"file_name", "height", "width"} - image.keys()
        if absent:
            raise ValueError(f"{json_file}: image {image_id} has no {', '.join(sorted(absent))}: add it to the file")
        entry = {key: image[key] for key in ("height", "width")}
        entry.update(file_name=os.path.join(image_root, image["file_name"]), image_id=image_id)
        entry["annotations"] = [parse(annotation, image) for annotation in annotations[image_id]]
        entries.append(entry)
    parse.check_masks()
    if entries and image_root:
        require_file(entries[0]["file_name"], "image")
    logger.info("Loaded %d images in COCO format from %s", len(entries), json_file)
    return entries


def _register_categories(content: dict, json_file: str, dataset_name: str) -> dict[int, int]:
    categories = {category["id"]: category["name"] for category in content.get("categories", [])}
    if not categories:
        raise ValueError(f"{json_file} lists no 'categories': add them, COCO's format needs them")
    ids = sorted(categories)
    if ids != list(range(1, len(ids) + 1)) and "coco" not in dataset_name:
        logger.warning("The category ids of %s are not 1 to %d: they are renumbered from 0", json_file, len(ids))
    id_map = {category_id: index for index, category_id in enumerate(ids)}
    meta = MetadataCatalog.get(dataset_name)
    meta.thing_classes = [categories[category_id] for category_id in ids]
    meta.thing_dataset_id_to_contiguous_id = id_map
    return id_map


def _group_by_image(annotations: list[dict], images: dict, json_file: str) -> dict:
    by_image, ids = defaultdict(list), set()
    matched = 0
    for annotation in annotations:
        image_id = annotation.get("image_id")
        if image_id not in images:
            continue
        matched += 1
        ids.add(annotation.get("id"))
        by_image[image_id].append(annotation)
    if matched < len(annotations):
        logger.warning("%d annotations of %s belong to no image in it", len(annotations) - matched, json_file)
    # The published minival file of COCO 2014 repeats ids.
    if len(ids) < matched and "minival" not in json_file:
        raise ValueError(f"{json_file}: {matched} annotations share {len(ids)} ids: give each its own 'id'")
    return by_image


class _AnnotationParser:
    """Checks one annotation after the other and makes data set dicts of them."""

    def __init__(self, json_file: str, id_map: dict | None, extra_keys: list[str]):
        self._file, self._id_map = json_file, id_map
        self._keys = ("iscrowd", "bbox", "category_id", *extra_keys)
        self._masks = 0
        self._maskless: list[str] = []

    def _error(self, annotation: dict, image: dict, problem: str) -> ValueError:
        where = f"annotation {annotation.get('id')} of image {image['id']} ({image.get('file_name')})"
        return ValueError(f"{self._file}: {where} {problem}")

    def __call__(self, annotation: dict, image: dict) -> dict:
        if annotation.get("ignore", 0):
            raise self._error(annotation, image, "is marked 'ignore': use 'iscrowd', or remove it")
        box = annotation.get("bbox")
        if not isinstance(box, list | tuple) or len(box) != 4 or not _is_finite(box):
            raise self._error(annotation, image, f"has bbox {box!r}, expected [x, y, width, height]: correct it")
        obj = {key: annotation[key] for key in self._keys if key in annotation}
        obj["bbox_mode"] = BoxMode.XYWH_ABS
        category = annotation.get("category_id")
        if self._id_map is not None:
            if category not in self._id_map:
                problem = f"has category_id {category}, which is not in 'categories': add the category, or correct it"
                raise self._error(annotation, image, problem)
            obj["category_id"] = self._id_map[category]
        if annotation.get("segmentation"):
            self._masks += 1
            obj["segmentation"] = self._segmentation(annotation, image)
        else:
            self._maskless.append(f"{annotation.get('id')} of image {image['id']} ({image.get('file_name')})")
        return obj

    def _segmentation(self, annotation: dict, image: dict):
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            size = segmentation.get("size")
            if "counts" not in segmentation or list(size or ()) != [image["height"], image["width"]]:
                expected = [image["height"], image["width"]]
                problem = f"has an RLE of size {size}, expected 'counts' and size {expected} (h, w): correct it"
                raise self._error(annotation, image, problem)
            is_plain = isinstance(segmentation["counts"], list)
            return mask_util.frPyObjects(segmentation, *size) if is_plain else segmentation
        if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
            raise self._error(annotation, image, "has a segmentation that is neither polygons nor RLE: correct it")
        polygons = [p for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
        if not polygons or not all(map(_is_finite, polygons)):
            lengths = [len(p) for p in segmentation]
            problem = (
                f"has an invalid polygon (lists of {lengths} numbers; at least 3 points x, y of finite numbers "
                "are needed): correct or remove the annotation"
            )
            raise self._error(annotation, image, problem)
        return polygons

    def check_masks(self) -> None:
        """Either all annotations have masks, or (box-only data) none."""
        if self._masks and self._maskless:
            raise ValueError(
                f"{self._file}: {len(self._maskless)} annotation(s) have an empty segmentation while others have one "
                f"(the first: annotation {self._maskless[0]}): add the masks, or remove these annotations"
            )


def _is_finite(numbers: list) -> bool:
    try:
        return math.isfinite(sum(numbers))
    except TypeError:
        return False


def load_sem_seg(gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg") -> list[dict]:
    """Pairs the images of a folder with the label images of another, by file name without extension.

    Returns: dicts with "file_name" and "sem_seg_file_name". Files without a partner are left out, with a warning.
    Raises: FileNotFoundError for a missing folder, ValueError where no pair is found.
    """
    require_folder(image_root, "image folder")
    require_folder(gt_root, "label folder", _label_remedy(gt_root))
    images = {f[: -len(image_ext)]: f for f in PathManager.ls(image_root) if f.endswith(image_ext)}
    labels = {f[: -len(gt_ext)]: f for f in PathManager.ls(gt_root) if f.endswith(gt_ext)}
    common = images.keys() & labels.keys()
    if not common:
        raise ValueError(
            f"no image *{image_ext} of {image_root} ({len(images)} files) has a label *{gt_ext} of the same name in "
            f"{gt_root} ({len(labels)} files): check both folders and extensions"
        )
    is_partial = len(common) < max(len(images), len(labels))
    if is_partial:
        logger.warning(
            "%s and %s hold %d images and %d labels; the %d that match are used",
            *(image_root, gt_root, len(images), len(labels), len(common)),
        )
    stems = sorted(common) if is_partial else sorted(common, key=lambda stem: stem.rstrip("."))
    logger.info("Loaded %d images with semantic segmentation from %s", len(stems), image_root)
    return [
        {
            "file_name": os.path.join(image_root, images[stem]),
            "sem_seg_file_name": os.path.join(gt_root, labels[stem]),
        }
        for stem in stems
    ]


def _label_remedy(gt_root: str) -> str | None:
    """Which script makes a generated label folder."""
    scripts = {"panoptic_stuff_": "prepare_panoptic_fpn.py", "annotations_detectron2": "prepare_ade20k.py"}
    return next((f"make it with python datasets/{name}" for part, name in scripts.items() if part in gt_root), None)


def convert_to_coco_dict(dataset_name: str) -> dict:
    """COCO instance annotations (without key points) of a registered data set that has "thing_classes"."""
    meta = MetadataCatalog.get(dataset_name)
    to_dataset_id = {v: k for k, v in meta.get("thing_dataset_id_to_contiguous_id", {}).items()}
    images, annotations = [], []
    for index, entry in enumerate(DatasetCatalog.get(dataset_name)):
        image_id = entry.get("image_id", index)
        size = {"width": int(entry["width"]), "height": int(entry["height"])}
        images.append({"id": image_id, **size, "file_name": str(entry["file_name"])})
        for obj in entry.get("annotations", []):
            category = to_dataset_id.get(obj["category_id"], obj["category_id"])
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(category)}
            annotations.append({**annotation, **_coco_geometry(obj)})
    categories = [{"id": to_dataset_id.get(i, i), "name": name} for i, name in enumerate(meta.thing_classes)]
    logger.info("Converted %d images with %d annotations to COCO format", len(images), len(annotations))
    info = {
        "date_created": str(datetime.datetime.now()),
        "description": f"Data set {dataset_name} in COCO format, converted for evaluation.",
    }
    content = {"info": info, "images": images, "categories": categories, "licenses": None}
    return {**content, "annotations": annotations} if annotations else content


def _coco_geometry(obj: dict) -> dict:
    box = np.asarray(obj["bbox"]).tolist()
    if len(box) != 4:
        raise ValueError(f"a box has four numbers, got {box}; rotated boxes are outside the embedded engine")
    x, y, width, height = BoxMode.convert(box, obj["bbox_mode"], BoxMode.XYWH_ABS)
    geometry = {
        "bbox": [round(float(side), 3) for side in (x, y, width, height)],
        "iscrowd": int(obj.get("iscrowd", 0)),
    }
    segmentation = obj.get("segmentation")
    if segmentation is None:
        area = Boxes([[x, y, x + width, y + height]]).area()[0].item()
    elif isinstance(segmentation, dict):
        area = mask_util.area(segmentation).item()
        counts = segmentation["counts"]
        segmentation = {**segmentation, "counts": counts if isinstance(counts, str) else counts.decode("ascii")}
    elif isinstance(segmentation, list):
        area = PolygonMasks([segmentation]).area()[0].item()
        segmentation = [np.asarray(polygon).tolist() for polygon in segmentation]
    else:
        raise TypeError(f"a segmentation is a list of polygons or an RLE dict, got {type(segmentation).__name__}")
    return {**geometry, "area": float(area), **({} if segmentation is None else {"segmentation": segmentation})}


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Writes :func:`convert_to_coco_dict` to ``output_file``, or keeps a file that is there (``allow_cached``)."""
    PathManager.mkdirs(os.path.dirname(output_file))
    with file_lock(output_file):
        if allow_cached and PathManager.exists(output_file):
            logger.warning("Using %s as it is; delete it if data set %s has changed", output_file, dataset_name)
            return
        content = convert_to_coco_dict(dataset_name)
        unfinished = f"{output_file}.tmp"
        with open(unfinished, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(unfinished, output_file)


def register_coco_instances(name: str, metadata: dict, json_file: str, image_root: str) -> None:
    """Registers COCO instance annotations as data set ``name``; ``metadata`` may be empty."""
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    facts = {"json_file": json_file, "image_root": image_root, "evaluator_type": "coco"}
    MetadataCatalog.get(name).set(**facts, **metadata)
