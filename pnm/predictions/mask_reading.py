"""How a picture of a mask is read: as one object or as a label map, and which of its values are the object."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import crop_array
from pnm.pictures.mask_kinds import is_label_map
from pnm.pictures.mask_pictures import exact_labels, foreground, is_palette_turned, read_mask_picture
from pnm.predictions.image_predictions import Objects, Partition

NO_OBJECT = "no object"  # of a mask without any
KINDS = ("auto", "object", "labels")
VOID = {"semantic": 255, "panoptic": 0}  # label that is no segment


class MaskReading(NamedTuple):
    """What a user says of pictures of masks.

    Attributes:
        kind: "object", "labels", or "auto": an object where it has two values, is a JPG, or has soft edges.
        is_inverted: whether an object is what is darker.
    """

    kind: str = "auto"
    is_inverted: bool = False

    def check(self) -> None:
        """A UserError for another kind, or a label map that is inverted."""
        if self.kind not in KINDS:
            raise UserError(f"--mask-kind is {self.kind!r}, expected one of {', '.join(KINDS)}")
        if self.kind == "labels" and self.is_inverted:
            raise UserError("--invert is for masks of one object, and --mask-kind says labels: leave one of them out")

    def options(self) -> list[str]:
        """The options that a user gave for it."""
        given = {"--mask-kind": self.kind != "auto", "--invert": self.is_inverted}
        return [name for name, is_given in given.items() if is_given]


AS_TOLD = MaskReading()  # by the picture alone


class ReadMask(NamedTuple):
    """A picture of a mask.

    Attributes:
        pixels: (H, W) bool of one object, or integers, labels.
        task: "instance" of one object, else "semantic" or "panoptic".
        given: (H, W), the picture's own values.
        is_inverted: see :class:`MaskReading`.
        is_turned: whether the brighter of two values is the smaller one, as palettes may have it.
    """

    pixels: np.ndarray
    task: str
    given: np.ndarray
    is_inverted: bool
    is_turned: bool = False

    @property
    def prediction(self) -> Objects | Partition:
        """The mask as a prediction."""
        return as_prediction(self.pixels, self.task)

    @property
    def told(self) -> str:
        """How it was read, in words."""
        levels = len(np.unique(self.given))
        if self.task != "instance":
            return f"a label map of {levels} labels"
        if levels == 1:
            return "one object" if self.pixels.any() else NO_OBJECT
        if levels == 2:
            return f"one object, the {'darker' if self.is_inverted else 'brighter'} of two values"
        return f"one object with soft edges, {'darker' if self.is_inverted else 'brighter'} than what is around it"

    def values(self, refined: np.ndarray) -> np.ndarray:
        """A refined mask, (H, W) bool or labels, in the values of the picture: of one object the greatest, and 0."""
        if self.task != "instance":
            return refined
        top = self.given.max() if self.given.dtype.kind == "u" and self.given.max() else np.uint8(255)
        return (refined != (self.is_inverted != self.is_turned)).astype(top.dtype) * top


def read_mask(path: Path, reading: MaskReading = AS_TOLD, task: str | None = None) -> ReadMask:
    """Reads a picture of a mask.

    Args:
        task: of the refiner that takes it; None: any.

    Raises:
        FileNotFoundError, UserError: a picture that can't be read, or can't be what is said or wanted.
    """
    given = read_mask_picture(path)
    task = _task(given, path, reading.kind, task)
    if task != "instance":
        if reading.is_inverted:
            raise UserError(f"{path} is read as labels, which --invert is not for: add --mask-kind object")
        return ReadMask(exact_labels(given, path), task, given, False)
    is_turned = is_palette_turned(path)
    pixels = foreground(given, path) != (reading.is_inverted != is_turned)
    return ReadMask(pixels, task, given, reading.is_inverted, is_turned)


def as_prediction(mask: np.ndarray, task: str) -> Objects | Partition:
    """(H, W) bool of one object, or labels, as a prediction."""
    if task == "instance":
        return Objects(mask.shape, (crop_array(mask),), (1.0,), (0,))  # type: ignore[arg-type]
    segments = tuple(k for k in np.unique(mask).tolist() if k != VOID[task])
    return Partition(mask, segments, segments)


def _task(given: np.ndarray, path: Path, kind: str, task: str | None) -> str:
    if kind == "auto":
        return task or _told_task(given, path)
    wanted = "instance" if kind == "object" else "semantic"
    if task is not None and (task == "instance") != (wanted == "instance"):
        taken = "one object" if task == "instance" else "label maps"
        raise UserError(f"--mask-kind is {kind}, but this refiner takes {taken}: leave it out, or take another refiner")
    return task or wanted


def _told_task(given: np.ndarray, path: Path) -> str:
    """What a picture is: one object where it has two values, is a JPG, or has soft edges; else labels."""
    levels = len(np.unique(given))
    if levels <= 2 or given.dtype.kind == "f" or path.suffix.lower() in (".jpg", ".jpeg"):
        return "instance"
    has_labels = is_label_map(given)
    kind = f"a label map of {levels} labels" if has_labels else "one object with soft edges"
    print(f"{path} has {levels} values, and is taken for {kind}")
    return "semantic" if has_labels else "instance"
