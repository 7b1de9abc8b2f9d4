"""RoIAlign (He et al., Mask R-CNN, 2017)."""

import torch
import torchvision
from torchvision.ops import roi_align

from pnm.region_pooling import roi_align as region_features

__all__ = ["ROIAlign", "roi_align"]


class ROIAlign(torchvision.ops.RoIAlign):
    """torchvision's RoIAlign with pixel centres at half-integers (``aligned``) by default."""

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool = True
    ):
        """
        Args:
            output_size: cells per side of the result.
            spatial_scale: feature cells per input pixel.
            sampling_ratio: samples per cell side; 0 takes as many as the region has feature cells.
            aligned: shift regions by half a feature cell, as the geometry demands.
        """
        super().__init__(output_size, spatial_scale, sampling_ratio, aligned)

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pools (N, C, H, W) features at R regions (image index, x0, y0, x1, y1) in input pixels: (R, C, h, w).

        Computed in float32 whatever the features are of: half precision could not say where a region begins.
        """
        size, scale = self.output_size, self.spatial_scale
        return region_features(input, rois, size, scale, self.sampling_ratio, self.aligned).to(input.dtype)
