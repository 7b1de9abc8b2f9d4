"""Images of segments: read from a panoptic PNG, and seen as instances or classes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pnm.annotations.annotation_set import NO_CLASS, NO_SEGMENT, AnnotatedImage, AnnotatedObject, Content, Segments
from pnm.errors import UserError, listed
from pnm.formats.label_png import read_panoptic_png
from pnm.masks.crops import crop_segments


class PanopticFile(NamedTuple):
    """``raw`` of an image of a panoptic JSON.

    Attributes:
        png: of the ids.
        annotation: of the JSON.
        entry: in the JSON's images, if there is one.
    """

    png: Path
    annotation: Mapping[str, Any]
    entry: Mapping[str, Any]


def reader_of(
    task: str, path: Path, places: Mapping[int, int], things: Sequence[int]
) -> Callable[[AnnotatedImage], Content]:
    """What reads an image whose ``raw`` is a :class:`PanopticFile`.

    Args:
        task: "panoptic", "instance" or "semantic".
        path: of the JSON, for messages.
        places: in the categories by their ids.
        things: places of those that are countable.
    """

    def read_segments(image: AnnotatedImage) -> Segments:
        ids = _ids(image, path)
        segments = tuple(
            AnnotatedObject(
                places[entry["category_id"]],
                id=entry["id"],
                iscrowd=bool(entry.get("iscrowd", 0)),
                attributes=entry["attributes"] if isinstance(entry.get("attributes"), dict) else {},
                raw=entry,
            )
            for entry in image.raw.annotation["segments_info"]
        )
        return Segments(ids, segments)

    if task == "panoptic":
        return read_segments
    if task == "instance":
        return lambda image: instances_of(read_segments(image), things)
    return lambda image: classes_of(read_segments(image))


def _ids(image: AnnotatedImage, path: Path) -> np.ndarray:
    png, entries = image.raw.png, image.raw.annotation["segments_info"]
    ids = read_panoptic_png(png)
    if ids.shape != image.size:
        raise UserError(
            f"{png} is {ids.shape[0]} x {ids.shape[1]}, {path} says {image.height} x {image.width}: restore the PNG"
        )
    present, known = set(np.unique(ids).tolist()) - {NO_SEGMENT}, {entry["id"] for entry in entries}
    if present - known:
        raise UserError(
            f"{png} has segment ids {listed(sorted(present - known))} that {path} doesn't list for image {image.id}: "
            "list them, or make their pixels black"
        )
    if known - present:
        raise UserError(
            f"{path} lists segments {listed(sorted(known - present))} for image {image.id} that have no pixel in {png}:"
            " take them out"
        )
    return ids


def instances_of(content: Segments, things: Sequence[int]) -> tuple[AnnotatedObject, ...]:
    """Segments of some classes as objects, whose ``category`` is the place in ``things``."""
    of_thing = {place: n for n, place in enumerate(things)}
    kept = [segment for segment in content.segments if segment.category in of_thing]
    crops = crop_segments(content.ids, [segment.id for segment in kept if isinstance(segment.id, int)])
    return tuple(
        AnnotatedObject(
            of_thing[one.category], None, crop, one.id, one.iscrowd, one.score, one.attributes, one.raw, one.redrawn
        )
        for one, crop in zip(kept, crops, strict=True)
    )


def classes_of(content: Segments) -> np.ndarray:
    """(H, W) int32 classes of the segments, ``NO_CLASS`` where there is none."""
    present, at = np.unique(content.ids, return_inverse=True)
    category = {segment.id: segment.category for segment in content.segments}
    table = np.array([category.get(k, NO_CLASS) for k in present.tolist()], np.int32)
    labels: np.ndarray = table[at.reshape(content.ids.shape)]
    return labels
