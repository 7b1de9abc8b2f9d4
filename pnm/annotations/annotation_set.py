"""One type for the annotations of a data set, whatever files they come from: read image by image, changed lazily.

A set of instances gives the objects of an image, a semantic one an array of classes, a panoptic one segments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.masks.crops import EMPTY, MaskCrop, crop_runs
from pnm.masks.runs import decode_masks

TASKS = ("instance", "semantic", "panoptic")
NO_CLASS = -1  # in semantic labels: void, ignored
NO_SEGMENT = 0  # in ids of segments
CHANGED = "changed"  # format of a set whose classes or task are no longer those of its files: raw entries don't hold
Id = int | str


class Category(NamedTuple):
    """A class.

    Attributes:
        name: as the format has it; names of a set differ.
        id: what the format calls it by, where that is a number; None where names are all there is.
        isthing: countable. False of stuff, where the format tells them apart.
        raw: what the file has of it, beside.
    """

    name: str
    id: int | None = None
    isthing: bool = True
    raw: Mapping[str, Any] = {}


@dataclass(frozen=True)
class AnnotatedImage:
    """An image of a set.

    Attributes:
        name: its file below the folder of images, with slashes ("street/0001.jpg"); images of a set differ in it.
        height, width: in pixels.
        id: what the format calls it by, if anything but its name.
        attributes: what people noted of it, as JSON has it.
        raw: what the file has of it. A writer of the same format starts from it, so that nothing is lost.
    """

    name: str
    height: int
    width: int
    id: Id | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    raw: Any = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True)
class AnnotatedObject:
    """An object, or a segment of a panoptic image.

    Attributes:
        category: place in the categories of the set, from 0.
        polygons: of its outline, each (N, 2) float64 of (x, y) in pixels, N at least 3, of which the object is the
            union, by COCO's rule; None if it is ``crop``. A segment has neither: the image has its pixels.
        crop: its mask, where the file holds pixels or a refiner made them.
        id: what the file calls it, a number or text.
        iscrowd: it stands for many.
        score: of a prediction.
        attributes: what people noted of it, as JSON has it ({"occluded": true}).
        raw: as that of :class:`AnnotatedImage`.
        redrawn: its mask is not that of ``raw`` any more.
    """

    category: int
    polygons: tuple[np.ndarray, ...] | None = None
    crop: MaskCrop | None = None
    id: Id | None = None
    iscrowd: bool = False
    score: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    raw: Any = None
    redrawn: bool = False

    def with_crop(self, crop: MaskCrop) -> "AnnotatedObject":
        """The object with another mask."""
        return replace(self, polygons=None, crop=crop, redrawn=True)


class Segments(NamedTuple):
    """A panoptic image.

    Attributes:
        ids: (H, W) int32, that of the segment of each pixel; 0 is void.
        segments: whose ``id`` is in ``ids``, in the order of the file.
    """

    ids: np.ndarray
    segments: tuple[AnnotatedObject, ...]


Content = tuple[AnnotatedObject, ...] | np.ndarray | Segments


@dataclass(frozen=True)
class AnnotationSet:
    """Annotations of one task.

    Attributes:
        format: name of the format that they were read from, e.g. "labelme".
        task: "instance", "semantic" or "panoptic".
        categories: in their order in the format.
        images: those that are annotated, if only by saying that nothing is on them.
        read: an image -> what is on it: of "instance" its objects, in the order of the file (later ones lie on top);
            of "semantic" (H, W) int32 places in ``categories``, ``NO_CLASS`` where there is none; of "panoptic"
            :class:`Segments`. Raises UserError of a damaged file.
        folder: of the image files, where it is known.
        raw: what the files have of the whole (info, licences, ...).
        remarks: a line for each kind of thing that was left out.
    """

    format: str
    task: str
    categories: tuple[Category, ...]
    images: tuple[AnnotatedImage, ...]
    read: Callable[[AnnotatedImage], Any]
    folder: Path | None = None
    raw: Any = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, names in (("classes", [c.name for c in self.categories]), ("images", [i.name for i in self.images])):
            twice = first_twice(names)
            if twice is not None:
                raise UserError(
                    f"{self.format}: two {what} are called {twice}; rename one, so that they can be told apart"
                )

    def only(self, images: Sequence[AnnotatedImage]) -> "AnnotationSet":
        """Some of the images."""
        return replace(self, images=tuple(images))


def first_twice(values: Sequence[Any]) -> Any:
    """The first value that was there before; None if all differ."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def object_masks(image: AnnotatedImage, objects: Sequence[AnnotatedObject]) -> list[MaskCrop]:
    """The pixels of each object, polygons by COCO's rule; what lies outside of the image is cut off."""
    drawn = [thing for thing in objects if thing.polygons is not None]
    outlines = [[outline.reshape(-1).tolist() for outline in thing.polygons or ()] for thing in drawn]
    runs = decode_masks(outlines, *image.size, lambda n: f"image {image.name}, object {drawn[n].id}")
    of_drawn = iter(range(len(drawn)))
    return [crop_runs(runs, next(of_drawn)) if thing.polygons is not None else thing.crop or EMPTY for thing in objects]
