"""Dataset mappers by name (``INPUT.MAPPER``): what a room needs beyond Detectron2's own is registered here."""

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.utils.registry import Registry

from pnm.errors import UserError
from pnm.projects.bpr import BoundaryPatchMapper
from pnm.projects.pnm_heads.weight_mapper import PixelWeightMapper, wants_pixel_weights

from ...refining.coarse_predictions import coarse_predictions
from .color_augmentation import ColorAugSSDTransform

DATASET_MAPPER_REGISTRY = Registry("DATASET_MAPPER")
DATASET_MAPPER_REGISTRY.__doc__ = """
Callables from a Detectron2 dataset dict to a model's input, built as ``mapper(cfg, is_train)``.
"""


class CheckedDatasetMapper(DatasetMapper):
    """Detectron2's mapper; a file that cannot be read is told by its name."""

    def __call__(self, dataset_dict: dict) -> dict | None:
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow on a broken PNG
            files = [str(dataset_dict[key]) for key in ("file_name", "sem_seg_file_name") if key in dataset_dict]
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            if not any(file in cause for file in files):
                cause = f"cannot read {' with '.join(files)}: {cause}; restore the file or remove it from the data set"
            raise UserError(cause) from error


@DATASET_MAPPER_REGISTRY.register()
def default_mapper(cfg: CfgNode, is_train: bool) -> CheckedDatasetMapper:
    """Detectron2's mapper with the augmentations of its own config keys."""
    return CheckedDatasetMapper(cfg, is_train)


def semantic_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Resize, area-constrained crop, SSD colours, flip: the usual recipe of semantic segmentation."""
    short, longest, style = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    found: list[T.Augmentation] = [T.ResizeShortestEdge(short, longest, style)]
    crop, ignored = cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if crop.ENABLED:
        found.append(T.RandomCrop_CategoryAreaConstraint(crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignored))
    if cfg.INPUT.COLOR_AUG_SSD:
        found.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    if cfg.INPUT.RANDOM_FLIP != "none":
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        found.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    return found


@DATASET_MAPPER_REGISTRY.register()
def semantic_mapper(cfg: CfgNode, is_train: bool) -> CheckedDatasetMapper:
    """As ``default_mapper`` for evaluation; training samples go through :func:`semantic_augmentations`."""
    if not is_train:
        return CheckedDatasetMapper(cfg, is_train)
    return CheckedDatasetMapper(cfg, is_train, augmentations=semantic_augmentations(cfg))


@DATASET_MAPPER_REGISTRY.register()
def boundary_patch_mapper(cfg: CfgNode, is_train: bool) -> BoundaryPatchMapper:
    """Patches for ``BoundaryPatchRefiner``, from ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``."""
    colors = ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT) if is_train and cfg.INPUT.COLOR_AUG_SSD else None
    return BoundaryPatchMapper.from_config(cfg, is_train, coarse_predictions(cfg, is_train), colors)


def build_mapper(cfg: CfgNode, is_train: bool):
    """The mapper named ``INPUT.MAPPER``; for training with a weighted semantic loss, one that adds pixel weights.

    Raises:
        UserError: nobody has registered that name.
    """
    if cfg.INPUT.MAPPER not in DATASET_MAPPER_REGISTRY:
        names = sorted(name for name, _ in DATASET_MAPPER_REGISTRY)
        raise UserError(f"INPUT.MAPPER is {cfg.INPUT.MAPPER!r}, expected one of {names}")
    mapper = DATASET_MAPPER_REGISTRY.get(cfg.INPUT.MAPPER)(cfg, is_train)
    return PixelWeightMapper.from_config(cfg, mapper) if is_train and wants_pixel_weights(cfg) else mapper
