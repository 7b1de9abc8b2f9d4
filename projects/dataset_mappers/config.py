"""Config keys of the dataset mappers."""

from detectron2.config import CfgNode


def add_mapper_config(cfg: CfgNode) -> None:
    """Adds the keys under ``INPUT`` that Detectron2 doesn't have."""
    # Name in DATASET_MAPPER_REGISTRY; "" takes the one that the meta-architecture declares, else default_mapper
    # (Detectron2's own augmentations), or for panoptic networks whose data sets have panoptic PNGs alone,
    # panoptic_mapper. semantic_mapper has the usual recipe of semantic segmentation.
    cfg.INPUT.MAPPER = ""
    # SSD's photometric augmentation; read by semantic_mapper and by the mappers of refiners.
    cfg.INPUT.COLOR_AUG_SSD = False
    # At most this much, of 255, is added to a training image or taken from it; read by SegFix's mapper.
    cfg.INPUT.BRIGHTNESS_DELTA = 0.0
    # Crops in which one class covers more than this share are drawn again, 1.0 = never; read by semantic_mapper.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
