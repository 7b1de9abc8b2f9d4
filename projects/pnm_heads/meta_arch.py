"""Meta-architectures that hand the mapper's pixel weights to their semantic head."""

import torch
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN, SemanticSegmentor
from detectron2.structures import ImageList
from torch import nn

from pnm.errors import UserError


def batch_pixel_weights(batched_inputs: list[dict], backbone: nn.Module, device: torch.device) -> torch.Tensor | None:
    """(N, H, W) float32 from the inputs' "pixel_weights", padded with 0 as the images are; None if there are none.

    Raises:
        UserError: weights of another size than their image.
    """
    if "pixel_weights" not in batched_inputs[0]:
        return None
    weights = [x["pixel_weights"].to(device) for x in batched_inputs]
    for one, x in zip(weights, batched_inputs):
        if one.shape != x["image"].shape[-2:]:
            raise UserError(
                f"pixel_weights of {x.get('file_name', 'an image')} are {tuple(one.shape)}, the image is "
                f"{tuple(x['image'].shape[-2:])}: the dataset mapper must transform both alike"
            )
    return ImageList.from_tensors(
        weights, backbone.size_divisibility, 0.0, padding_constraints=backbone.padding_constraints
    ).tensor


class PassesPixelWeights(nn.Module):
    """Mixin of meta-architectures with a ``backbone`` and a ``sem_seg_head``, to be named before them.

    In training, the inputs' ``pixel_weights`` ((H, W) float32 each) are put on the head for the time of the forward
    pass, where :class:`.semantic_head.PixelWeightedHead` finds them.
    """

    weights_its_own_loss = False

    def forward(self, batched_inputs: list[dict]):
        """As the meta-architecture."""
        if not self.training:
            return super().forward(batched_inputs)
        self.sem_seg_head.pixel_weights = batch_pixel_weights(batched_inputs, self.backbone, self.device)
        try:
            return super().forward(batched_inputs)
        finally:
            self.sem_seg_head.pixel_weights = None


@META_ARCH_REGISTRY.register()
class PNMSemanticSegmentor(PassesPixelWeights, SemanticSegmentor):
    """``SemanticSegmentor`` with pixel weights."""


@META_ARCH_REGISTRY.register()
class PNMPanopticFPN(PassesPixelWeights, PanopticFPN):
    """``PanopticFPN`` with pixel weights; its mask loss is weighted by :class:`.mask_head.PNMROIHeads`."""
