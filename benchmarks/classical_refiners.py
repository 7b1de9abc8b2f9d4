"""Classical refiners, as functions ``(image (H, W, 3) uint8 RGB, mask (H, W) bool) -> (H, W) bool``.

- GrabCut (Rother et al., SIGGRAPH 2004), OpenCV's, three iterations: pixels within 4 % of the object's extent of the
  contour are undecided.
- Guided filter (He et al., "Guided Image Filtering", TPAMI 2013) of the mask by the colour image, cut at 0.5.
- Dense CRF (Krähenbühl and Koltun, NIPS 2011) of the peer pydensecrf, or pydensecrf2, with two usual settings. A mask
  has no probabilities: the unary term believes it by 0.9.
"""

import importlib.util
from typing import NamedTuple

import cv2
import numpy as np

GRABCUT_BAND, GRABCUT_ROUNDS = 0.04, 3  # of the extent, the square root of the area
GUIDED_EPSILON = 1e-4  # of colours 0 to 1
CRF_CERTAINTY = 0.9


class CrfSettings(NamedTuple):
    """Deviations of the two kernels in pixels and in colours of 0 to 255, their weights, and mean-field steps."""

    smooth_px: float
    smooth_weight: float
    bilateral_px: float
    bilateral_colors: float
    bilateral_weight: float
    rounds: int


USUAL_CRF = CrfSettings(3, 3, 80, 13, 10, 5)  # of pydensecrf's documents
DEEPLAB_CRF = CrfSettings(1, 3, 67, 3, 4, 10)  # of DeepLabv2 (Chen et al., TPAMI 2018) on PASCAL VOC


def has_dense_crf() -> bool:
    return importlib.util.find_spec("pydensecrf") is not None


def _from_contour(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32: distance in pixels to the nearest pixel of the other side."""
    sides = (mask.astype(np.uint8), (~mask).astype(np.uint8))
    inside, outside = (cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for side in sides)
    return np.maximum(inside, outside)


def grabcut(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A mask of which one side would have no certain pixel stays as it is."""
    if not mask.any() or mask.all():
        return mask
    band = _from_contour(mask) <= max(1.0, GRABCUT_BAND * float(np.sqrt(np.count_nonzero(mask))))
    labels = np.where(mask, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    if len(np.unique(labels[~band])) < 2:
        return mask
    labels[band & mask], labels[band & ~mask] = cv2.GC_PR_FGD, cv2.GC_PR_BGD
    cv2.setRNGSeed(0)  # its k-means draws
    cv2.grabCut(image[:, :, ::-1].copy(), labels, None, None, None, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def guided_filter(image: np.ndarray, mask: np.ndarray, radius_px: int = 8) -> np.ndarray:
    """In each window the mask is a linear function of the colours, made from covariances of the three."""
    side = 2 * radius_px + 1

    def box(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REFLECT)

    colors, target = image.astype(np.float32) / 255, mask.astype(np.float32)
    mean, mean_target = box(colors), box(target)
    shared = box(colors * target[..., None]) - mean * mean_target[..., None]
    pairs = [box(colors[..., i] * colors[..., j]) - mean[..., i] * mean[..., j] for i in range(3) for j in range(3)]
    covariance = np.stack(pairs, -1).reshape(*mask.shape, 3, 3) + GUIDED_EPSILON * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(covariance, shared[..., None])[..., 0]
    offset = mean_target - (slope * mean).sum(axis=-1)
    return (box(slope.astype(np.float32)) * colors).sum(axis=-1) + box(offset.astype(np.float32)) >= 0.5


def dense_crf(image: np.ndarray, mask: np.ndarray, settings: CrfSettings = USUAL_CRF) -> np.ndarray:
    from pydensecrf.densecrf import DenseCRF2D

    height, width = mask.shape
    crf = DenseCRF2D(width, height, 2)
    object_probs = np.where(mask, CRF_CERTAINTY, 1 - CRF_CERTAINTY).reshape(-1)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log([1 - object_probs, object_probs]), np.float32))
    crf.addPairwiseGaussian(sxy=settings.smooth_px, compat=settings.smooth_weight)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_px,
        srgb=settings.bilateral_colors,
        rgbim=np.ascontiguousarray(image),
        compat=settings.bilateral_weight,
    )
    return np.argmax(crf.inference(settings.rounds), axis=0).reshape(height, width) == 1
