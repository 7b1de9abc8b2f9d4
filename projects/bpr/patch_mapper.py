"""From an image, its coarse predictions and its ground truth to patches for training, or to an input for inference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from pnm.masks.crops import MaskCrop

from ..dataset_mappers import DATASET_MAPPER_REGISTRY, ColorAugSSDTransform
from ..refining import RefiningMapper, coarse_predictions
from ..refining.mapper import IGNORED, CoarseOf
from .config import PatchSettings
from .patches import cut_image, cut_mask, patches_of

FLIPS = {"none": None, "horizontal": -1, "vertical": -2}  # the axis that is turned


class BoundaryPatchMapper(RefiningMapper):
    """Training gives "patches" (N, 3, s, s) uint8 of the image, "inside_patches" (N, s, s) bool, where they lie in it,
    "mask_patches" (N, s, s) bool of the coarse masks and "target_patches" (N, s, s) uint8 of the true ones, 255 = not
    counted; s is the patch with its padding. For inference see :class:`..refining.RefiningMapper`.
    """

    def __init__(
        self,
        settings: PatchSettings,
        *,
        is_train: bool,
        coarse: CoarseOf | None,
        image_format: str = "RGB",
        patches_per_image: int = 16,
        match_iou: float = 0.5,
        ignore_label: int = 255,
        flip: str = "horizontal",
        colors: T.Augmentation | None = None,
    ):
        """
        Args:
            coarse: see :class:`..refining.RefiningMapper`.
            flip: "horizontal", "vertical" or "none": how half of the patches are turned over.
            colors: photometric augmentation of each patch.

        Raises:
            UserError: inference without predictions.
        """
        super().__init__(
            settings.task, is_train=is_train, coarse=coarse, image_format=image_format, ignore_label=ignore_label
        )
        self.settings, self.patches_per_image, self.match_iou = settings, patches_per_image, match_iou
        self.flip_axis, self.colors = FLIPS[flip], colors

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "BoundaryPatchMapper":
        colors = ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT) if is_train and cfg.INPUT.COLOR_AUG_SSD else None
        return cls(
            PatchSettings.from_config(cfg, is_train),
            is_train=is_train,
            coarse=coarse_predictions(cfg, is_train),
            image_format=cfg.INPUT.FORMAT,
            patches_per_image=cfg.MODEL.BPR.PATCHES_PER_IMAGE,
            match_iou=cfg.MODEL.BPR.MATCH_IOU,
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            flip=cfg.INPUT.RANDOM_FLIP,
            colors=colors,
        )

    def training_sample(self, entry: Mapping[str, Any], image: np.ndarray, prediction: Any) -> dict | None:
        height, width = image.shape[:2]
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 - Detectron2 seeds the global generator
        truth = self.truth(entry, height, width)
        pairs = self.pairs(truth, (height, width), prediction, self.match_iou, rng)
        of_pairs = [patches_of(coarse, height, width, self.settings) for coarse, _ in pairs]
        places = [(k, n) for k, patches in enumerate(of_pairs) for n in range(len(patches.corners))]
        chosen = [places[place] for place in rng.permutation(len(places))[: self.patches_per_image]]
        if not chosen:
            return None
        colours = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        samples = []
        for k, n in chosen:
            corner, mask = of_pairs[k].corners[n : n + 1], of_pairs[k].masks[n]
            samples.append(self._augmented(colours, corner, mask, pairs[k][1], truth.ignored, rng))
        patches, inside, masks, targets = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
        return {
            "patches": patches,
            "inside_patches": inside,
            "mask_patches": masks,
            "target_patches": targets,
        }

    def _augmented(
        self,
        image: torch.Tensor,
        corner: np.ndarray,
        mask: np.ndarray,
        true_mask: MaskCrop,
        ignored: MaskCrop,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, ...]:
        """One patch, augmented: colours (3, s, s), inside, coarse mask and target (s, s)."""
        patch, inside = (part[0].numpy() for part in cut_image(image, corner, self.settings))
        true, hidden = (cut_mask(crop, corner, self.settings)[0] for crop in (true_mask, ignored))
        if self.colors is not None:
            channels_last = np.ascontiguousarray(patch.transpose(1, 2, 0))
            patch = self.colors.get_transform(channels_last).apply_image(channels_last).transpose(2, 0, 1)
        target = np.where(hidden | ~inside, IGNORED, true).astype(np.uint8)
        parts: tuple[np.ndarray, ...] = (patch, inside, mask, target)
        if self.flip_axis is not None and rng.random() < 0.5:
            parts = tuple(np.flip(part, self.flip_axis) for part in parts)
        return tuple(np.ascontiguousarray(part) for part in parts)


@DATASET_MAPPER_REGISTRY.register()
def boundary_patch_mapper(cfg: CfgNode, is_train: bool) -> BoundaryPatchMapper:
    """Patches for ``BoundaryPatchRefiner``, from ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST``."""
    return BoundaryPatchMapper.from_config(cfg, is_train)
