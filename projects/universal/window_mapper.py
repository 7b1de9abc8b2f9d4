"""From an image, its coarse predictions and its ground truth to windows for training, or to an input for inference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop
from pnm.masks.edgeless_masks import edgeless
from pnm.masks.model_errors import SHIFTS, WAYS
from pnm.object_refinement.network import STRIDE
from pnm.object_refinement.prediction import network_input
from pnm.object_refinement.training_windows import made_coarse, training_window

from ..dataset_mappers import DATASET_MAPPER_REGISTRY
from ..refining import RefiningMapper, coarse_predictions
from ..refining.mapper import CoarseOf
from ..refining.truths import Truth, match

_LEAST_AREA = 64  # px of a true mask
ERRORS = {"all": WAYS, "shifts": SHIFTS}


class WindowMapper(RefiningMapper):
    """Training gives "windows" (N, 4, s, s) float32 as the network takes them, "targets" and "counted" (N, s, s) bool,
    s being ``side``. For inference see :class:`..refining.RefiningMapper`.
    """

    def __init__(
        self,
        task: str,
        *,
        is_train: bool,
        coarse: CoarseOf | None,
        side: int = 160,
        windows_per_image: int = 5,
        errors: str = "all",
        least_error: float = 0.006,
        unchanged: float = 0.25,
        edgeless_share: float = 0.0,
        match_iou: float = 0.5,
        image_format: str = "RGB",
        ignore_label: int = 255,
    ):
        """
        Args:
            coarse: see :class:`..refining.RefiningMapper`.
            errors: that true masks are given, "all" or "shifts".
            least_error: as a share of an object's extent.
            unchanged: share of true masks that are not made coarse.
            edgeless_share: of true masks that are changed first, see :mod:`pnm.masks.edgeless_masks`.

        Raises:
            UserError: settings that make no sense, or inference without predictions.
        """
        super().__init__(task, is_train=is_train, coarse=coarse, image_format=image_format, ignore_label=ignore_label)
        if side < 2 * STRIDE or side % STRIDE:
            raise UserError(
                f"MODEL.UNIVERSAL.WINDOW_SIZE is {side}, expected a multiple of {STRIDE} from {2 * STRIDE} on"
            )
        if not 0 <= unchanged <= 1:
            raise UserError(f"MODEL.UNIVERSAL.UNCHANGED is {unchanged}, expected a share from 0 to 1")
        if not 0 <= edgeless_share <= 1:
            raise UserError(f"MODEL.UNIVERSAL.EDGELESS is {edgeless_share}, expected a share from 0 to 1")
        if errors not in ERRORS:
            raise UserError(f"MODEL.UNIVERSAL.ERRORS is {errors!r}, expected one of {', '.join(ERRORS)}")
        if not 0 < least_error <= 0.08:
            raise UserError(f"MODEL.UNIVERSAL.LEAST_ERROR is {least_error}, expected a share above 0, at most 0.08")
        if windows_per_image < 1:
            raise UserError(f"MODEL.UNIVERSAL.WINDOWS_PER_IMAGE is {windows_per_image}, expected at least 1")
        self.side, self.windows_per_image = side, windows_per_image
        self.match_iou, self.edgeless = match_iou, edgeless_share
        self._coarsening = {"ways": ERRORS[errors], "least_share": least_error, "unchanged": unchanged}

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "WindowMapper":
        node = cfg.MODEL.UNIVERSAL
        return cls(
            node.TASK,
            is_train=is_train,
            coarse=coarse_predictions(cfg, is_train),
            side=node.WINDOW_SIZE,
            windows_per_image=node.WINDOWS_PER_IMAGE,
            errors=node.ERRORS,
            least_error=node.LEAST_ERROR,
            unchanged=node.UNCHANGED,
            edgeless_share=node.EDGELESS,
            match_iou=node.MATCH_IOU,
            image_format=cfg.INPUT.FORMAT,
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        )

    def _pairs(
        self, truth: Truth, prediction: Any, image: np.ndarray, rng: np.random.Generator
    ) -> list[tuple[MaskCrop, MaskCrop]]:
        """(coarse, true) masks of the windows of an image, in random order; an object may occur more than once."""
        if self.coarse is not None:
            pairs = [] if prediction is None else match(truth, prediction, self.match_iou)
            pairs = [(coarse, true) for coarse, true in pairs if coarse.pixels.size]
            chosen = rng.permutation(len(pairs) * -(-self.windows_per_image // max(1, len(pairs))))
            return [pairs[n % len(pairs)] for n in chosen[: self.windows_per_image]]
        crops = [crop for crop in truth.crops if np.count_nonzero(crop.pixels) >= _LEAST_AREA]
        if not crops:
            return []
        objects = [self._varied(int(n), crops, image, rng) for n in rng.integers(0, len(crops), self.windows_per_image)]
        return [(made_coarse(image, true, rng, **self._coarsening), true) for true in objects]

    def _varied(self, n: int, crops: list[MaskCrop], image: np.ndarray, rng: np.random.Generator) -> MaskCrop:
        """A true mask, or what a person might have made of it."""
        if rng.random() >= self.edgeless:
            return crops[n]
        height, width = image.shape[:2]
        return edgeless(crops[n], [*crops[:n], *crops[n + 1 :]], (height, width), rng)

    def training_sample(self, entry: Mapping[str, Any], image: np.ndarray, prediction: Any) -> dict | None:
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 - Detectron2 seeds the global generator
        truth = self.truth(entry, *image.shape[:2])
        pairs = self._pairs(truth, prediction, image, rng)
        if not pairs:
            return None
        drawn = [training_window(image, true, coarse, truth.ignored, self.side, rng) for coarse, true in pairs]
        return {
            "windows": torch.from_numpy(np.stack([network_input(window.seen) for window in drawn])),
            "targets": torch.from_numpy(np.stack([window.target for window in drawn])),
            "counted": torch.from_numpy(np.stack([window.counted for window in drawn])),
        }


@DATASET_MAPPER_REGISTRY.register()
def window_mapper(cfg: CfgNode, is_train: bool) -> WindowMapper:
    """Windows for ``UniversalRefiner``, from ``DATASETS.PREDICTIONS_TRAIN`` and ``_TEST`` or degraded ground truth."""
    return WindowMapper.from_config(cfg, is_train)
