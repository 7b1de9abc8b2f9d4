"""From an image, its coarse predictions and its ground truth to patches for training, or to an input for inference."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Instances

from pnm.boundary_patches.extraction import cut_patches, find_patches
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, paste
from pnm.predictions import Objects, Partition

from ..refining.truths import (
    Truth,
    check_size,
    coarse_masks,
    degraded,
    instance_truth,
    match,
    panoptic_truth,
    segment_info,
    semantic_truth,
)
from .config import PatchSettings
from .refiner import IGNORED, has_background

CoarseOf = Callable[[Mapping[str, Any]], Objects | Partition | None]


class BoundaryPatchMapper:
    """A Detectron2 dataset mapper. Each image is read once, whatever the number of its masks.

    Training gives "patches" (N, 3, s, s) uint8 of the image, "inside_patches" (N, s, s) bool, where they lie in it,
    "mask_patches" (N, s, s) bool of the coarse masks and "target_patches" (N, s, s) uint8 of the true ones, 255 = not
    counted; s is the patch with its padding. None where an image has nothing to learn from. Inference gives "image" and
    "instances", "sem_seg" or "panoptic_seg", see :class:`.refiner.BoundaryPatchRefiner`.
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
        flip: bool = True,
        colors: T.Augmentation | None = None,
    ):
        """
        Args:
            coarse: the prediction of a dataset dict, if any, categories as in the dict (panoptic stuff as ~id); None:
                training starts from degraded ground truth.
            colors: photometric augmentation of each patch.

        Raises:
            UserError: inference without predictions.
        """
        if coarse is None and not is_train:
            raise UserError("nothing to refine: name the result files of DATASETS.TEST in DATASETS.PREDICTIONS_TEST")
        self.settings, self.is_train, self.coarse = settings, is_train, coarse
        self.image_format, self.patches_per_image, self.match_iou = image_format, patches_per_image, match_iou
        self.ignore_label, self.flip, self.colors = ignore_label, flip, colors

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, coarse: CoarseOf | None, colors: T.Augmentation | None
    ) -> "BoundaryPatchMapper":
        node = cfg.MODEL.BPR
        return cls(
            PatchSettings.from_config(cfg, is_train),
            is_train=is_train,
            coarse=coarse,
            image_format=cfg.INPUT.FORMAT,
            patches_per_image=node.PATCHES_PER_IMAGE,
            match_iou=node.MATCH_IOU,
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            flip=cfg.INPUT.RANDOM_FLIP != "none",
            colors=colors,
        )

    def __call__(self, dataset_dict: Mapping[str, Any]) -> dict | None:
        name = dataset_dict["file_name"]
        try:
            image = detection_utils.read_image(name, format=self.image_format)
        except (OSError, SyntaxError, ValueError) as error:
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"cannot read {name}: {cause}; restore the file or remove it from the data set") from error
        height, width = image.shape[:2]
        prediction = self.coarse(dataset_dict) if self.coarse else None
        if prediction is not None:
            check_size(prediction, height, width, name)
        if self.is_train:
            return self._training(dataset_dict, image, prediction)
        if prediction is None:
            prediction = _nothing(self.settings, height, width)
        kept = {key: dataset_dict[key] for key in ("file_name", "image_id") if key in dataset_dict}
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        coarse = _model_input(prediction, self.settings.task, name)
        return {**kept, "height": height, "width": width, "image": tensor, **coarse}

    def _truth(self, entry: Mapping[str, Any], height: int, width: int) -> Truth:
        if self.settings.task == "instance":
            return instance_truth(entry, height, width)
        if self.settings.task == "semantic":
            _require(entry, "sem_seg_file_name", "label PNGs")
            truth = semantic_truth(entry["sem_seg_file_name"], self.ignore_label)
        else:
            _require(entry, "pan_seg_file_name", "COCO panoptic annotations")
            truth = panoptic_truth(entry["pan_seg_file_name"], entry["segments_info"])
        if truth.labels is None or truth.labels.shape != (height, width):
            raise UserError(f"{entry['file_name']} is {height} x {width}, but its labels have another size")
        return truth

    def _training(self, entry: Mapping[str, Any], image: np.ndarray, prediction) -> dict | None:
        height, width = image.shape[:2]
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 - Detectron2 seeds the global generator
        truth = self._truth(entry, height, width)
        if self.coarse is None:
            pairs = degraded(truth, height, width, rng)
        elif prediction is None:
            return None
        else:
            pairs = match(truth, prediction, self.match_iou, entry["file_name"])
        chosen = self._choose(pairs, height, width, rng)
        if not chosen:
            return None
        found = [self._cut(image, pairs[k], truth.ignored, corner, rng) for k, corner in chosen]
        patches, inside, masks, targets = (torch.from_numpy(np.stack(part)) for part in zip(*found))
        return {
            "file_name": entry["file_name"],
            "patches": patches,
            "inside_patches": inside,
            "mask_patches": masks,
            "target_patches": targets,
        }

    def _choose(
        self, pairs: Sequence[tuple[MaskCrop, MaskCrop]], height: int, width: int, rng: np.random.Generator
    ) -> list[tuple[int, np.ndarray]]:
        """At most ``patches_per_image`` of all patches: number of the pair and corner (1, 2)."""
        size = self.settings.size
        full = min(size, height) * min(size, width)
        places: list[tuple[int, np.ndarray]] = []
        for k, (coarse, _) in enumerate(pairs):
            corners = find_patches(coarse, height, width, size, self.settings.threshold)
            if self.settings.is_partition:
                corners = corners[has_background(cut_patches(coarse, corners, size), 0, full)]
            places += [(k, corner[None]) for corner in corners]
        some = rng.permutation(len(places))[: self.patches_per_image]
        return [places[k] for k in some]

    def _cut(
        self,
        image: np.ndarray,
        pair: tuple[MaskCrop, MaskCrop],
        ignored: MaskCrop,
        corner: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One patch, augmented: colours (3, s, s), inside, coarse mask and target (s, s)."""
        settings = self.settings
        mask, true, hidden = (cut_patches(c, corner, settings.size, settings.padding)[0] for c in (*pair, ignored))
        rows, columns = (start + np.arange(settings.side) - settings.padding for start in corner[0])
        height, width = image.shape[:2]
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        patch = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        if self.colors is not None:
            patch = self.colors.get_transform(patch).apply_image(patch)
        target = np.where(hidden | ~inside, IGNORED, true).astype(np.uint8)
        found = (patch.transpose(2, 0, 1), inside, mask, target)
        if self.flip and rng.random() < 0.5:
            found = tuple(part[..., ::-1] for part in found)
        return tuple(np.ascontiguousarray(part) for part in found)


def _require(entry: Mapping[str, Any], key: str, what: str) -> None:
    if key not in entry:
        raise UserError(
            f"{entry['file_name']}: its data set has no {what}; MODEL.BPR.TASK asks for a data set that has"
        )


def _nothing(settings: PatchSettings, height: int, width: int) -> Objects | Partition:
    """What an image without predictions has."""
    if not settings.is_partition:
        return Objects((height, width), (), (), ())
    void = IGNORED if settings.task == "semantic" else 0
    return Partition(np.full((height, width), void, np.int32), (), ())


def _model_input(prediction: Objects | Partition, task: str, name: str) -> dict:
    """A prediction as the refiner takes it."""
    if isinstance(prediction, Partition):
        if task == "semantic":
            return {"sem_seg": _classes(prediction)}
        pairs = zip(prediction.segments, prediction.categories, strict=True)
        return {"panoptic_seg": (prediction.labels, [segment_info(id_, category) for id_, category in pairs])}
    masks = np.zeros((len(prediction), *prediction.size), np.bool_)
    for mask, crop in zip(masks, coarse_masks(prediction, name)[0], strict=True):
        mask[:] = paste(crop, *prediction.size)
    coarse = Instances(prediction.size, scores=torch.tensor(prediction.scores))
    coarse.pred_classes = torch.tensor(prediction.categories, dtype=torch.int64)
    coarse.pred_masks = torch.from_numpy(masks)
    return {"instances": coarse}


def _classes(prediction: Partition) -> np.ndarray:
    """Label map (H, W) of categories; labels that are no segment keep their value, as 255 in label PNGs."""
    if prediction.segments == prediction.categories:
        return prediction.labels
    found = np.full(prediction.labels.shape, IGNORED, np.uint16)
    for crop, category in zip(*coarse_masks(prediction, ""), strict=True):
        h, w = crop.pixels.shape
        found[crop.top : crop.top + h, crop.left : crop.left + w][crop.pixels] = category
    return found
