"""From a data set entry to a model's input."""

import copy
import logging

import numpy as np
import torch
from detectron2.config import configurable

from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Reads the image (and label image), augments both with their annotations, makes tensors.

    Calling it with an entry returns a new dict with
      * "image": (3, H, W) uint8 tensor in ``image_format``,
      * "sem_seg": (H, W) int64 tensor, if the entry has "sem_seg_file_name",
      * "instances": what :func:`detection_utils.annotations_to_instances` gives, in training,
    and the entry's other keys. Crowd annotations and instances that were cropped away are left out.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list,
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ):
        """
        Args:
            augmentations: Augmentations or Transforms, applied in turn.
            use_instance_mask: keep masks, as ``instance_mask_format`` "polygon" or "bitmask".
            recompute_boxes: after cropping, boxes are the tight boxes of the masks.
        """
        if recompute_boxes and not use_instance_mask:
            raise ValueError("recompute_boxes takes boxes from masks: it needs use_instance_mask=True")
        if use_keypoint or precomputed_proposal_topk is not None:
            raise ImportError("key points and stored proposals are outside the embedded engine: install Detectron2")
        self.is_train, self.image_format = is_train, image_format
        self.augmentations = T.AugmentationList(augmentations)
        self.use_instance_mask, self.instance_mask_format = use_instance_mask, instance_mask_format
        self.recompute_boxes = recompute_boxes
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info("Augmentations in %s: %s", mode, augmentations)

    @classmethod
    def from_config(cls, cfg, is_train: bool = True) -> dict:
        augmentations = utils.build_augmentation(cfg, is_train)
        crops = is_train and cfg.INPUT.CROP.ENABLED
        if crops:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.get("KEYPOINT_ON", False),
            "recompute_boxes": crops and cfg.MODEL.MASK_ON,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        entry = copy.deepcopy(dataset_dict)
        image = utils.read_image(entry["file_name"], format=self.image_format)
        utils.check_image_size(entry, image)
        label_file = entry.pop("sem_seg_file_name", None)
        labels = None if label_file is None else utils.read_image(label_file, "L")[:, :, 0]

        aug_input = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(aug_input)
        entry["image"] = torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        if aug_input.sem_seg is not None:
            entry["sem_seg"] = torch.from_numpy(aug_input.sem_seg.astype(np.int64))
        if self.is_train and "annotations" in entry:
            self._transform_annotations(entry, transforms, aug_input.image.shape[:2])
        entry.pop("annotations", None)
        return entry

    def _transform_annotations(self, dataset_dict: dict, transforms, image_shape) -> None:
        """Writes "instances" from "annotations"; ``image_shape`` is (h, w) after the transforms."""
        unused = {"keypoints"} if self.use_instance_mask else {"keypoints", "segmentation"}
        moved = [
            utils.transform_instance_annotations(
                {key: value for key, value in obj.items() if key not in unused}, transforms, image_shape
            )
            for obj in dataset_dict["annotations"]
            if not obj.get("iscrowd", 0)
        ]
        instances = utils.annotations_to_instances(moved, image_shape, mask_format=self.instance_mask_format)
        if self.recompute_boxes and instances.has("gt_masks"):
            # A cropped box is not the box of the cropped mask.
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)
