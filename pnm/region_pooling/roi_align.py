"""RoIAlign by the fastest means that a device has."""

import torch
import torchvision

from pnm.region_pooling.cpu_roi_align import cpu_roi_align


def roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> torch.Tensor:
    """(R, C, h, w) float32 region features; for the arguments see :func:`.cpu_roi_align.cpu_roi_align`.

    Half precision is converted: it could not say where a region begins.
    """
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    compiled = torch.jit.is_tracing() or torch.compiler.is_compiling()  # which can't see into kernels
    pool = cpu_roi_align if features.device.type == "cpu" and not compiled else torchvision.ops.roi_align
    pooled: torch.Tensor = pool(features.float(), rois.float(), size, spatial_scale, sampling_ratio, aligned)
    return pooled
