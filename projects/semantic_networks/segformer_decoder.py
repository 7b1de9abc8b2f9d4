"""SegFormer's decoder (Xie et al., NeurIPS 2021)."""

import torch
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder

from .blocks import convolved_levels


class SegFormerDecoder(SegformerDecoder):
    """The library's, whose fusing convolution, most of the work, is done before levels are enlarged."""

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """(N, width, H / 4, W / 4) of the six feature maps, finest first; of the first two nothing is read."""
        levels = [layer(level) for layer, level in zip(self.mlp_stage, features[:1:-1], strict=True)]
        convolution, *others = self.fuse_stage
        x = convolved_levels(convolution, levels, features[2].shape[-2:])
        for layer in others:
            x = layer(x)
        return x
