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


def se_psnet(folder: Path) -> dict:
    """SE-PSNet's configs, with the numbers of classes of their data sets, built on the CPU."""
    from detectron2.modeling import build_model

    from pnm.projects.launcher.config import load_config
    from pnm.projects.launcher.data.checks import take_from_data
    from pnm.projects.launcher.data.shapes import register_shapes

    register_shapes()
    found = {}
    for path in sorted(Path("configs").rglob("se_psnet*.yaml")):
        cfg = load_config(str(path), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", ""])
        take_from_data(cfg)
        shapes = {key: tuple(value.shape) for key, value in build_model(cfg).state_dict().items()}
        found[str(path)] = (flat(cfg), shapes)
    return found
