"""What all models that start from images share."""

from collections.abc import Sequence

import torch
from detectron2.structures import ImageList
from torch import nn

from ..backbone import Backbone


class ImageModel(nn.Module):
    """A backbone and the normalisation of its images.

    Input dicts have ``image``, a (C, H, W) tensor in the channel order that ``pixel_mean`` and ``pixel_std`` are in.
    """

    def __init__(self, backbone: Backbone, pixel_mean: Sequence[float], pixel_std: Sequence[float]):
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(f"MODEL.PIXEL_MEAN {pixel_mean} and PIXEL_STD {pixel_std} differ in length")
        self.backbone = backbone
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def _batch(self, tensors: Sequence[torch.Tensor], pad_value: float = 0.0) -> ImageList:
        """One padded batch, as the backbone needs it."""
        backbone = self.backbone
        return ImageList.from_tensors(tensors, backbone.size_divisibility, pad_value, backbone.padding_constraints)

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """The images on the model's device, normalised and padded."""
        images = [x["image"].to(self.device) for x in batched_inputs]
        return self._batch([(image - self.pixel_mean) / self.pixel_std for image in images])

    def _field(self, batched_inputs: list[dict], name: str) -> list | None:
        """The values of an input field on the model's device; None when the first input has none."""
        return [x[name].to(self.device) for x in batched_inputs] if name in batched_inputs[0] else None


def pixel_statistics(cfg) -> dict[str, Sequence[float]]:
    """The arguments of :class:`ImageModel` that normalise images."""
    return {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}


def output_size(inputs: dict, image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that results are wanted in: ``height`` and ``width`` of the inputs, else the image's."""
    return inputs.get("height", image_size[0]), inputs.get("width", image_size[1])
