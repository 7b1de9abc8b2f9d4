"""The dataset mapper of a run: the one that its meta-architecture declares, or that ``INPUT.MAPPER`` names."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from pnm.errors import UserError

from ...dataset_mappers import DATASET_MAPPER_REGISTRY
from ..rooms import hooks

DEFAULT = "default_mapper"


def mapper_name(cfg: CfgNode) -> str:
    """Name of the mapper.

    Raises:
        UserError: ``INPUT.MAPPER`` is no mapper, or another one than the meta-architecture takes its input from.
    """
    arch, wanted = cfg.MODEL.META_ARCHITECTURE, cfg.INPUT.MAPPER
    declared = getattr(META_ARCH_REGISTRY.get(arch), "dataset_mapper", "") if arch in META_ARCH_REGISTRY else ""
    if declared and wanted not in ("", declared):
        raise UserError(
            f"INPUT.MAPPER is {wanted!r}, but {arch} takes its input from {declared}: leave INPUT.MAPPER away"
        )
    name = declared or wanted or DEFAULT
    if name not in DATASET_MAPPER_REGISTRY:
        names = sorted(name for name, _ in DATASET_MAPPER_REGISTRY)
        raise UserError(f"INPUT.MAPPER is {name!r}, expected one of {names}")
    return name


def build_mapper(cfg: CfgNode, is_train: bool) -> Any:
    """The mapper of a run, from a dataset dict to a sample; for training, with what the rooms add to its samples.

    Raises:
        UserError: see :func:`mapper_name`.
    """
    mapper = DATASET_MAPPER_REGISTRY.get(mapper_name(cfg))(cfg, is_train)
    for wrap_mapper in hooks("wrap_mapper", cfg.MODEL.IMPORTS) if is_train else ():
        mapper = wrap_mapper(cfg, mapper)
    return mapper
