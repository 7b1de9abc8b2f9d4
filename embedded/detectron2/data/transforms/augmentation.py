"""The augmentation protocol: an Augmentation looks at its input, draws random numbers, and returns a Transform."""

# ruff: noqa: NPY002 - the global generator is the interface: a seed set for Detectron2 must give the same numbers.

import inspect

import numpy as np
from fvcore.transforms.transform import Transform, TransformList


class Augmentation:
    """A random policy that yields a deterministic, repeatable :class:`Transform`.

    Subclasses write ``get_transform(image)``, or with other parameters, whose names are the attributes of
    the :class:`AugInput` that they need (``image``, ``boxes``, ``sem_seg``, or an attribute of your own input).
    """

    input_args: tuple[str, ...] | None = None

    def _init(self, params: dict | None = None) -> None:
        """Keeps constructor arguments (``locals()``) as attributes."""
        kept = {k: v for k, v in (params or {}).items() if k != "self" and k[0] != "_"}
        self.__dict__.update(kept)

    def get_transform(self, *args) -> Transform:
        """Decides, at random or not, what to do with this input."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_transform")

    def _arguments(self, aug_input) -> list:
        if self.input_args is None:
            self.input_args = _argument_names(self)
        missing = [name for name in self.input_args if not hasattr(aug_input, name)]
        if missing:
            raise AttributeError(
                f"{type(self).__name__}.get_transform needs {missing}, which {type(aug_input).__name__} does not have"
            )
        return [getattr(aug_input, name) for name in self.input_args]

    def __call__(self, aug_input) -> Transform:
        """Transforms ``aug_input`` in place and returns the transform, to be applied to whatever else moves along."""
        transform = self.get_transform(*self._arguments(aug_input))
        if not isinstance(transform, (Transform, TransformList)):
            raise TypeError(
                f"{type(self).__name__}.get_transform returned {type(transform).__name__}, expected a Transform"
            )
        aug_input.transform(transform)
        return transform

    def _rand_range(self, low: float = 1.0, high: float | None = None, size=None):
        """Uniform in [low, high), or in [0, low) where ``high`` is left out."""
        bounds = (0, low) if high is None else (low, high)
        return np.random.uniform(*bounds, [] if size is None else size)

    def __repr__(self) -> str:
        """``Name(argument=value, …)`` with the arguments that differ from their defaults."""
        parts = []
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name == "self":
                continue
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(self, name):
                return object.__repr__(self)
            value = getattr(self, name)
            if value is not parameter.default:
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    __str__ = __repr__


def _argument_names(augmentation: Augmentation) -> tuple[str, ...]:
    parameters = inspect.signature(augmentation.get_transform).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise TypeError(
            f"{type(augmentation).__name__}.get_transform takes *args or **kwargs, so its inputs cannot be looked up "
            "by name: name them, or override __call__"
        )
    names = tuple(p.name for p in parameters)
    # A lone argument is the image, whatever it is called.
    return ("image",) if len(names) == 1 else names


class _Fixed(Augmentation):
    """A transform that stands where an augmentation is expected."""

    input_args = ()

    def __init__(self, tfm: Transform):
        self.tfm = tfm

    def get_transform(self, *args) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def _transform_to_aug(tfm_or_aug: Transform | Augmentation) -> Augmentation:
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    if isinstance(tfm_or_aug, Transform):
        return _Fixed(tfm_or_aug)
    raise TypeError(f"expected an Augmentation or a Transform, got {type(tfm_or_aug).__name__}")


class AugmentationList(Augmentation):
    """Augmentations one after the other, each seeing what the one before it produced."""

    def __init__(self, augs):
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"

    __str__ = __repr__


class AugInput:
    """What is augmented together.

    Attributes:
        image: (H, W) or (H, W, C) array, uint8 in 0–255 or floating point.
        boxes: (N, 4) XYXY boxes in pixels, or None.
        sem_seg: (H, W) labels, or None.
    """

    def __init__(self, image: np.ndarray, *, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None):
        if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            shape = getattr(image, "shape", "")
            raise TypeError(f"image must be a NumPy array (H, W) or (H, W, C), got {type(image).__name__} {shape}")
        if np.issubdtype(image.dtype, np.integer) and image.dtype != np.uint8:
            raise TypeError(f"integer images must be uint8, got {image.dtype}: convert to uint8 or to floating point")
        self.image, self.boxes, self.sem_seg = image, boxes, sem_seg

    def transform(self, tfm: Transform) -> None:
        """Replaces each attribute by its transformed self."""
        self.image = tfm.apply_image(self.image)
        self.boxes = None if self.boxes is None else tfm.apply_box(self.boxes)
        self.sem_seg = None if self.sem_seg is None else tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations) -> TransformList:
        return AugmentationList(augmentations)(self)


def apply_augmentations(augmentations, inputs):
    """Augments an image or an :class:`AugInput`; returns (augmented image or input, TransformList)."""
    aug_input = AugInput(inputs) if isinstance(inputs, np.ndarray) else inputs
    transforms = aug_input.apply_augmentations(augmentations)
    return (aug_input.image if aug_input is not inputs else aug_input), transforms


apply_transform_gens = apply_augmentations
TransformGen = Augmentation
StandardAugInput = AugInput
