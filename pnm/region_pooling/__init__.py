"""RoIAlign (He et al., Mask R-CNN, ICCV 2017), with kernels of our own on CPUs."""

from pnm.region_pooling.roi_align import roi_align

__all__ = ["roi_align"]
