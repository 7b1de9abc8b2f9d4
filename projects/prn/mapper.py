"""From an image, a panoptic map of a base model and the ground truth to what PRN takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T

from pnm.errors import UserError
from pnm.formats.label_png import read_panoptic_png
from pnm.panoptic_grouping.degraded_maps import degraded_map
from pnm.panoptic_grouping.encoding import instance_fields
from pnm.panoptic_grouping.panoptic_map import PanopticMap, numbered
from pnm.predictions import Partition

from ..dataset_mappers import DATASET_MAPPER_REGISTRY
from ..dataset_mappers.panoptic_classes import PanopticClasses, shared_classes
from ..dataset_mappers.panoptic_mapper import moved_ids
from ..refining import RefiningMapper, coarse_predictions
from ..refining.mapper import IGNORED, CoarseOf, check_label_size


def panoptic_map(ids: np.ndarray, segments: tuple[int, ...], classes: tuple[int, ...]) -> PanopticMap:
    """Segments of a map of ids, numbered in their order."""
    return PanopticMap(numbered(ids, segments), classes)


def class_labels(segments: PanopticMap) -> np.ndarray:
    """(H, W) uint8: class of each pixel, 255 where it is void."""
    return np.array([IGNORED, *segments.classes], np.uint8)[segments.labels]


def instance_numbers(segments: PanopticMap, things: int) -> tuple[np.ndarray, int]:
    """(H, W) int32, the instances numbered from 1 on, 0 elsewhere; and their number."""
    is_thing = np.array([False, *(k < things for k in segments.classes)])
    number_of = np.where(is_thing, np.cumsum(is_thing), 0).astype(np.int32)
    return number_of[segments.labels], int(is_thing.sum())


def encoded(segments: PanopticMap, things: int, sigma_px: float) -> np.ndarray:
    """(7, H, W) float32 heat, offsets and boxes of the instances of a map."""
    return instance_fields(*instance_numbers(segments, things), sigma_px).stacked()


class PanopticMapMapper(RefiningMapper):
    """Training gives, of the map that is refined, "coarse" (7, h, w) float32 (see
    :func:`pnm.panoptic_grouping.encoding.instance_fields`) and "coarse_classes" (h, w) uint8, 255 being void; and of
    the ground truth "target", "sem_seg" (h, w) int64, "foreground" (h, w) uint8, 1 on instances, 255 ignored (void and
    crowds), and "small" (h, w) bool, pixels of small instances. All are encoded after the augmentations. For inference
    see :class:`..refining.RefiningMapper`.
    """

    def __init__(
        self,
        *,
        is_train: bool,
        coarse: CoarseOf | None,
        classes: PanopticClasses | None = None,
        augmentations: list[T.Augmentation] | None = None,
        image_format: str = "RGB",
        sigma_px: float = 8.0,
        degraded_share: float = 0.0,
        degraded_strength: float = 1.0,
        small_area_px: int = 4096,
    ):
        """
        Args:
            coarse: see :class:`..refining.RefiningMapper`.
            classes: for training.
            augmentations: of images and maps in training.
            sigma_px: of the Gaussians at centres.
            degraded_share: probability that the map to refine is degraded ground truth although there are predictions.
            degraded_strength: see :func:`pnm.panoptic_grouping.degraded_maps.degraded_map`.
            small_area_px: instances below it are small.
        """
        super().__init__("panoptic", is_train=is_train, coarse=coarse, image_format=image_format)
        self.classes, self.augmentations = classes, T.AugmentationList(augmentations or [])
        self.sigma_px, self.small_area_px = sigma_px, small_area_px
        self.degraded_share, self.degraded_strength = degraded_share, degraded_strength

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "PanopticMapMapper":
        node = cfg.MODEL.PRN
        if not is_train:
            return cls(is_train=False, coarse=coarse_predictions(cfg, False), image_format=cfg.INPUT.FORMAT)
        return cls(
            is_train=True,
            coarse=coarse_predictions(cfg, True),
            classes=shared_classes({name: MetadataCatalog.get(name) for name in cfg.DATASETS.TRAIN}),
            augmentations=augmentations(cfg),
            image_format=cfg.INPUT.FORMAT,
            sigma_px=node.SIGMA,
            degraded_share=node.DEGRADED_SHARE,
            degraded_strength=node.DEGRADED_STRENGTH,
            small_area_px=node.SMALL_INSTANCE_AREA,
        )

    def training_sample(self, entry: Mapping[str, Any], image: np.ndarray, prediction: Partition | None) -> dict:
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 - Detectron2 seeds the global generator
        assert self.classes is not None
        name, things = entry["file_name"], len(self.classes.things)
        ids, truth_rows = self._true_ids(entry, *image.shape[:2])
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        truth, is_crowd = self._truth(moved_ids(ids, transforms), truth_rows, name)
        if prediction is None or rng.random() < self.degraded_share:
            without_crowds = _without(truth, is_crowd)
            coarse = degraded_map(without_crowds, things, len(self.classes.stuff), rng, strength=self.degraded_strength)
        else:
            indices = self.classes.indices(prediction.categories, name)
            coarse = panoptic_map(moved_ids(prediction.labels, transforms), prediction.segments, indices)
        numbers, count = instance_numbers(truth, things)
        crowd = np.array([False, *is_crowd])[truth.labels]
        numbers[crowd] = 0
        areas = np.bincount(numbers.ravel(), minlength=count + 1)
        parts = {
            "image": aug_input.image.transpose(2, 0, 1),
            "coarse": encoded(coarse, things, self.sigma_px),
            "coarse_classes": class_labels(coarse),
            "target": instance_fields(numbers, count, self.sigma_px).stacked(),
            "sem_seg": class_labels(truth).astype(np.int64),
            "foreground": np.where(crowd | (truth.labels == 0), IGNORED, numbers > 0).astype(np.uint8),
            "small": (numbers > 0) & (areas < self.small_area_px)[numbers],
        }
        return {key: torch.from_numpy(np.ascontiguousarray(part)) for key, part in parts.items()}

    def _true_ids(self, entry: Mapping[str, Any], height: int, width: int) -> tuple[np.ndarray, list[dict]]:
        if not {"pan_seg_file_name", "segments_info"} <= entry.keys():
            raise UserError(f"{entry['file_name']}: its data set has no COCO panoptic annotations, which PRN takes")
        ids = read_panoptic_png(entry["pan_seg_file_name"])
        check_label_size(ids, entry, height, width)
        return ids, entry["segments_info"]

    def _truth(self, ids: np.ndarray, rows: list[dict], name: str) -> tuple[PanopticMap, tuple[bool, ...]]:
        """The true segments, crowds included, and which of them are crowds."""
        assert self.classes is not None
        indices = self.classes.indices_of_segments(rows, name)
        crowds = tuple(bool(row.get("iscrowd", 0)) for row in rows)
        return panoptic_map(ids, tuple(row["id"] for row in rows), indices), crowds


def _without(segments: PanopticMap, is_left_out: tuple[bool, ...]) -> PanopticMap:
    """A map in which some segments are void."""
    kept = ~np.array([True, *is_left_out], np.bool_)
    number_of = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return PanopticMap(
        number_of[segments.labels], tuple(k for k, left_out in zip(segments.classes, is_left_out) if not left_out)
    )


def augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Crop, resize and flip."""
    steps: list[T.Augmentation] = []
    if cfg.INPUT.CROP.ENABLED:
        steps.append(T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    steps.append(
        T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    )
    if cfg.INPUT.RANDOM_FLIP != "none":
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        steps.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    return steps


@DATASET_MAPPER_REGISTRY.register()
def panoptic_map_mapper(cfg: CfgNode, is_train: bool) -> PanopticMapMapper:
    """Samples for ``PanopticRefiner``, from ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``."""
    return PanopticMapMapper.from_config(cfg, is_train)
