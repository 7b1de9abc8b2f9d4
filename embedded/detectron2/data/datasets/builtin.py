"""Registers COCO, Cityscapes and ADE20K below ``DETECTRON2_DATASETS`` (default ./datasets) by Detectron2's names."""

import logging
import os

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import ADE20K_SEM_SEG_CATEGORIES, _get_builtin_metadata
from .cityscapes import can_use_polygons, load_cityscapes_instances, load_cityscapes_semantic
from .cityscapes_panoptic import register_all_cityscapes_panoptic
from .coco import load_sem_seg, register_coco_instances
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated

logger = logging.getLogger(__name__)

# Data set name, image folder, annotation file.
_COCO_INSTANCES = """
coco_2014_train           train2014  instances_train2014
coco_2014_val             val2014    instances_val2014
coco_2014_minival         val2014    instances_minival2014
coco_2014_valminusminival val2014    instances_valminusminival2014
coco_2017_train           train2017  instances_train2017
coco_2017_val             val2017    instances_val2017
coco_2017_test            test2017   image_info_test2017
coco_2017_test-dev        test2017   image_info_test-dev2017
coco_2017_val_100         val2017    instances_val2017_100
"""
# Instance data set whose images and instances they share, and the suffix of their own files.
_COCO_PANOPTIC = {"coco_2017_train": "train2017", "coco_2017_val": "val2017", "coco_2017_val_100": "val2017_100"}


def register_all_coco(root: str) -> None:
    """Registers COCO's instance, panoptic, separated and stuff-only data sets below ``root``/coco."""
    coco = os.path.join(root, "coco")
    for row in _COCO_INSTANCES.split("\n")[1:-1]:
        name, images, annotations = row.split()
        json_file = os.path.join(coco, f"annotations/{annotations}.json")
        register_coco_instances(name, _get_builtin_metadata("coco"), json_file, os.path.join(coco, images))
    for base, split in _COCO_PANOPTIC.items():
        instances = MetadataCatalog.get(base)
        name, image_root = f"{base}_panoptic", instances.image_root
        png_root = os.path.join(coco, f"panoptic_{split}")
        panoptic_json = os.path.join(coco, f"annotations/panoptic_{split}.json")
        stuff_root = os.path.join(coco, f"panoptic_stuff_{split}")
        meta = _get_builtin_metadata("coco_panoptic_separated")
        register_coco_panoptic_separated(
            name, meta, image_root, png_root, panoptic_json, stuff_root, instances.json_file
        )
        meta = _get_builtin_metadata("coco_panoptic_standard")
        register_coco_panoptic(name, meta, image_root, png_root, panoptic_json, instances.json_file)


def register_all_cityscapes(root: str) -> None:
    """Registers ``cityscapes_fine_{instance_seg,sem_seg}_{train,val,test}``."""
    for split in ("train", "val", "test"):
        # The trailing slash is part of the paths that Detectron2 publishes in the metadata.
        image_dir, gt_dir = (os.path.join(root, f"cityscapes/{kind}/{split}/") for kind in ("leftImg8bit", "gtFine"))
        _register_cityscapes(split, image_dir, gt_dir)


def _register_cityscapes(split: str, image_dir: str, gt_dir: str) -> None:
    meta = dict(_get_builtin_metadata("cityscapes"), image_dir=image_dir, gt_dir=gt_dir)
    name = f"cityscapes_fine_instance_seg_{split}"
    DatasetCatalog.register(name, lambda: _load_instances(image_dir, gt_dir))
    MetadataCatalog.get(name).set(evaluator_type="cityscapes_instance", **meta)
    name = f"cityscapes_fine_sem_seg_{split}"
    DatasetCatalog.register(name, lambda: load_cityscapes_semantic(image_dir, gt_dir))
    MetadataCatalog.get(name).set(evaluator_type="cityscapes_sem_seg", ignore_label=255, **meta)


def _load_instances(image_dir: str, gt_dir: str) -> list[dict]:
    from_json = can_use_polygons(image_dir, gt_dir)
    if not from_json:
        logger.warning("Polygon files or shapely are missing: instances come from the instanceIds PNGs of %s", gt_dir)
    return load_cityscapes_instances(image_dir, gt_dir, from_json=from_json, to_polygons=True)


def register_all_ade20k(root: str) -> None:
    """Registers ``ade20k_sem_seg_{train,val}``."""
    ade20k = os.path.join(root, "ADEChallengeData2016")
    for split, folder in (("train", "training"), ("val", "validation")):
        images = os.path.join(ade20k, "images", folder)
        labels = os.path.join(ade20k, "annotations_detectron2", folder)
        name = f"ade20k_sem_seg_{split}"
        DatasetCatalog.register(name, lambda images=images, labels=labels: load_sem_seg(labels, images))
        meta = dict(image_root=images, sem_seg_root=labels, evaluator_type="sem_seg", ignore_label=255)
        MetadataCatalog.get(name).set(stuff_classes=ADE20K_SEM_SEG_CATEGORIES[:], **meta)


_root = os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))
register_all_coco(_root)
register_all_cityscapes(_root)
register_all_cityscapes_panoptic(_root)
register_all_ade20k(_root)
