"""Configs as plain values."""

from pathlib import Path

from detectron2.config import CfgNode, get_cfg

PUBLISHED = (
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml",
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x.yaml",
    "Cityscapes/mask_rcnn_R_50_FPN.yaml",
    "Misc/semantic_R_50_FPN_1x.yaml",
)


def flat(cfg: CfgNode, prefix: str = "") -> dict:
    """{full key: value}."""
    found = {}
    for key, value in cfg.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {prefix + key: value}
    return found


def defaults(folder: Path) -> dict:
    return flat(get_cfg())


def published(folder: Path, configs: str) -> dict:
    """Detectron2's own YAML files, merged and built on the CPU."""
    from detectron2.modeling import build_model

    found = {}
    for name in PUBLISHED:
        cfg = get_cfg()
        cfg.merge_from_file(str(Path(configs) / name))
        cfg.MODEL.DEVICE = "cpu"
        shapes = {key: tuple(value.shape) for key, value in build_model(cfg).state_dict().items()}
        found[name] = (flat(cfg), shapes)
    return found
