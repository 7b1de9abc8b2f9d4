"""Geometric and photometric transforms that fvcore does not have.

Conventions, shared with fvcore: images are (H, W) or (H, W, C) arrays, coordinates are (N, 2) arrays of
(x, y) in pixels with the origin at the upper left corner of the upper left pixel.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from fvcore.transforms.transform import CropTransform, NoOpTransform, Transform, TransformList
from PIL import Image
from torch.nn import functional as F

_TORCH_MODE = {Image.NEAREST: "nearest", Image.BILINEAR: "bilinear", Image.BICUBIC: "bicubic"}


def _through_pil(image: np.ndarray, operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Applies a PIL operation to (H, W), (H, W, 1) or (H, W, 3) data; a single channel stays an axis."""
    single = image.ndim == 3 and image.shape[2] == 1
    out = np.asarray(operation(Image.fromarray(image[:, :, 0] if single else image)))
    return out[:, :, None] if single else out


class ResizeTransform(Transform):
    """Resizes (h, w) to (new_h, new_w): uint8 through PIL (which filters when it shrinks), floats through torch."""

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None):
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = Image.BILINEAR if interp is None else interp

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Returns the resized (H, W[, C[, D]]) array; ``interp`` (a PIL filter) overrides the transform's own."""
        if img.shape[:2] != (self.h, self.w):
            raise ValueError(f"this resize was made for {self.h}×{self.w} data but was given {img.shape[:2]}")
        method = self.interp if interp is None else interp
        if img.dtype == np.uint8:
            return _through_pil(img, lambda image: image.resize((self.new_w, self.new_h), method))
        flat = torch.from_numpy(np.ascontiguousarray(img)).reshape(self.h, self.w, -1).permute(2, 0, 1)[None]
        mode = _TORCH_MODE[method]
        corners = None if mode == "nearest" else False
        flat = F.interpolate(flat, size=(self.new_h, self.new_w), mode=mode, align_corners=corners)
        return flat[0].permute(1, 2, 0).reshape(self.new_h, self.new_w, *img.shape[2:]).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scales (N, 2) points. The dtype is kept, so integer points are truncated, as Detectron2 has it."""
        precision = coords.dtype if np.issubdtype(coords.dtype, np.floating) else np.float64
        factor = np.array([self.new_w * 1.0 / self.w, self.new_h * 1.0 / self.h], dtype=precision)
        return (coords * factor).astype(coords.dtype)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resizes labels by nearest neighbour."""
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def inverse(self) -> "ResizeTransform":
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class ExtentTransform(Transform):
    """Cuts the rectangle ``src_rect`` (x0, y0, x1, y1), possibly beyond the frame, and scales it to ``output_size``.

    ``output_size`` is (h, w); ``fill`` is PIL's fill argument for what lies outside the image.
    """

    def __init__(self, src_rect, output_size, interp: int = Image.BILINEAR, fill: int = 0):
        super().__init__()
        self.src_rect, self.output_size, self.interp, self.fill = src_rect, output_size, interp, fill

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        method, (height, width) = interp or self.interp, self.output_size

        def cut(image):
            return image.transform((width, height), Image.EXTENT, self.src_rect, resample=method, fill=self.fill)

        return _through_pil(img, cut)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Maps (N, 2) source points to float32 output points, about the rectangle's centre."""
        rect = np.reshape(self.src_rect, (2, 2))
        size = np.array(self.output_size[::-1])
        points = coords.astype(np.float32)
        # In place, one step after the other: each result is rounded to float32.
        points -= 0.5 * (rect[0] + rect[1])
        points *= size / (rect[1] - rect[0])
        points += 0.5 * size
        return points

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.NEAREST)


class RotationTransform(Transform):
    """Rotates an (h, w) image counter-clockwise by ``angle`` degrees about ``center`` (x, y; default: the middle).

    With ``expand`` the output grows to hold the whole rotated image. ``interp`` is an OpenCV flag.
    """

    def __init__(self, h: int, w: int, angle: float, expand: bool = True, center=None, interp: int | None = None):
        super().__init__()
        self.h, self.w, self.angle, self.expand = h, w, angle, expand
        self.image_center = np.array((w / 2, h / 2))
        self.center = self.image_center if center is None else center
        self.interp = cv2.INTER_LINEAR if interp is None else interp
        self.bound_w, self.bound_h = w, h
        if expand:
            cos, sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
            self.bound_w = int(np.rint(h * sin + w * cos))
            self.bound_h = int(np.rint(h * cos + w * sin))
        self.rm_coords = self.create_rotation_matrix()
        # Pixel centres lie at +0.5: the image is rotated about the same point, seen from pixel indices.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """The 2×3 matrix for points whose coordinates are shifted by ``offset``."""
        matrix = cv2.getRotationMatrix2D(tuple(float(value + offset) for value in self.center), float(self.angle), 1)
        if self.expand:
            middle = matrix @ np.array([*(self.image_center + offset), 1.0])
            matrix[:, 2] += np.array([self.bound_w / 2, self.bound_h / 2]) + offset - middle
        return matrix

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if len(img) == 0 or self.angle % 360 == 0:
            return img
        if img.shape[:2] != (self.h, self.w):
            raise ValueError(f"this rotation was made for {self.h}×{self.w} data but was given {img.shape[:2]}")
        flags = self.interp if interp is None else interp
        return cv2.warpAffine(img, self.rm_image, (self.bound_w, self.bound_h), flags=flags)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self.angle % 360 == 0:
            return coords
        return coords @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=cv2.INTER_NEAREST)

    def inverse(self) -> TransformList:
        """Rotates back and crops to the original size; impossible without ``expand``, which cuts corners off."""
        if not self.expand:
            raise NotImplementedError("a rotation that crops cannot be inverted: use expand=True")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        x0, y0 = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(x0, y0, self.w, self.h)])


class ColorTransform(Transform):
    """Applies ``op`` (array to array) to the image and leaves geometry alone."""

    def __init__(self, op: Callable):
        if not callable(op):
            raise ValueError(f"op must be a function from image to image, got {type(op).__name__}")
        super().__init__()
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()
