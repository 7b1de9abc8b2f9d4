"""A trained refiner as a function of an image and its coarse masks."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_array, paste
from pnm.masks.lost_segments import with_lost_segments
from pnm.object_refinement.accepted_inputs import objects_of_integers
from pnm.predictions import Objects, Partition
from pnm.predictions.certain_changes import segment_confidences
from pnm.predictions.lost_objects import with_lost_objects
from pnm.predictions.refinement_details import Detailed
from pnm.predictions.relisting import with_kept_ids

from .model import RefiningModel

_VOID = {"semantic": (255,), "panoptic": (0,)}  # labels that are no segment


class TrainedRefiner:
    """Refines predictions of any model, one image at a time.

    ::

        refiner = pnm.load_refiner("quickstart/bpr_instance.yaml", "model_final.pth")
        refined = refiner(image, masks)
    """

    def __init__(self, model: RefiningModel, task: str, image_format: str = "RGB"):
        """
        Args:
            model: in evaluation mode.
            task: "instance", "semantic" or "panoptic".
            image_format: "RGB" or "BGR", what the model was trained with.
        """
        self.model, self.task, self.image_format = model, task, image_format

    def __call__(self, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """
        Args:
            image: (H, W, 3) uint8, RGB.
            masks: task "instance": (N, H, W) or (H, W), pixels other than 0 are foreground, and of integers with soft
                edges those from the middle of the range on; "semantic" and "panoptic": (H, W) integers, where 255 and
                0, respectively, are no segment.

        Returns:
            Refined masks: bool of the same shape, or labels of the same shape and type.

        Raises:
            UserError: something else, or sizes that differ.
        """
        masks = np.asarray(masks)
        if self.model.relists_segments:
            raise UserError("this refiner changes classes and takes a pnm.Partition, which has them: call refine")
        if self.task != "instance":
            segments = [k for k in np.unique(masks).tolist() if k not in _VOID[self.task]]
            return with_lost_segments(masks, self._partition(image, masks, segments), segments)[0]
        if masks.ndim not in (2, 3):
            raise UserError(f"masks are {masks.shape}, expected (N, H, W) or (H, W)")
        stack = masks if masks.ndim == 3 else masks[None]
        tensor = self.image_tensor(image, stack.shape[1:])
        if stack.dtype.kind in "iu":
            stack = objects_of_integers(stack, "give a mask for each object, like labels == 1")
        crops = tuple(crop_array(mask) for mask in stack)
        height, width = stack.shape[1:]
        objects = Objects((height, width), crops, (1.0,) * len(crops), (0,) * len(crops))
        refined = with_lost_objects(objects, Detailed(self.model.refine_objects(tensor, crops), {})).refined
        result = np.zeros(stack.shape, np.bool_)
        for mask, crop in zip(result, refined, strict=True):
            mask[:] = paste(crop, height, width)
        return result if masks.ndim == 3 else result[0]

    def refine(self, image: np.ndarray, prediction: Objects | Partition) -> list[MaskCrop] | np.ndarray | Partition:
        """A prediction read from a file, refined as its writer takes it: crops of Objects, labels of a Partition; or a
        Partition, of a model that may change the list of segments. Categories are those of the file. No object
        vanishes, see :mod:`pnm.predictions.lost_objects`.

        Raises:
            UserError: sizes that differ, or a category that such a model doesn't know.
        """
        return with_lost_objects(prediction, Detailed(self._refined(image, prediction), {})).refined

    def _refined(self, image: np.ndarray, prediction: Objects | Partition) -> list[MaskCrop] | np.ndarray | Partition:
        """As :meth:`refine`, but that objects may vanish."""
        if not isinstance(prediction, (Objects, Partition)):
            kind = type(prediction).__name__
            raise UserError(
                f"the prediction is {kind}, expected pnm.Partition, or Objects of open_predictions(...).read"
            )
        if isinstance(prediction, Partition) and self.model.relists_segments:
            return self._relisted(image, prediction)
        if isinstance(prediction, Partition):
            return self._partition(image, prediction.labels, list(prediction.segments))
        if not len(prediction):  # whose size may be unknown
            return []
        return self.model.refine_objects(self.image_tensor(image, prediction.size), prediction.masks)

    def refine_detailed(self, image: np.ndarray, prediction: Objects | Partition) -> Detailed:
        """As :meth:`refine`, with confidences where the model says them, and 0 of an object that would vanish."""
        return with_lost_objects(prediction, self._refined_detailed(image, prediction))

    def _refined_detailed(self, image: np.ndarray, prediction: Objects | Partition) -> Detailed:
        """As :meth:`refine_detailed`, but that objects may vanish."""
        if isinstance(prediction, Objects) and len(prediction):
            sure = self.model.object_confidences(self.image_tensor(image, prediction.size), prediction.masks)
            if sure is not None:
                return Detailed([one.crop for one in sure], {n: one.confidence for n, one in enumerate(sure)})
        if isinstance(prediction, Partition):
            return self._detailed_partition(image, prediction)
        return Detailed(self._refined(image, prediction), {})

    def _detailed_partition(self, image: np.ndarray, prediction: Partition) -> Detailed:
        """With confidences, see :mod:`pnm.predictions.certain_changes`."""
        tensor = self.image_tensor(image, prediction.size)
        if self.model.relists_segments:
            anew = self.model.relisted_certainties(tensor, self.as_in_data(prediction))
        else:
            anew = self.model.partition_certainties(tensor, prediction.labels, list(prediction.segments))
        if anew is None:
            return Detailed(self._refined(image, prediction), {})
        refined = anew.refined
        if isinstance(refined, Partition):
            refined = self._as_in_files(prediction, refined)
            labels, segments = refined.labels, refined.segments
        else:
            labels, segments = refined, prediction.segments
        return Detailed(refined, segment_confidences(prediction.labels, labels, anew.probs, segments))

    def check_categories(self, category_ids: Iterable[int]) -> None:
        """A UserError if a model that relists segments doesn't know one of the category ids of a file."""
        known = self.model.category_of_id
        strange = sorted(set(category_ids) - set(known))
        if strange:
            raise UserError(
                f"the prediction has categories {strange[:5]}, the model knows {sorted(known)[:10]}: it must have been "
                "trained on data with the same category ids"
            )

    def as_in_data(self, prediction: Partition) -> Partition:
        """A prediction read from a file with categories as in dataset dicts, for a model that relists segments.

        Raises:
            UserError: a category that the model doesn't know.
        """
        category_of = self.model.category_of_id
        self.check_categories(prediction.categories)
        return replace(prediction, categories=tuple(category_of[category] for category in prediction.categories))

    def _relisted(self, image: np.ndarray, prediction: Partition) -> Partition:
        tensor = self.image_tensor(image, prediction.size)
        return self._as_in_files(prediction, self.model.refine_segments(tensor, self.as_in_data(prediction)))

    def _as_in_files(self, prediction: Partition, anew: Partition) -> Partition:
        """What a model made of a prediction, in the prediction's ids and the categories of files."""
        id_of = {category: id_ for id_, category in self.model.category_of_id.items()}
        return with_kept_ids(prediction, replace(anew, categories=tuple(id_of[k] for k in anew.categories)))

    def _partition(self, image: np.ndarray, labels: np.ndarray, segments: list[int]) -> np.ndarray:
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise UserError(f"labels are {labels.shape} {labels.dtype}, expected (H, W) integers")
        return self.model.refine_partition(self.image_tensor(image, labels.shape), labels, segments)

    def image_tensor(self, image: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
        """(3, H, W) uint8, channels as the model takes them, of an (H, W, 3) uint8 RGB image.

        Raises:
            UserError: something else, or another size than (height, width) of its masks.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            kind = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(f"the image is {kind}, expected (H, W, 3) uint8, RGB")
        if not image.size:
            raise UserError(f"the image is {image.shape[0]} x {image.shape[1]}, expected at least one pixel")
        if image.shape[:2] != tuple(size):
            raise UserError(
                f"the image is {image.shape[0]} x {image.shape[1]}, its masks {size[0]} x {size[1]}: masks must be of "
                "the image's own size"
            )
        channels = image if self.image_format == "RGB" else image[:, :, ::-1]
        return torch.from_numpy(channels.transpose(2, 0, 1).copy())
