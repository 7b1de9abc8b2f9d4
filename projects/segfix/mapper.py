"""From an image and its ground truth, or its predictions, to what a SegFix model takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from pnm.formats.label_png import read_label_png
from pnm.interior_offsets.targets import offset_targets

from ..dataset_mappers import DATASET_MAPPER_REGISTRY, BrightnessShift, ColorAugSSDTransform
from ..refining import RefiningMapper, coarse_predictions
from ..refining.mapper import CoarseOf, check_label_size
from ..refining.truths import Truth
from .config import OffsetSettings

_VOID = -1  # label of ignored pixels, whatever the file has for them


class OffsetMapper(RefiningMapper):
    """Training gives "image" (3, h, w) uint8, "boundary" and "directions" (h, w) uint8, see
    :class:`pnm.interior_offsets.targets.OffsetTargets`, made after the augmentations. For inference see
    :class:`..refining.RefiningMapper`.

    Of instances, a label map is drawn, larger ones first; what is none is a label, too, and crowds are ignored.
    """

    def __init__(
        self,
        settings: OffsetSettings,
        *,
        is_train: bool,
        coarse: CoarseOf | None,
        augmentations: list[T.Augmentation] | None = None,
        image_format: str = "RGB",
        ignore_label: int = 255,
    ):
        """
        Args:
            coarse: see :class:`..refining.RefiningMapper`; of inference.
            augmentations: of images and labels in training.
        """
        super().__init__(
            settings.task, is_train=is_train, coarse=coarse, image_format=image_format, ignore_label=ignore_label
        )
        self.settings, self.augmentations = settings, T.AugmentationList(augmentations or [])

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "OffsetMapper":
        return cls(
            OffsetSettings.from_config(cfg),
            is_train=is_train,
            coarse=None if is_train else coarse_predictions(cfg, is_train),
            augmentations=augmentations(cfg) if is_train else None,
            image_format=cfg.INPUT.FORMAT,
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        )

    def label_map(self, entry: Mapping[str, Any], height: int, width: int) -> np.ndarray:
        """(H, W) int32 labels, -1 where nothing is to be learned.

        Raises:
            UserError: see :meth:`..refining.RefiningMapper.truth`.
        """
        if self.task == "semantic":  # without a mask of each class, which is what `truth` makes
            labels = read_label_png(self.label_file(entry))
            check_label_size(labels, entry, height, width)
            return np.where(labels == self.ignore_label, _VOID, labels.astype(np.int32))
        truth = self.truth(entry, height, width)
        labels = _drawn(truth, height, width) if truth.labels is None else truth.labels
        pixels, top, left = truth.ignored
        labels[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = _VOID
        return labels

    def training_sample(self, entry: Mapping[str, Any], image: np.ndarray, prediction: Any) -> dict:
        aug_input = T.AugInput(image, sem_seg=self.label_map(entry, *image.shape[:2]))
        self.augmentations(aug_input)
        options = self.settings
        targets = offset_targets(
            aug_input.sem_seg,
            width_px=options.width_px,
            bins=options.bins,
            direction=options.direction,
            kernel_px=options.kernel_px,
            ignore_label=_VOID,
        )
        return {
            "image": torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))),
            "boundary": torch.from_numpy(targets.boundary),
            "directions": torch.from_numpy(targets.directions),
        }


def _drawn(truth: Truth, height: int, width: int) -> np.ndarray:
    """Label map of objects, numbered from 1, larger ones below smaller ones; 0 is the background."""
    labels = np.zeros((height, width), np.int32)
    areas = [int(np.count_nonzero(crop.pixels)) for crop in truth.crops]
    for number in sorted(range(len(areas)), key=lambda k: -areas[k]):
        pixels, top, left = truth.crops[number]
        labels[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = number + 1
    return labels


def augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Crop, flip, brightness and, on demand, SSD's colours."""
    steps: list[T.Augmentation] = []
    if cfg.INPUT.CROP.ENABLED:
        steps.append(T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.RANDOM_FLIP != "none":
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        steps.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    if cfg.INPUT.BRIGHTNESS_DELTA > 0:
        steps.append(BrightnessShift(cfg.INPUT.BRIGHTNESS_DELTA))
    if cfg.INPUT.COLOR_AUG_SSD:
        steps.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    return steps


@DATASET_MAPPER_REGISTRY.register()
def segfix_mapper(cfg: CfgNode, is_train: bool) -> OffsetMapper:
    """Images and targets for training, images and predictions for inference, see :class:`OffsetMapper`."""
    return OffsetMapper.from_config(cfg, is_train)
