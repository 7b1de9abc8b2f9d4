"""Detectron2's dataset mapper, which names the file that it cannot read and gives the transforms that it drew."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from pnm.errors import UserError

from .color_augmentation import ColorAugSSDTransform
from .reading import errors_that_name, read_image, read_labels
from .registry import DATASET_MAPPER_REGISTRY


class MappedSample(NamedTuple):
    """A sample, and what it was made of, for whoever has more to move along with image and labels.

    Attributes:
        sample: as a Detectron2 mapper returns it.
        transforms: that image and labels went through.
        labels: (H, W) semantic labels before them; None without.
        segments: (H, W) int32 numbers of the panoptic PNG's segments before them, 0 being void; None where the mapper
            doesn't read that PNG.
    """

    sample: dict
    transforms: T.TransformList
    labels: np.ndarray | None = None
    segments: np.ndarray | None = None


class CheckedDatasetMapper(DatasetMapper):
    """Detectron2's mapper, with the same samples; images and labels are read as :mod:`.reading` does.

    Args:
        labels: number of classes and ignored label of the label PNGs.
    """

    @configurable
    def __init__(self, is_train: bool, *, labels: tuple[int, int], **options):
        super().__init__(is_train, **options)
        self.labels = labels

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {**super().from_config(cfg, is_train), "labels": (head.NUM_CLASSES, head.IGNORE_VALUE)}

    def __call__(self, dataset_dict: dict) -> dict:
        return self.map_with_transforms(dataset_dict).sample

    def map_with_transforms(self, dataset_dict: dict) -> MappedSample:
        """A sample, and what it was made of.

        Raises:
            UserError: a file that cannot be read, or of another size than the data set says; a label that is no class.
        """
        files = [str(dataset_dict[key]) for key in ("file_name", "sem_seg_file_name") if key in dataset_dict]
        with errors_that_name(files):
            sample = copy.deepcopy(dataset_dict)
            image, labels = self._read(sample)
            aug_input = T.AugInput(image, sem_seg=labels)
            transforms = self.augmentations(aug_input)
            self._fill(sample, aug_input, transforms)
        return MappedSample(sample, transforms, labels)

    def sample_of(self, picture: np.ndarray) -> dict:
        """The sample for inference of a picture in memory, as that of a file with the same pixels.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Raises:
            UserError: the model takes neither RGB nor BGR.
        """
        if self.image_format not in ("RGB", "BGR"):
            raise UserError(f"INPUT.FORMAT is {self.image_format}, expected RGB or BGR of a picture in memory")
        image = picture if self.image_format == "RGB" else picture[..., ::-1]
        sample = dict(zip(("height", "width"), picture.shape[:2]))
        aug_input = T.AugInput(image)
        self._fill(sample, aug_input, self.augmentations(aug_input))
        return sample

    def _read(self, sample: dict) -> tuple[np.ndarray, np.ndarray | None]:
        image = read_image(sample["file_name"], self.image_format)
        detection_utils.check_image_size(sample, image)
        label_file = sample.pop("sem_seg_file_name", None)
        if label_file is None:
            return image, None
        labels = read_labels(label_file, *self.labels)
        if labels.shape != image.shape[:2]:
            sizes = [" x ".join(map(str, size)) for size in (image.shape[:2], labels.shape)]
            raise UserError(
                f"{sample['file_name']} is {sizes[0]}, its labels {label_file} are {sizes[1]}: expected one size"
            )
        return image, labels

    def _fill(self, sample: dict, aug_input: T.AugInput, transforms: T.TransformList) -> None:
        """Puts tensors in the place of what they were made of."""
        sample["image"] = torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        if aug_input.sem_seg is not None:
            sample["sem_seg"] = torch.from_numpy(aug_input.sem_seg.astype(np.int64))
        size = aug_input.image.shape[:2]
        if getattr(self, "proposal_topk", None) is not None:  # Detectron2's stored proposals
            detection_utils.transform_proposals(sample, size, transforms, proposal_topk=self.proposal_topk)
        if self.is_train and "annotations" in sample:
            self._transform_annotations(sample, transforms, size)
        sample.pop("annotations", None)


@DATASET_MAPPER_REGISTRY.register()
def default_mapper(cfg: CfgNode, is_train: bool) -> CheckedDatasetMapper:
    """Detectron2's mapper with the augmentations of its own config keys."""
    return CheckedDatasetMapper(cfg, is_train)


def semantic_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Resize, area-constrained crop, SSD colours, flip: the usual recipe of semantic segmentation."""
    short, longest, style = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    steps: list[T.Augmentation] = [T.ResizeShortestEdge(short, longest, style)]
    crop, ignored = cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if crop.ENABLED:
        steps.append(T.RandomCrop_CategoryAreaConstraint(crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignored))
    if cfg.INPUT.COLOR_AUG_SSD:
        steps.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    if cfg.INPUT.RANDOM_FLIP != "none":
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        steps.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    return steps


@DATASET_MAPPER_REGISTRY.register()
def semantic_mapper(cfg: CfgNode, is_train: bool) -> CheckedDatasetMapper:
    """As ``default_mapper`` for evaluation; training samples go through :func:`semantic_augmentations`."""
    if not is_train:
        return CheckedDatasetMapper(cfg, is_train)
    return CheckedDatasetMapper(cfg, is_train, augmentations=semantic_augmentations(cfg))
