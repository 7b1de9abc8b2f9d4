"""The universal refiner as a function of an image and its masks, without configuration or training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_array, paste
from pnm.masks.lost_segments import with_lost_segments
from pnm.network_backends.choice import check_backend
from pnm.object_refinement.accepted_inputs import check_size, label_map, mask_stack, rgb_image
from pnm.object_refinement.belief import Belief
from pnm.object_refinement.decision import DEFAULT_STRENGTH, decision_of
from pnm.object_refinement.partitions import claimed_labels
from pnm.object_refinement.refining import (
    Box,
    Predict,
    RefinedMask,
    mask_pixels,
    object_box,
    refined_mask,
    refined_pixels,
)
from pnm.object_refinement.topology import with_kept_segments, with_kept_topology
from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS, weights_file

KINDS = ("auto", "masks", "labels")
_VOID = 255  # of label maps, by default


class Refiner:
    """Refines masks of any model or hand, one image at a time.

    ::

        refiner = pnm.Refiner()
        refined = refiner("photo.jpg", "mask.png")

    Attributes:
        strength: 0 to 1, see :func:`pnm.object_refinement.decision.decision_of`; may be set.
        keep_topology: see :mod:`pnm.object_refinement.topology`.
        predict, belief, decision: what the network says of a window, whether that is believed, and what follows.
    """

    def __init__(
        self,
        weights: str | Path = DEFAULT_WEIGHTS,
        *,
        strength: float = DEFAULT_STRENGTH,
        device: str = "cpu",
        backend: str = "torch",
        keep_topology: bool = False,
    ):
        """
        Args:
            weights: ``pnm://NAME``, or a file.
            device: of torch, such as "cpu" or "cuda".
            backend: what the network runs on: "torch", or "openvino", "onnxruntime" on the CPU, which are extras.
            keep_topology: an object keeps the number of its parts and holes.

        Raises:
            FileNotFoundError, UserError: weights that cannot be had, another strength, backend or device.
        """
        decision_of(strength)
        check_backend(backend, device=device)
        path = weights_file(weights)
        predict, belief = _trained(path, device, backend)
        self._set(predict, belief, strength, keep_topology)

    @classmethod
    def with_prediction(
        cls,
        predict: Predict,
        belief: Belief | None = None,
        *,
        strength: float = DEFAULT_STRENGTH,
        keep_topology: bool = False,
    ) -> "Refiner":
        """A refiner by another network, or by any function of its kind."""
        refiner = cls.__new__(cls)
        refiner._set(predict, belief, strength, keep_topology)
        return refiner

    def _set(self, predict: Predict, belief: Belief | None, strength: float, keep_topology: bool) -> None:
        self.strength, self.keep_topology = strength, keep_topology
        self.predict, self.belief = predict, belief

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self.decision = decision_of(strength, "strength")
        self._strength = strength

    def __call__(self, image: Any, masks: Any, *, kind: str = "auto") -> np.ndarray:
        """Refined masks.

        Args:
            image: what :func:`pnm.object_refinement.accepted_inputs.rgb_image` takes.
            masks: what ``mask_stack`` of that module takes; or of kind "labels" what ``label_map`` takes, where 255 is
                no segment.
            kind: "auto" takes masks, and refuses what looks like a label map; "masks" takes that for one object.

        Returns:
            (H, W) or (N, H, W) bool as masks were given; or labels of the type given.

        Raises:
            FileNotFoundError, UserError: something else; sizes that differ.
        """
        if kind not in KINDS:
            raise UserError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
        if kind == "labels":
            labels = label_map(masks)
            return self.refine_partition(
                rgb_image(image), labels, [k for k in np.unique(labels).tolist() if k != _VOID]
            )
        stack, is_one = mask_stack(masks, checks_kind=kind == "auto")
        pixels = rgb_image(image)
        check_size(pixels, stack.shape[1:], "the masks are")
        refined = self.refine_objects(pixels, [crop_array(mask) for mask in stack])
        result = np.zeros(stack.shape, np.bool_)
        for mask, one in zip(result, refined, strict=True):
            mask[:] = paste(one.crop, *mask.shape)
        return result[0] if is_one else result

    def refine_objects(self, image: np.ndarray, crops: Sequence[MaskCrop]) -> list[RefinedMask]:
        """Each mask refined, by itself: they may overlap.

        Args:
            image: (H, W, 3) uint8 RGB, or anything of that shape that gives arrays when it is sliced.
        """
        return [self._object(image, crop) for crop in crops]

    def _object(self, image: np.ndarray, crop: MaskCrop) -> RefinedMask:
        refined = refined_mask(self.predict, image, crop, self.decision, self.belief)
        if not (self.keep_topology and refined.changed):
            return refined
        box = _common_box(crop, refined.crop)
        before, after = (
            mask_pixels(one, box[0], box[1], box[2] - box[0], box[3] - box[1]) for one in (crop, refined.crop)
        )
        kept = with_kept_topology(before, after)
        changed = int(np.count_nonzero(kept != before))
        return refined._replace(crop=MaskCrop(kept, box[0], box[1]), changed=changed)

    def refine_partition(self, image: np.ndarray, labels: np.ndarray, segments: Sequence[int]) -> np.ndarray:
        """(H, W) labels: segments take pixels from each other and from what is no segment, which takes none.

        Args:
            labels: (H, W) integers.
            segments: the labels that are refined.
        """
        return self.refine_segments(image, labels, segments)[0]

    def refine_segments(
        self, image: np.ndarray, labels: np.ndarray, segments: Sequence[int]
    ) -> tuple[np.ndarray, dict[int, float]]:
        """As :meth:`refine_partition`, and the confidence of each segment that was refined: 0 of one that keeps its
        pixels because none would be left of it."""
        check_size(image, labels.shape, "the labels are")
        confidences: dict[int, float] = {}
        refined = claimed_labels(labels, self._claims(image, labels, segments, confidences))
        refined = with_kept_segments(labels, refined) if self.keep_topology else refined
        refined, lost = with_lost_segments(labels, refined, segments)
        return refined, confidences | dict.fromkeys(lost, 0.0)

    def _claims(
        self, image: np.ndarray, labels: np.ndarray, segments: Sequence[int], confidences: dict[int, float]
    ) -> Iterator[tuple[int, Box, np.ndarray]]:
        """Claims of segments, and the confidence in each, which is added to ``confidences``."""
        for label in segments:
            crop = crop_array(labels == label)
            if not crop.pixels.size or crop.pixels.size == labels.size and crop.pixels.all():
                continue
            box = object_box(crop, *labels.shape)  # type: ignore[call-arg]
            coarse = labels[box[0] : box[2], box[1] : box[3]] == label
            passes = refined_pixels(self.predict, image, coarse, box, self.decision, self.belief)
            confidences[label] = passes.confidence
            yield label, box, passes.decided


def _trained(path: Path, device: str, backend: str) -> tuple[Predict, Belief | None]:
    """The network of a checkpoint on a device of torch, and the belief that was fitted to it."""
    import torch

    from pnm.object_refinement.prediction import network_prediction
    from pnm.object_refinement.trained_network import load_network

    network, belief = load_network(path)
    try:
        network = network.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"device {device!r} can't be used ({cause}): choose another, e.g. cpu") from None
    return network_prediction(network, backend=backend), belief


def _common_box(*crops: MaskCrop) -> Box:
    """The rectangle that holds the rectangles of masks, one row and column more where there are such."""
    full = [crop for crop in crops if crop.pixels.size]
    return (
        min(crop.top for crop in full),
        min(crop.left for crop in full),
        max(crop.top + crop.pixels.shape[0] for crop in full),
        max(crop.left + crop.pixels.shape[1] for crop in full),
    )
