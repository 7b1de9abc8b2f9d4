"""Augmentations. Each draws from ``np.random`` in Detectron2's order, so that equal seeds give equal pixels."""

# ruff: noqa: NPY002 - the global generator is the interface: a seed set for Detectron2 must give the same numbers.

import sys

import numpy as np
from fvcore.transforms import transform as fv
from PIL import Image

from .augmentation import Augmentation, _transform_to_aug
from .transform import ExtentTransform, ResizeTransform, RotationTransform


class RandomApply(Augmentation):
    """Applies ``tfm_or_aug`` with probability ``prob``."""

    def __init__(self, tfm_or_aug, prob: float = 0.5):
        if not 0.0 <= prob <= 1.0:
            raise ValueError(f"prob must lie in [0, 1], got {prob}")
        self.aug, self.prob = _transform_to_aug(tfm_or_aug), prob

    def get_transform(self, *args) -> fv.Transform:
        return self.aug.get_transform(*args) if self._rand_range() < self.prob else fv.NoOpTransform()

    def __call__(self, aug_input) -> fv.Transform:
        return self.aug(aug_input) if self._rand_range() < self.prob else fv.NoOpTransform()


class RandomFlip(Augmentation):
    """Flips with probability ``prob``, either horizontally (default) or vertically."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False):
        if bool(horizontal) == bool(vertical):
            raise ValueError("RandomFlip flips one way: set exactly one of horizontal and vertical (use two for both)")
        self.prob, self.horizontal, self.vertical = prob, horizontal, vertical

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        if self._rand_range() >= self.prob:
            return fv.NoOpTransform()
        return fv.HFlipTransform(image.shape[1]) if self.horizontal else fv.VFlipTransform(image.shape[0])


class Resize(Augmentation):
    """Resizes to ``shape`` (h, w), or to a square of side ``shape``."""

    def __init__(self, shape, interp: int = Image.BILINEAR):
        self.shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self.interp = interp

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


class ResizeShortestEdge(Augmentation):
    """Keeps the aspect ratio; the short side becomes a drawn length, unless the long side would exceed ``max_size``.

    ``short_edge_length`` is an int, an inclusive (min, max) for ``sample_style="range"``, or the lengths to
    choose from for ``"choice"``. A drawn 0 leaves the image as it is.
    """

    def __init__(
        self,
        short_edge_length,
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = Image.BILINEAR,
    ):
        if sample_style not in ("range", "choice"):
            raise ValueError(f'sample_style must be "range" or "choice", got {sample_style!r}')
        lengths = (short_edge_length,) * 2 if isinstance(short_edge_length, int) else short_edge_length
        if sample_style == "range" and len(lengths) != 2:
            raise ValueError(f"sample_style 'range' wants two lengths (min, max), got {lengths}")
        self.short_edge_length, self.max_size = lengths, max_size
        self.sample_style, self.interp = sample_style, interp

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        lengths = self.short_edge_length
        if self.sample_style == "range":
            size = np.random.randint(lengths[0], lengths[1] + 1)
        else:
            size = np.random.choice(lengths)
        if size == 0:
            return fv.NoOpTransform()
        height, width = image.shape[:2]
        new = self.get_output_shape(height, width, size, self.max_size)
        return ResizeTransform(height, width, *new, self.interp)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """(h, w) after the resize, each side rounded half up."""
        side = float(short_edge_length)
        scale = side / min(oldh, oldw)
        # The short side is exactly `side`, not scale times itself: the two may round differently.
        sides = (side, scale * oldw) if oldh < oldw else (scale * oldh, side)
        excess = max(sides)
        if excess > max_size:
            shrink = max_size * 1.0 / excess
            sides = (sides[0] * shrink, sides[1] * shrink)
        return int(sides[0] + 0.5), int(sides[1] + 0.5)


class RandomResize(Augmentation):
    """Resizes to one of the (h, w) of ``shape_list``."""

    def __init__(self, shape_list, interp: int = Image.BILINEAR):
        self.shape_list, self.interp = shape_list, interp

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        shape = self.shape_list[np.random.randint(low=0, high=len(self.shape_list))]
        return ResizeTransform(*image.shape[:2], *shape, self.interp)


class ResizeScale(Augmentation):
    """Large-scale jitter: fits the image, aspect ratio kept, into the target box scaled by U(min_scale, max_scale)."""

    def __init__(
        self, min_scale: float, max_scale: float, target_height: int, target_width: int, interp: int = Image.BILINEAR
    ):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))

    def _get_resize(self, image: np.ndarray, scale: float) -> fv.Transform:
        size = np.array(image.shape[:2])
        target = np.multiply((self.target_height, self.target_width), scale)
        new_h, new_w = np.round(size * np.min(target / size)).astype(int).tolist()
        return ResizeTransform(*image.shape[:2], new_h, new_w, self.interp)


class RandomRotation(Augmentation):
    """Rotates counter-clockwise by an angle in degrees from the range, or the list, ``angle``.

    ``center`` is a relative point, a [[minx, miny], [maxx, maxy]] range, or (for "choice") a list of points;
    None is the middle. With ``expand`` nothing is cut off.
    """

    def __init__(self, angle, expand: bool = True, center=None, sample_style: str = "range", interp=None):
        if sample_style not in ("range", "choice"):
            raise ValueError(f'sample_style must be "range" or "choice", got {sample_style!r}')
        self.angle = (angle, angle) if isinstance(angle, (float, int)) else angle
        lone_center = center is not None and isinstance(center[0], (float, int))
        self.center = (center, center) if lone_center else center
        self.expand, self.sample_style, self.interp = expand, sample_style, interp

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        height, width = image.shape[:2]
        center = None
        if self.sample_style == "range":
            angle = np.random.uniform(self.angle[0], self.angle[1])
            if self.center is not None:
                center = [np.random.uniform(low, high) for low, high in zip(*self.center, strict=True)]
        else:
            angle = np.random.choice(self.angle)
            if self.center is not None:
                center = self.center[np.random.randint(len(self.center))]
        if angle % 360 == 0:
            return fv.NoOpTransform()
        if center is not None:
            center = (width * center[0], height * center[1])
        return RotationTransform(height, width, angle, expand=self.expand, center=center, interp=self.interp)


class FixedSizeCrop(Augmentation):
    """Crops to ``crop_size`` (h, w) at a random place; with ``pad``, fills the right and bottom of smaller images."""

    def __init__(self, crop_size, pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> fv.TransformList:
        size, crop = np.array(image.shape[:2]), np.array(self.crop_size)
        y0, x0 = np.round(np.maximum(size - crop, 0) * np.random.uniform(0.0, 1.0)).astype(int)
        steps = [fv.CropTransform(x0, y0, crop[1], crop[0], size[1], size[0])]
        if self.pad:
            right, bottom = np.maximum(crop - size, 0)[::-1]
            held = np.minimum(size, crop)
            steps.append(fv.PadTransform(0, 0, right, bottom, held[1], held[0], self.pad_value, self.seg_pad_value))
        return fv.TransformList(steps)


class RandomCrop(Augmentation):
    """Cuts a rectangle out at a random place. Its size, by ``crop_type``, from ``crop_size`` (a, b):

    ``relative``: (H·a, W·b); ``relative_range``: each factor drawn from [a, 1] and [b, 1];
    ``absolute``: (a, b), at most the image; ``absolute_range``: each side drawn from [a, b], at most the image.
    """

    def __init__(self, crop_type: str, crop_size):
        kinds = ("relative_range", "relative", "absolute", "absolute_range")
        if crop_type not in kinds:
            raise ValueError(f"crop_type must be one of {', '.join(kinds)}; got {crop_type!r}")
        if crop_type == "absolute_range" and crop_size[0] > crop_size[1]:
            raise ValueError(f"absolute_range wants (min, max), got {tuple(crop_size)}")
        self.crop_type, self.crop_size = crop_type, crop_size

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        return _crop_somewhere(image.shape[:2], self.get_crop_size(image.shape[:2]))

    def get_crop_size(self, image_size) -> tuple[int, int]:
        """(h, w) in pixels for an image of size (h, w)."""
        sides = tuple(image_size)
        if self.crop_type.startswith("relative"):
            factors = self.crop_size
            if self.crop_type == "relative_range":
                low = np.asarray(factors, dtype=np.float32)
                factors = low + np.random.rand(2) * (1 - low)
            return tuple(int(side * factor + 0.5) for side, factor in zip(sides, factors, strict=True))
        if self.crop_type == "absolute":
            return tuple(min(wanted, side) for wanted, side in zip(self.crop_size, sides, strict=True))
        low, high = self.crop_size
        return tuple(np.random.randint(min(side, low), min(side, high) + 1) for side in sides)


def _crop_somewhere(image_size, crop_size) -> fv.CropTransform:
    (height, width), (crop_h, crop_w) = image_size, crop_size
    if crop_h > height or crop_w > width:
        raise ValueError(f"a {crop_h}×{crop_w} crop does not fit into a {height}×{width} image")
    y0 = np.random.randint(height - crop_h + 1)
    x0 = np.random.randint(width - crop_w + 1)
    return fv.CropTransform(x0, y0, crop_w, crop_h)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """A :class:`RandomCrop` in which no category fills more than ``single_category_max_area`` of the labelled pixels.

    Ten places are tried and the last one taken; at least two categories must be in sight. ``ignored_category``
    does not count.
    """

    def __init__(
        self, crop_type: str, crop_size, single_category_max_area: float = 1.0, ignored_category: int | None = None
    ):
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> fv.Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(10):
            crop = _crop_somewhere(sem_seg.shape, self.crop_aug.get_crop_size(sem_seg.shape))
            if self._is_varied(sem_seg[crop.y0 : crop.y0 + crop.h, crop.x0 : crop.x0 + crop.w]):
                break
        return crop

    def _is_varied(self, labels: np.ndarray) -> bool:
        present, areas = np.unique(labels, return_counts=True)
        if self.ignored_category is not None:
            areas = areas[present != self.ignored_category]
        return len(areas) > 1 and areas.max() < areas.sum() * self.single_category_max_area


class RandomExtent(Augmentation):
    """Shows a scaled and shifted rectangle of the image at its own size; black where it leaves the frame.

    ``scale_range`` (low, high) scales the rectangle, ``shift_range`` (x, y) moves it by up to half of these
    fractions of width and height either way.
    """

    def __init__(self, scale_range, shift_range):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        size = np.array(image.shape[1::-1])
        rect = np.array([-0.5 * size, 0.5 * size]) * np.random.uniform(*self.scale_range)
        for axis in (0, 1):
            rect[:, axis] += self.shift_range[axis] * size[axis] * (np.random.rand() - 0.5)
        (x0, y0), (x1, y1) = rect + 0.5 * size
        return ExtentTransform(src_rect=(x0, y0, x1, y1), output_size=(int(y1 - y0), int(x1 - x0)))


class _RandomBlend(Augmentation):
    """Blends with a reference image: weight w ~ U(intensity_min, intensity_max), where 1 changes nothing."""

    def __init__(self, intensity_min: float, intensity_max: float):
        self.intensity_min, self.intensity_max = intensity_min, intensity_max

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return fv.BlendTransform(src_image=self._reference(image), src_weight=1 - weight, dst_weight=weight)


class RandomContrast(_RandomBlend):
    """Blends with the image's mean."""

    @staticmethod
    def _reference(image: np.ndarray):
        return image.mean()


class RandomBrightness(_RandomBlend):
    """Blends with black."""

    @staticmethod
    def _reference(image: np.ndarray):
        return 0


class RandomSaturation(_RandomBlend):
    """Blends an RGB image with its luma (BT.601)."""

    @staticmethod
    def _reference(image: np.ndarray):
        _require_rgb(image, "RandomSaturation")
        return image.dot([0.299, 0.587, 0.114])[:, :, None]


class RandomLighting(Augmentation):
    """AlexNet's colour noise: N(0, ``scale``²) times the principal components of ImageNet's RGB values."""

    def __init__(self, scale: float):
        self.scale = scale
        # Eigenvectors (columns) and eigenvalues as published with AlexNet reimplementations.
        self.eigen_vecs = np.reshape(
            [-0.5675, 0.7192, 0.4009, -0.5808, -0.0045, -0.8140, -0.5836, -0.6948, 0.4203], (3, 3)
        )
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        _require_rgb(image, "RandomLighting")
        shift = self.eigen_vecs @ (np.random.normal(scale=self.scale, size=3) * self.eigen_vals)
        return fv.BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)


def _require_rgb(image: np.ndarray, name: str) -> None:
    if image.shape[-1] != 3:
        raise ValueError(f"{name} needs an (H, W, 3) RGB image, got shape {image.shape}")


class MinIoURandomCrop(Augmentation):
    """SSD's crop: a window whose IoU with every box is at least a value drawn from ``min_ious``, or no crop."""

    def __init__(
        self,
        min_ious=(0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ):
        self._init(locals())

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> fv.Transform:
        if boxes is None:
            return fv.NoOpTransform()
        boxes = np.reshape(boxes, (-1, 4))
        for _ in range(self.mode_trials):
            min_iou = np.random.choice((1, *self.min_ious, 0))
            if min_iou == 1:
                break
            for _ in range(self.crop_trials):
                window = self._draw_window(*image.shape[:2])
                if window is not None and _window_fits(np.array(window[0]), boxes, min_iou):
                    (x0, y0, _, _), (width, height) = window
                    return fv.CropTransform(x0, y0, width, height)
        return fv.NoOpTransform()

    def _draw_window(self, height: int, width: int):
        """((x0, y0, x1, y1), (w, h)) in whole pixels, or None for a bad aspect ratio or an empty window."""
        new_w = np.random.uniform(self.min_crop_size * width, width)
        new_h = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= new_h / new_w <= 2:
            return None
        # uniform(low) runs from `low` to 1, as SSD's reference draws it; mirrored here to consume the same numbers.
        left, top = np.random.uniform(width - new_w), np.random.uniform(height - new_h)
        x0, y0, x1, y1 = int(left), int(top), int(left + new_w), int(top + new_h)
        return None if x0 == x1 or y0 == y1 else ((x0, y0, x1, y1), (int(new_w), int(new_h)))


def _window_fits(window: np.ndarray, boxes: np.ndarray, min_iou: float) -> bool:
    if len(boxes) == 0:
        return True
    overlap = np.minimum(window[2:], boxes[:, 2:]) - np.maximum(window[:2], boxes[:, :2])
    intersection = overlap.clip(min=0).prod(axis=1)
    union = (window[2:] - window[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - intersection
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centers > window[:2]) & (centers < window[2:])).all(axis=1)
    return bool((intersection / union).min() >= min_iou and inside.any())
