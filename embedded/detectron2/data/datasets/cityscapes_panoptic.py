"""Cityscapes' panoptic annotations, as datasets/prepare_cityscapes.py makes them."""

import os

from ..catalog import DatasetCatalog, MetadataCatalog
from .annotation_files import require_file
from .builtin_meta import CITYSCAPES_CATEGORIES, panoptic_meta
from .cityscapes import list_images
from .coco_panoptic import convert_segment, read_panoptic_annotations

_REMEDY = "make it with python datasets/prepare_cityscapes.py"


def load_cityscapes_panoptic(image_dir: str, gt_dir: str, gt_json: str, meta: dict) -> list[dict]:
    """Loads panoptic entries: "file_name", "image_id", "sem_seg_file_name", "pan_seg_file_name", "segments_info".

    Args:
        image_dir: e.g. cityscapes/leftImg8bit/train; ``gt_dir`` and ``gt_json``: the panoptic PNGs and their JSON.
        meta: "thing_dataset_id_to_contiguous_id" and "stuff_dataset_id_to_contiguous_id".
    """
    annotations = read_panoptic_annotations(gt_json, _REMEDY)
    images = {"_".join(os.path.basename(path).split("_")[:3]): path for _, path in list_images(image_dir)}
    entries = []
    for annotation in annotations:
        image = images.get(annotation["image_id"])
        if image is None:
            raise FileNotFoundError(
                f"{gt_json} annotates {annotation['image_id']}, which is not in {image_dir}: add the image, or make "
                "the JSON anew"
            )
        png = annotation["file_name"]
        entries.append(
            {
                "file_name": image,
                "image_id": annotation["image_id"],
                "sem_seg_file_name": image.replace("leftImg8bit", "gtFine").removesuffix(".png") + "_labelTrainIds.png",
                "pan_seg_file_name": os.path.join(gt_dir, png),
                "segments_info": [convert_segment(s, meta, gt_json, png) for s in annotation["segments_info"]],
            }
        )
    require_file(entries[0]["sem_seg_file_name"], "label image", _REMEDY)
    require_file(entries[0]["pan_seg_file_name"], "panoptic label image", _REMEDY)
    return entries


def register_all_cityscapes_panoptic(root: str) -> None:
    """Registers ``cityscapes_fine_panoptic_{train,val}`` under ``root``/cityscapes."""
    meta = panoptic_meta(CITYSCAPES_CATEGORIES)
    for split in ("train", "val"):
        image_dir = os.path.join(root, "cityscapes/leftImg8bit", split)
        gt_dir = os.path.join(root, f"cityscapes/gtFine/cityscapes_panoptic_{split}")
        _register(f"cityscapes_fine_panoptic_{split}", image_dir, gt_dir, meta)


def _register(name: str, image_dir: str, gt_dir: str, meta: dict) -> None:
    gt_json = f"{gt_dir}.json"
    DatasetCatalog.register(name, lambda: load_cityscapes_panoptic(image_dir, gt_dir, gt_json, meta))
    places = dict(image_root=image_dir, panoptic_root=gt_dir, panoptic_json=gt_json)
    places["gt_dir"] = gt_dir.replace("cityscapes_panoptic_", "")
    kind = dict(evaluator_type="cityscapes_panoptic_seg", ignore_label=255, label_divisor=1000)
    MetadataCatalog.get(name).set(**places, **kind, **meta)
