"""COCO's panoptic format, whole or separated into instances and stuff labels."""

import os

from ..catalog import DatasetCatalog, MetadataCatalog
from .annotation_files import read_json, require_file
from .coco import load_coco_json, load_sem_seg

__all__ = [
    "load_coco_panoptic_json",
    "merge_to_panoptic",
    "register_coco_panoptic",
    "register_coco_panoptic_separated",
]


def load_coco_panoptic_json(json_file: str, image_dir: str, gt_dir: str, meta: dict) -> list[dict]:
    """Loads panoptic annotations; images are ``image_dir``/<name of the PNG>.jpg.

    ``meta`` has "thing_dataset_id_to_contiguous_id" and "stuff_dataset_id_to_contiguous_id".

    Returns: dicts with "file_name", "image_id", "pan_seg_file_name" and "segments_info", whose category ids are
        contiguous and which have "isthing".
    """
    entries = []
    for annotation in read_panoptic_annotations(json_file):
        png = annotation["file_name"]
        segments = [
            dict(convert_segment(segment, meta, json_file, png), isthing=_is_thing(segment, meta))
            for segment in annotation["segments_info"]
        ]
        entries.append(
            {
                "file_name": os.path.join(image_dir, f"{os.path.splitext(png)[0]}.jpg"),
                "image_id": int(annotation["image_id"]),
                "pan_seg_file_name": os.path.join(gt_dir, png),
                "segments_info": segments,
            }
        )
    require_file(entries[0]["file_name"], "image")
    require_file(entries[0]["pan_seg_file_name"], "panoptic label image")
    return entries


def read_panoptic_annotations(json_file: str, remedy: str | None = None) -> list[dict]:
    """The "annotations" of a panoptic file; ValueError if there are none."""
    content = read_json(json_file, remedy)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not annotations:
        raise ValueError(f"{json_file} has no 'annotations': it is not a panoptic annotation file, or it is empty")
    return annotations


def _is_thing(segment: dict, meta: dict) -> bool:
    return segment["category_id"] in meta["thing_dataset_id_to_contiguous_id"]


def convert_segment(segment: dict, meta: dict, json_file: str, png: str) -> dict:
    """The segment with a contiguous category id; ValueError for a category that ``meta`` does not know."""
    ids = meta["stuff_dataset_id_to_contiguous_id"] | meta["thing_dataset_id_to_contiguous_id"]
    category = segment["category_id"]
    if category not in ids:
        raise ValueError(
            f"{json_file}: segment {segment.get('id')} of {png} has category_id {category}, which is not one of the "
            f"data set's {len(ids)} categories: correct it, or register the data set with this category"
        )
    return {**segment, "category_id": ids[category]}


def merge_to_panoptic(detection_dicts: list[dict], sem_seg_dicts: list[dict]) -> list[dict]:
    """Joins instance entries with semantic entries of the same "file_name"; each instance entry needs its partner."""
    labels = {entry["file_name"]: entry for entry in sem_seg_dicts}
    alone = [entry["file_name"] for entry in detection_dicts if entry["file_name"] not in labels]
    if alone:
        raise ValueError(
            f"{len(alone)} of {len(detection_dicts)} images with instances have no stuff labels (first: {alone[0]}): "
            "make them with python datasets/prepare_panoptic_fpn.py"
        )
    return [{**entry, **labels[entry["file_name"]]} for entry in detection_dicts]


def register_coco_panoptic(
    name: str,
    metadata: dict,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Registers panoptic annotations (PNG folder and JSON) as data set ``name``."""
    DatasetCatalog.register(name, lambda: load_coco_panoptic_json(panoptic_json, image_root, panoptic_root, metadata))
    facts = dict(image_root=image_root, panoptic_root=panoptic_root, panoptic_json=panoptic_json)
    facts.update(json_file=instances_json, evaluator_type="coco_panoptic_seg", ignore_label=255, label_divisor=1000)
    MetadataCatalog.get(name).set(**facts, **metadata)


def register_coco_panoptic_separated(
    name: str,
    metadata: dict,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Registers ``<name>_separated`` (Panoptic FPN's training data) and ``<name>_stuffonly``.

    Instances come from COCO's instance annotations, stuff from the label images of ``sem_seg_root``
    (datasets/prepare_panoptic_fpn.py), where 0 is any thing and 255 is ignored.
    """
    separated, stuff_only = f"{name}_separated", f"{name}_stuffonly"
    stuff = dict(sem_seg_root=sem_seg_root, image_root=image_root, ignore_label=255)

    def load_separated() -> list[dict]:
        instances = load_coco_json(instances_json, image_root, separated)
        return merge_to_panoptic(instances, load_sem_seg(sem_seg_root, image_root))

    DatasetCatalog.register(separated, load_separated)
    whole = dict(panoptic_root=panoptic_root, panoptic_json=panoptic_json, json_file=instances_json)
    MetadataCatalog.get(separated).set(evaluator_type="coco_panoptic_seg", **whole, **stuff, **metadata)

    DatasetCatalog.register(stuff_only, lambda: load_sem_seg(sem_seg_root, image_root))
    MetadataCatalog.get(stuff_only).set(evaluator_type="sem_seg", **stuff, **metadata)
