"""Meta-architectures that hand the inputs' pixel weights to their semantic head, as an argument."""

from typing import Any

import torch
from detectron2.modeling import SemanticSegmentor
from detectron2.structures import ImageList
from torch import nn

from pnm.errors import UserError


class PassesPixelWeights(nn.Module):
    """Mixin of meta-architectures with a ``backbone`` and a ``sem_seg_head``, to be named before Detectron2's class.

    The head is a :class:`.pixel_loss.PixelWeightedHead`; ``forward`` calls :meth:`semantic_losses` in training. Inputs
    may have ``pixel_weights``, (H, W) float32 each.

    Attributes:
        builds_its_own_head: the head is not ``MODEL.SEM_SEG_HEAD.NAME``.
    """

    builds_its_own_head = False
    # What Detectron2's classes have.
    backbone: Any
    sem_seg_head: Any
    device: torch.device
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def padded_batch(self, tensors: list[torch.Tensor], pad_value: float = 0.0) -> ImageList:
        """One batch on the model's device, padded as its backbone needs it."""
        backbone, on_device = self.backbone, [tensor.to(self.device) for tensor in tensors]
        return ImageList.from_tensors(
            on_device, backbone.size_divisibility, pad_value, padding_constraints=backbone.padding_constraints
        )

    def normalised_images(self, batched_inputs: list[dict]) -> ImageList:
        """The images of a batch, as Detectron2's models take them."""
        images = [x["image"].to(self.device) for x in batched_inputs]
        return self.padded_batch([(image - self.pixel_mean) / self.pixel_std for image in images])

    def pixel_weights(self, batched_inputs: list[dict]) -> torch.Tensor | None:
        """(N, H, W) float32 from the inputs' weights, padded with 0 as the images are; None if there are none.

        Raises:
            UserError: weights of another size than their image.
        """
        if "pixel_weights" not in batched_inputs[0]:
            return None
        for x in batched_inputs:
            if x["pixel_weights"].shape != x["image"].shape[-2:]:
                raise UserError(
                    f"pixel_weights of {x.get('file_name', 'an image')} are {tuple(x['pixel_weights'].shape)}, the "
                    f"image is {tuple(x['image'].shape[-2:])}: the dataset mapper must transform both alike"
                )
        return self.padded_batch([x["pixel_weights"] for x in batched_inputs]).tensor

    def semantic_losses(self, batched_inputs: list[dict], features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The semantic head's losses for a training batch and the backbone's features of it."""
        targets = self.padded_batch([x["sem_seg"] for x in batched_inputs], self.sem_seg_head.ignore_value).tensor
        return self.sem_seg_head(features, targets, self.pixel_weights(batched_inputs))[1]


class PixelWeightedSegmentor(PassesPixelWeights, SemanticSegmentor):
    """``SemanticSegmentor`` with pixel weights."""

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """As ``SemanticSegmentor``."""
        if not self.training:
            return super().forward(batched_inputs)
        features = self.backbone(self.normalised_images(batched_inputs).tensor)
        return self.semantic_losses(batched_inputs, features)
