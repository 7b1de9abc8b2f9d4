"""Regions of Label Studio's tasks as objects, and objects as regions; see :mod:`.label_studio`."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, object_masks
from pnm.annotations.formats.brush_rle import decode_brush, encode_brush
from pnm.annotations.formats.drawn_outlines import ellipse, rectangle, turned
from pnm.annotations.formats.entry_checks import LEAST_POINTS, points_in
from pnm.annotations.outlines import mask_outlines, one_outline
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, crop_array, paste

_KINDS = ("brush", "polygon", "rectangle", "ellipse")
NOTES = ("choices", "textarea", "number", "rating")  # of a region, with its id
_DECIMALS = 9  # of a pixel: what percents add to a coordinate is beyond
Row = Mapping[str, Any]


def kind_of(row: Row) -> str | None:
    """ "brush", "polygon", "rectangle" or "ellipse", of a region that has a label; None of anything else."""
    value, text = row.get("value"), str(row.get("type"))
    if not isinstance(value, dict) or not labels_of(row):
        return None
    if text.removesuffix("labels") in _KINDS:
        return text.removesuffix("labels")
    if text != "labels":
        return None
    keys = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}
    return next((kind for key, kind in keys.items() if key in value), None)


def labels_of(row: Row) -> list[str]:
    """Labels of a region."""
    value, text = row.get("value"), str(row.get("type"))
    labels = value.get(text) if isinstance(value, dict) and text.endswith("labels") else None
    return [str(label) for label in labels] if isinstance(labels, list) else []


def object_of(
    number: int, rows: Sequence[Row], category: int, image: AnnotatedImage, where: str, score: float | None
) -> AnnotatedObject:
    """The object of the region of a number.

    Args:
        where: the file and the task, for messages.
        score: of regions that have none.

    Raises:
        UserError: it is damaged, or the image was turned; the message has ``where``, the file and the task.
    """
    row, where = rows[number], f"{where}, result[{number}]"
    size = row.get("original_height", image.height), row.get("original_width", image.width)
    if size != image.size:
        raise UserError(f"{where} is of an image of {size[0]} x {size[1]}, expected {image.height} x {image.width}")
    if row.get("image_rotation") not in (None, 0):
        raise UserError(
            f"{where} is of an image turned by {row['image_rotation']} degrees: turn it back in Label Studio"
        )
    crop, outline = None, None
    if kind_of(row) == "brush":
        crop = crop_array(decode_brush(row["value"].get("rle"), image.size, where))
    else:
        outline = _outline(row, image.size, where)
    own_score = row.get("score")
    return AnnotatedObject(
        category,
        None if outline is None else (outline,),
        crop,
        row["id"] if type(row.get("id")) in (int, str) else None,
        score=own_score if type(own_score) in (int, float) else score,
        attributes=_notes(row.get("id"), rows),
        raw=number,
    )


def _outline(row: Row, size: tuple[int, int], where: str) -> np.ndarray:
    value, kind = row["value"], kind_of(row)
    scale = np.array([size[1], size[0]]) / 100
    if kind == "polygon":
        points = np.round(points_in(value.get("points"), (100, 100), where) * scale, _DECIMALS)
        if len(points) < LEAST_POINTS:
            raise UserError(f"{where} is a polygon of {len(points)} points, expected three or more: remove it")
        return points
    keys = ("x", "y", "width", "height") if kind == "rectangle" else ("x", "y", "radiusX", "radiusY")
    pairs = [[value.get(keys[0]), value.get(keys[1])], [value.get(keys[2]), value.get(keys[3])]]
    (x, y), (across, down) = np.round(points_in(pairs, (100, 100), where) * scale, _DECIMALS).tolist()
    points = rectangle(x, y, x + across, y + down) if kind == "rectangle" else ellipse(x, y, across, down)
    turn = value.get("rotation", 0)
    if type(turn) not in (int, float):
        raise UserError(f"{where}: rotation is {reprlib.repr(turn)}, expected degrees")
    # A rectangle is turned about its upper left corner, an ellipse about its centre.
    return points_in((turned(points, (x, y), turn) if turn else points).tolist(), size, where)


def _notes(number: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """What was chosen or written of a region, by the names of the controls."""
    notes = {}
    for row in rows:
        if number is not None and row.get("id") == number and str(row.get("type")) in NOTES:
            value = row["value"].get(row["type"]) if isinstance(row.get("value"), dict) else None
            notes[str(row.get("from_name"))] = value[0] if isinstance(value, list) and len(value) == 1 else value
    return notes


def new_region(thing: AnnotatedObject, name: Any, label: str, image: AnnotatedImage) -> dict[str, Any] | None:
    """A brush region of an object, or a polygon where it has one; None if it has no pixel."""
    is_polygon = thing.polygons is not None and len(thing.polygons) == 1
    base: dict[str, Any] = {"id": name, "origin": "manual", "to_name": "image", "image_rotation": 0}
    base |= {"original_width": image.width, "original_height": image.height}
    base |= {"score": thing.score} if thing.score is not None else {}
    crop = object_masks(image, [thing])[0]
    if is_polygon and thing.polygons:
        return base | _polygon(thing.polygons[0], label, image) | {"from_name": "polygon", "type": "polygonlabels"}
    if not crop.pixels.any():
        return None
    return base | _brush(crop, label, image) | {"from_name": "brush", "type": "brushlabels"}


def redrawn_region(thing: AnnotatedObject, row: Row, label: str, image: AnnotatedImage, brush: str) -> Row | None:
    """The region with another mask: polygons stay one, of one outline, all others are brushed.

    Args:
        brush: name of the control for brushes.
    """
    crop = object_masks(image, [thing])[0]
    if not crop.pixels.any():
        return None
    kept = {key: value for key, value in row.items() if key not in ("value", "type")}
    own_type = row.get("type") == "labels"
    if kind_of(row) == "polygon":
        kept |= _polygon(one_outline(mask_outlines(crop)), label, image)
        kind = "polygonlabels"
    else:
        kept |= _brush(crop, label, image)
        kind = "brushlabels"
        if kind_of(row) != "brush" and not own_type:
            kept["from_name"] = brush
    labels = labels_of(row)
    labels = [label, *labels[1:]]
    value = {k: v for k, v in kept["value"].items() if k != kind} | {"labels" if own_type else kind: labels}
    return kept | {"type": "labels" if own_type else kind, "value": value}


def _polygon(outline: np.ndarray, label: str, image: AnnotatedImage) -> dict[str, Any]:
    points = (outline * 100 / (image.width, image.height)).tolist()
    return {"value": {"points": points, "closed": True, "polygonlabels": [label]}}


def _brush(crop: MaskCrop, label: str, image: AnnotatedImage) -> dict[str, Any]:
    rle = encode_brush(paste(crop, *image.size))
    return {"value": {"format": "rle", "rle": rle, "brushlabels": [label]}}
