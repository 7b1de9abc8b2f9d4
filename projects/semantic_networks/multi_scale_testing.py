"""Multi-scale and flip testing of semantic models ("ms+flip" of the PNM paper's Table III), by the keys ``TEST.AUG``.

Detectron2 has those keys, and augments R-CNNs at most. Each pass sees the image at another size, or its mirror image,
and what is averaged are the classes' probabilities at the output's size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from torch import nn

from pnm.errors import UserError

NODE = "TEST.AUG"


def check_sizes(min_sizes: Sequence[int], max_size: int) -> None:
    """Raises UserError for sizes that no image can be resized to."""
    whole = isinstance(min_sizes, (tuple, list)) and all(type(size) is int and size > 0 for size in min_sizes)
    if not whole or not min_sizes:
        raise UserError(
            f"{NODE}.MIN_SIZES is {min_sizes!r}, expected one or more whole numbers above 0: the shortest edges that "
            "an image is tested at, px, like (512, 768)"
        )
    if type(max_size) is not int or max_size < min(min_sizes):
        raise UserError(
            f"{NODE}.MAX_SIZE is {max_size!r}, expected a whole number of px that the longest edge may have, at least "
            f"the smallest of {NODE}.MIN_SIZES, {min(min_sizes)}"
        )


def check_augmented_testing(cfg: CfgNode) -> None:
    """Checks ``TEST.AUG``, where it is enabled.

    Raises:
        UserError: the model is no :class:`SemanticSegmentor`, or a size cannot be.
    """
    if not cfg.TEST.AUG.ENABLED:
        return
    name = cfg.MODEL.META_ARCHITECTURE
    known = name in META_ARCH_REGISTRY  # that it doesn't exist is told where it is built
    architecture = META_ARCH_REGISTRY.get(name) if known else SemanticSegmentor
    if not (isinstance(architecture, type) and issubclass(architecture, SemanticSegmentor)):
        raise UserError(f"test-time augmentation is for semantic models, {name} is none; set {NODE}.ENABLED False")
    check_sizes(cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE)


def resized(image: torch.Tensor, min_size: int, max_size: int) -> torch.Tensor:
    """The image with another shortest edge, or with a smaller one where the longest would exceed ``max_size``.

    Args:
        image: (C, H, W). uint8 of one or three channels goes through PIL, as Detectron2's mappers do it, which filters
            when it shrinks and keeps uint8; all else becomes floating point and is interpolated without a filter.

    Returns:
        (C, h, w); the argument itself, or a tensor that shares its memory, where nothing changes.
    """
    height, width = image.shape[-2:]
    # Of a very long image nothing would be left.
    rows, columns = (max(1, side) for side in ResizeShortestEdge.get_output_shape(height, width, min_size, max_size))
    if image.dtype == torch.uint8 and len(image) in (1, 3):
        if (rows, columns) == (height, width):
            return image
        pixels = image.permute(1, 2, 0).cpu().numpy()
        scaled = ResizeTransform(height, width, rows, columns).apply_image(np.ascontiguousarray(pixels))
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    if (rows, columns) == (height, width):
        return image
    return F.interpolate(image[None], size=(rows, columns), mode="bilinear", align_corners=False, antialias=False)[0]


def softmax_(logits: torch.Tensor) -> torch.Tensor:
    """Overwrites (K, H, W) floating-point logits by their softmax over K; beside them, it needs H x W numbers."""
    logits -= logits.amax(dim=0)
    logits.exp_()
    logits /= logits.sum(dim=0)
    return logits


def _add(total: torch.Tensor, probs: torch.Tensor, is_mirrored: bool) -> None:
    """Adds (K, H, W) to ``total``, in place; turned back, if they are mirrored."""
    if not is_mirrored:
        total += probs
        return
    for class_total, class_probs in zip(total, probs):  # a class at a time, for a flipped tensor is a copy
        class_total += class_probs.flip(-1)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each submodule is back in the mode it had."""
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


class SemanticSegmentorWithTTA(nn.Module):
    """A semantic model that sees each image several times, and averages the probabilities.

    Passes are made one by one and added in place: beside what the model needs for the largest image there is one sum of
    the output's size, however many passes there are.
    """

    def __init__(self, model: nn.Module, min_sizes: Sequence[int], max_size: int, flip: bool = True):
        """
        Args:
            model: a :class:`SemanticSegmentor`, which is used as it is and not copied. Its outputs are overwritten.
            min_sizes: shortest edges of the images it sees, px; one that comes twice counts twice.
            max_size: longest edge they may have, px.
            flip: whether it sees each of them mirrored, too.

        Raises:
            UserError: sizes that cannot be.
        """
        super().__init__()
        check_sizes(min_sizes, max_size)
        self.model, self.min_sizes, self.max_size, self.flip = model, tuple(min_sizes), max_size, flip

    @property
    def num_passes(self) -> int:
        """Of an image through the model."""
        return len(self.min_sizes) * (2 if self.flip else 1)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """In any mode, what the model would say in eval mode.

        Args:
            batched_inputs: with ``image``, (C, H, W) of any dtype, and optionally ``height`` and ``width``, the size
                that results are wanted in. They are left as they are. The model is given neither labels nor any other
                map, which lie on the image as it came.

        Returns:
            Per image ``{"sem_seg": (K, height, width) float32 probabilities}``, which sum to 1 over K.
        """
        with _evaluating(self.model):
            return [{"sem_seg": self._average(inputs)} for inputs in batched_inputs]

    def _average(self, inputs: dict) -> torch.Tensor:
        total: torch.Tensor | None = None
        for view, is_mirrored in self._views(inputs):
            probs = softmax_(self.model([view])[0]["sem_seg"].float())
            if total is None:
                total = probs  # the first view is never a mirrored one
            else:
                _add(total, probs, is_mirrored)
            del probs  # else it would be there while the model makes the next
        assert total is not None
        return total.div_(self.num_passes)

    def _views(self, inputs: dict) -> Iterator[tuple[dict, bool]]:
        """What the model is given for an image, and whether it is mirrored."""
        image = inputs["image"]
        kept = {key: value for key, value in inputs.items() if not (torch.is_tensor(value) and value.ndim >= 2)}
        kept = {"height": image.shape[-2], "width": image.shape[-1]} | kept
        for min_size in self.min_sizes:
            scaled = resized(image, min_size, self.max_size)
            yield {**kept, "image": scaled}, False
            if self.flip:
                yield {**kept, "image": scaled.flip(-1)}, True
