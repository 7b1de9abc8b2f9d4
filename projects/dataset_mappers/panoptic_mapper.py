"""Samples of panoptic networks, straight from panoptic PNGs and their lists of segments."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances

from pnm.errors import UserError, listed
from pnm.formats.coco_panoptic import ids_to_rgb, rgb_to_ids
from pnm.formats.label_png import read_panoptic_png
from pnm.masks.crops import segment_extents
from pnm.panoptic_grouping.panoptic_map import numbered

from .detection_mapper import CheckedDatasetMapper, MappedSample
from .panoptic_classes import PanopticClasses, shared_classes
from .reading import errors_that_name, read_image
from .registry import DATASET_MAPPER_REGISTRY

THINGS = 0  # label of every thing in "sem_seg"


def moved_ids(ids: np.ndarray, transforms: T.TransformList | T.Transform) -> np.ndarray:
    """Segment ids (H, W) after geometric transforms, each pixel's from the nearest.

    As the three 8-bit channels of a panoptic PNG they take the way of label images, pixel centres on pixel centres;
    Detectron2 resizes integers otherwise.
    """
    return rgb_to_ids(np.ascontiguousarray(transforms.apply_segmentation(ids_to_rgb(ids))))


def segment_numbers(entry: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """(H, W) int32 of a dataset dict's panoptic PNG: its segments from 1 on in the order of "segments_info", 0 is void.

    Args:
        height, width: of the image.

    Raises:
        UserError: the PNG is missing, damaged or of another size, or has segments that aren't listed.
    """
    if not {"pan_seg_file_name", "segments_info"} <= entry.keys():
        raise UserError(
            f"{entry['file_name']}: its data set has no panoptic PNGs; panoptic_mapper takes data sets of COCO "
            "panoptic annotations, such as those of type panoptic in DATASETS.REGISTER"
        )
    file, rows = entry["pan_seg_file_name"], entry["segments_info"]
    ids = read_panoptic_png(file)
    if ids.shape != (height, width):
        sizes = f"{height} x {width}, its panoptic PNG {file} is {ids.shape[0]} x {ids.shape[1]}"
        raise UserError(f"{entry['file_name']} is {sizes}: expected one size")
    numbers = numbered(ids, [row["id"] for row in rows])
    unlisted = ids[(numbers == 0) & (ids != 0)]
    if unlisted.size:
        raise UserError(
            f"{file} has segment ids {listed(np.unique(unlisted).tolist())}, which its segments_info doesn't list: add "
            "them to the JSON, or make the PNG anew"
        )
    return numbers


class PanopticMapper(CheckedDatasetMapper):
    """In training, "image" and, of the panoptic PNG alone, "instances" and "sem_seg" as Panoptic FPN takes them.

    "instances" has ``gt_classes`` (0 to T - 1), ``gt_masks`` (BitMasks) and their tight ``gt_boxes``, crowds left out;
    "sem_seg", (H, W) int64, is 0 on things, 1 to S on stuff, and ignored on void and on crowds. Classes are numbered by
    :class:`.panoptic_classes.PanopticClasses`. All come from one map of segments, moved through the augmentations by
    nearest neighbours, so that every pixel has one owner; what is gone then is left out. Inference gives the image.

    Args:
        classes: of the training data; None for inference.
    """

    @configurable
    def __init__(self, is_train: bool, *, classes: PanopticClasses | None = None, **options):
        super().__init__(is_train, **options)
        self.classes = classes

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        options = super().from_config(cfg, is_train)
        if is_train:
            options["classes"] = shared_classes({name: MetadataCatalog.get(name) for name in cfg.DATASETS.TRAIN})
        return options

    def map_with_transforms(self, dataset_dict: dict) -> MappedSample:
        """A sample, and what it was made of.

        Raises:
            UserError: see :func:`segment_numbers`; an image that cannot be read, a category that is no class.
        """
        unused = ("sem_seg_file_name", "annotations")
        entry = {key: value for key, value in dataset_dict.items() if key not in unused}
        if not self.is_train:
            return super().map_with_transforms(entry)
        with errors_that_name([str(entry[key]) for key in ("file_name", "pan_seg_file_name") if key in entry]):
            sample = copy.deepcopy(entry)
            image = read_image(sample["file_name"], self.image_format)
            detection_utils.check_image_size(sample, image)
            numbers = segment_numbers(sample, *image.shape[:2])
            aug_input = T.AugInput(image)
            transforms = self.augmentations(aug_input)
            self._fill(sample, aug_input, transforms)
            labels = self._labels_of(sample["segments_info"], sample["file_name"])
            moved = moved_ids(numbers, transforms)
            sample["sem_seg"] = torch.from_numpy(labels[moved])
            sample["instances"] = self._instances(moved, sample["segments_info"], sample["file_name"])
        return MappedSample(sample, transforms, labels[numbers], numbers)

    def _labels_of(self, rows: list[dict], name: str) -> np.ndarray:
        """(S + 1,) int64, the label in "sem_seg" of each segment number.

        Of two segments, a thing of class 2 and the second kind of stuff, and void::

            numbers  [[1, 1, 2, 0]]   labels  [ignored, 0, 2]   sem_seg  [[0, 0, 2, ignored]]
        """
        assert self.classes is not None
        indices, things = self.classes.indices_of_segments(rows, name), len(self.classes.things)
        labels = np.full(len(rows) + 1, self.labels[1], np.int64)
        for number, (index, row) in enumerate(zip(indices, rows, strict=True), 1):
            if not row.get("iscrowd", 0):
                labels[number] = THINGS if index < things else index - things + 1
        return labels

    def _instances(self, numbers: np.ndarray, rows: list[dict], name: str) -> Instances:
        """The things of a map of segment numbers, but for crowds."""
        assert self.classes is not None
        indices, things = self.classes.indices_of_segments(rows, name), len(self.classes.things)
        counted = [not row.get("iscrowd", 0) for row in rows]
        objects = [n for n, (k, counts) in enumerate(zip(indices, counted, strict=True), 1) if counts and k < things]
        areas, boxes = segment_extents(numbers, objects)
        seen = np.flatnonzero(areas)
        masks = np.zeros((len(seen), *numbers.shape), np.bool_)
        for mask, k in zip(masks, seen.tolist(), strict=True):
            top, left, bottom, right = boxes[k]
            mask[top:bottom, left:right] = numbers[top:bottom, left:right] == objects[k]
        instances = Instances(numbers.shape)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes[seen][:, [1, 0, 3, 2]].astype(np.float32)))
        instances.gt_classes = torch.tensor([indices[objects[k] - 1] for k in seen.tolist()], dtype=torch.int64)
        instances.gt_masks = BitMasks(torch.from_numpy(masks))
        return instances


@DATASET_MAPPER_REGISTRY.register()
def panoptic_mapper(cfg: CfgNode, is_train: bool) -> PanopticMapper:
    """Panoptic PNGs and their JSON, with the augmentations of Detectron2's own config keys."""
    return PanopticMapper(cfg, is_train)
