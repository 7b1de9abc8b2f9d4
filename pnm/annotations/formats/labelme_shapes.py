"""Shapes of a labelme JSON as objects, and objects as shapes; see :mod:`pnm.annotations.formats.labelme`."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, object_masks
from pnm.annotations.formats.crop_union import clipped, united
from pnm.annotations.formats.drawn_outlines import ellipse, rectangle
from pnm.annotations.formats.entry_checks import LEAST_POINTS, points_in
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop

Size = tuple[int, int]
_POLYGONS = ("polygon", "oriented_rectangle", "rotation")  # the last is X-AnyLabeling's
_GREY = ("1", "L", "P", "I", "I;16")


def shape_type(shape: Mapping[str, Any]) -> str:
    """What a shape is; files of versions before 3.6 don't say it of polygons."""
    return str(shape.get("shape_type") or "polygon")


def is_mask(shape: Mapping[str, Any]) -> bool:
    """Whether a shape has an area, as points and lines have not, nor polygons of one or two points."""
    points = shape.get("points")
    if shape_type(shape) in _POLYGONS:
        return not isinstance(points, list) or len(points) >= LEAST_POINTS
    return shape_type(shape) in ("rectangle", "circle", "mask")


def grouped(shapes: Sequence[Mapping[str, Any]]) -> list[tuple[int, ...]]:
    """Places of the shapes of each object: those of one label and group_id are one, in the order of its first."""
    groups: dict[Any, list[int]] = {}
    for place, shape in enumerate(shapes):
        if is_mask(shape):
            group = shape.get("group_id")
            groups.setdefault(place if group is None else (shape["label"], str(group)), []).append(place)
    return [tuple(places) for places in groups.values()]


def object_of(
    places: tuple[int, ...], shapes: Sequence[Mapping[str, Any]], category: int, image: AnnotatedImage, file: str
) -> AnnotatedObject:
    """The object of some shapes of a file.

    Raises:
        UserError: a shape is damaged; the message names the file and the shape, counted from 0.
    """
    drawn = [(shapes[n], f"{file}: shapes[{n}]") for n in places]
    outlines = [_outline(one, image.size, where) for one, where in drawn if shape_type(one) != "mask"]
    crops = [_mask(one, image.size, where) for one, where in drawn if shape_type(one) == "mask"]
    if crops and outlines:
        crops += object_masks(image, [AnnotatedObject(category, tuple(outlines))])
    first = drawn[0][0]
    return AnnotatedObject(
        category,
        None if crops else tuple(outlines),
        united(crops) if crops else None,
        first["id"] if type(first.get("id")) in (int, str) else None,
        first.get("iscrowd") is True,
        first["score"] if type(first.get("score")) in (int, float) else None,
        _attributes(one for one, _ in drawn),
        places,
    )


def _outline(shape: Mapping[str, Any], size: Size, where: str) -> np.ndarray:
    points, kind = points_in(shape.get("points"), size, where), shape_type(shape)
    if kind == "rectangle" and len(points) == 2:
        return rectangle(*points[0], *points[1])
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        return points_in(ellipse(points[0, 0], points[0, 1], radius, radius).tolist(), size, where)
    if kind == "circle" or len(points) < LEAST_POINTS:
        raise UserError(f"{where}: a {kind} of {len(points)} points, expected two: draw it again in labelme")
    return points


def _mask(shape: Mapping[str, Any], size: Size, where: str) -> MaskCrop:
    points = points_in(shape.get("points"), size, where)
    if len(points) != 2:
        raise UserError(f"{where}: a mask of {len(points)} points, expected the first and the last pixel of its box")
    (left, top), (right, bottom) = np.trunc(points).astype(int).tolist()
    box = f"its box [[{left}, {top}], [{right}, {bottom}]]"
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True))) as png:
            if png.mode not in _GREY or png.size != (right - left + 1, bottom - top + 1):
                raise UserError(f"{where}: the mask is a {png.mode} image of {png.size}, expected a grey one of {box}")
            pixels = np.asarray(png) != 0
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: the mask is no PNG in base64 ({error}), expected one of {box}: restore it") from None
    return clipped(pixels, top, left, size)


def _attributes(shapes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Flags, description and what labelme passes on, of all shapes of an object; the first that has one tells it."""
    attributes: dict[str, Any] = {}
    for shape in shapes:
        for key in ("flags", "attributes"):
            attributes = (dict(shape[key]) if isinstance(shape.get(key), dict) else {}) | attributes
        if isinstance(shape.get("description"), str) and shape["description"]:
            attributes.setdefault("description", shape["description"])
    return attributes


def new_shapes(
    thing: AnnotatedObject, label: str, group: int, first: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Shapes of an object: a mask where it has a crop, else a polygon for each outline.

    Args:
        group: for objects of several polygons.
        first: the shape that the object was read from, all but the mask of which is kept.
    """
    base = dict(first) if first is not None else _new_base(thing)
    base = {"label": label, "points": [], "group_id": None, "description": "", "flags": {}} | base
    base |= {"label": label, "shape_type": "polygon", "mask": None}
    if thing.polygons is None:
        crop = thing.crop
        if crop is None or not crop.pixels.any():
            return []
        height, width = crop.pixels.shape
        corners = [[crop.left, crop.top], [crop.left + width - 1, crop.top + height - 1]]
        return [base | {"shape_type": "mask", "points": corners, "mask": _png_text(crop)}]
    if len(thing.polygons) > 1 and base["group_id"] is None:
        base["group_id"] = group
    return [base | {"points": polygon.tolist()} for polygon in thing.polygons]


def _png_text(crop: MaskCrop) -> str:
    """PNG of 8 bits, of 0 and 1, as labelme writes it, in base64."""
    file = io.BytesIO()
    Image.fromarray(crop.pixels.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _new_base(thing: AnnotatedObject) -> dict[str, Any]:
    """What labelme has a place for, and other keys, which it passes on."""
    flags = {key: value for key, value in thing.attributes.items() if isinstance(value, bool)}
    others = {key: value for key, value in thing.attributes.items() if key not in flags}
    description = others.pop("description") if isinstance(others.get("description"), str) else ""
    base = {"description": description, "flags": flags} | ({"attributes": others} if others else {})
    base |= {"id": thing.id} if thing.id is not None else {}
    base |= {"iscrowd": True} if thing.iscrowd else {}
    return base | ({"score": thing.score} if thing.score is not None else {})
