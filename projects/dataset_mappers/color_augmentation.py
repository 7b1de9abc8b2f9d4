"""SSD's colour jitter (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016), in the variant of DeepLab's data.

Brightness, contrast, saturation and hue are each changed with probability ½, contrast either before or after the
other two. What is drawn, from ``np.random``, is fixed in the transform, which can thus be applied again.
"""

# ruff: noqa: NPY002 - the global generator is the interface: Detectron2 seeds it in each worker.

import cv2
import numpy as np
from detectron2.data import transforms as T


class _ColorSteps(T.Transform):
    """Applies (step, value) pairs to a uint8 image; geometry stays."""

    def __init__(self, steps: list[tuple[str, float]], is_rgb: bool):
        super().__init__()
        self.steps, self.is_rgb = steps, is_rgb

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 → the same; ValueError for anything else."""
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3:
            raise ValueError(f"the colour jitter wants (H, W, 3) uint8 images, got {img.shape} {img.dtype}")
        to_hsv, from_hsv = (
            (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB) if self.is_rgb else (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
        )
        for step, value in self.steps:
            if step in ("brightness", "contrast"):
                img = _affine(img, 1.0, value) if step == "brightness" else _affine(img, value, 0.0)
                continue
            hsv = cv2.cvtColor(np.ascontiguousarray(img), to_hsv)
            if step == "saturation":
                hsv[..., 1] = _affine(hsv[..., 1], value, 0.0)
            else:
                # OpenCV's hue is in units of 2 degrees, so that a circle is 180.
                hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(value)) % 180
            img = cv2.cvtColor(hsv, from_hsv)
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation


def _affine(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """factor · v + offset of uint8 values, clipped to 0–255 and truncated."""
    return (values.astype(np.float32) * np.float32(factor) + np.float32(offset)).clip(0, 255).astype(np.uint8)


class ColorAugSSDTransform(T.Augmentation):
    """Draws an SSD colour jitter for images in ``img_format`` "RGB" or "BGR".

    Args:
        brightness_delta: added value, at most, of 255.
        contrast_low, contrast_high, saturation_low, saturation_high: ranges of the factors.
        hue_delta: shift at most, in units of 2 degrees.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: float = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ):
        if img_format not in ("RGB", "BGR"):
            raise ValueError(f'the colour jitter knows the image formats "RGB" and "BGR", got {img_format!r}')
        self.img_format = img_format
        self.brightness_delta = brightness_delta
        self.contrast_low, self.contrast_high = contrast_low, contrast_high
        self.saturation_low, self.saturation_high = saturation_low, saturation_high
        self.hue_delta = hue_delta

    def get_transform(self, image: np.ndarray) -> T.Transform:
        contrast = ("contrast", np.random.uniform(self.contrast_low, self.contrast_high))
        others = [
            ("saturation", np.random.uniform(self.saturation_low, self.saturation_high)),
            ("hue", float(np.random.randint(-self.hue_delta, self.hue_delta + 1))),
        ]
        steps = [("brightness", np.random.uniform(-self.brightness_delta, self.brightness_delta))]
        steps += [contrast, *others] if np.random.rand() < 0.5 else [*others, contrast]
        chosen = [step for step in steps if np.random.rand() < 0.5]
        return _ColorSteps(chosen, self.img_format == "RGB")


class BrightnessShift(T.Augmentation):
    """Adds one number, at most ``delta`` of 255 up or down, to all values of an image."""

    def __init__(self, delta: float):
        self.delta = delta

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return _ColorSteps([("brightness", np.random.uniform(-self.delta, self.delta))], True)
