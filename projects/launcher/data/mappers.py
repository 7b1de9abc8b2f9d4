"""The dataset mapper of a run: the one that its meta-architecture declares, or that ``INPUT.MAPPER`` names.

Where neither says, panoptic networks whose data sets lack the twin files that Panoptic FPN is used to (stuff label PNGs
and instance annotations) learn from the panoptic PNGs themselves, others from what Detectron2's mapper gives.
"""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN

from pnm.errors import UserError

from ...dataset_mappers import DATASET_MAPPER_REGISTRY
from ...dataset_mappers.panoptic_classes import shared_classes
from ..rooms import hooks

DEFAULT, PANOPTIC = "default_mapper", "panoptic_mapper"


def _architecture(cfg: CfgNode) -> type | None:
    name = cfg.MODEL.META_ARCHITECTURE
    return META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None


def learns_panoptic(cfg: CfgNode) -> bool:
    """Whether the meta-architecture takes the panoptic mapper's samples, and its numbers of classes, whatever those of
    the data set; it says so by its class attribute ``learns_panoptic``."""
    return bool(getattr(_architecture(cfg), "learns_panoptic", False))


def _is_panoptic_fpn(cfg: CfgNode) -> bool:
    arch = _architecture(cfg)
    return isinstance(arch, type) and issubclass(arch, PanopticFPN)


def lacks_twins(metadata: Any) -> bool:
    """Whether a data set has panoptic PNGs, but no stuff labels and instances beside them in Panoptic FPN's classes."""
    has_twins = metadata.get("json_file", None) and metadata.get("sem_seg_root", None)
    stuff = metadata.get("stuff_classes", None) or [""]
    return bool(metadata.get("panoptic_json", None)) and not (has_twins and stuff[0] == "things")


def mapper_name(cfg: CfgNode, is_train: bool = True) -> str:
    """Name of the mapper.

    Raises:
        UserError: ``INPUT.MAPPER`` is no mapper, or another one than the meta-architecture takes its input from; data
            sets that the panoptic mapper cannot feed to it in training.
    """
    arch, wanted = cfg.MODEL.META_ARCHITECTURE, cfg.INPUT.MAPPER
    declared = getattr(_architecture(cfg), "dataset_mapper", "")
    if declared and wanted not in ("", declared):
        raise UserError(
            f"INPUT.MAPPER is {wanted!r}, but {arch} takes its input from {declared}: leave INPUT.MAPPER away"
        )
    known = set(DatasetCatalog.list())
    data = {name: MetadataCatalog.get(name) for name in cfg.DATASETS["TRAIN" if is_train else "TEST"] if name in known}
    is_panoptic = learns_panoptic(cfg) or _is_panoptic_fpn(cfg)
    without = [name for name, metadata in data.items() if is_panoptic and lacks_twins(metadata)]
    name = declared or wanted or (PANOPTIC if without else DEFAULT)
    if name not in DATASET_MAPPER_REGISTRY:
        names = sorted(name for name, _ in DATASET_MAPPER_REGISTRY)
        raise UserError(f"INPUT.MAPPER is {name!r}, expected one of {names}")
    if name == PANOPTIC and is_train:
        _check_panoptic(cfg, data, without)
    return name


def _check_panoptic(cfg: CfgNode, data: dict[str, Any], without: Sequence[str]) -> None:
    """A UserError unless all data sets have panoptic PNGs, in classes that the model has."""
    unfit = [name for name, metadata in data.items() if not metadata.get("panoptic_json", None)]
    if unfit:
        cause = f"as {without[0]} has no stuff labels and instances beside its own, " if without else ""
        raise UserError(
            f"data set {unfit[0]} has no panoptic PNGs, from which panoptic_mapper takes all samples: {cause}register "
            "it as type panoptic, or leave it out of DATASETS.TRAIN"
        )
    if data and not shared_classes(data).are_dense and _is_panoptic_fpn(cfg):
        raise UserError(
            f"data set {next(iter(data))} doesn't number its classes as {cfg.MODEL.META_ARCHITECTURE} does, things "
            "from 0 and stuff from 1: take coco_2017_train_panoptic_separated and coco_2017_val_panoptic_separated for "
            "COCO, or register it in DATASETS.REGISTER as type panoptic"
        )


def build_mapper(cfg: CfgNode, is_train: bool) -> Any:
    """The mapper of a run, from a dataset dict to a sample; for training, with what the rooms add to its samples.

    Raises:
        UserError: see :func:`mapper_name`.
    """
    mapper = DATASET_MAPPER_REGISTRY.get(mapper_name(cfg, is_train))(cfg, is_train)
    for wrap_mapper in hooks("wrap_mapper", cfg.MODEL.IMPORTS) if is_train else ():
        mapper = wrap_mapper(cfg, mapper)
    return mapper
