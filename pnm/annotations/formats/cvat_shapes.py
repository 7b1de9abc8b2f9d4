"""Shapes of CVAT's XML as objects, and objects as shapes; see :mod:`pnm.annotations.formats.cvat`."""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, object_masks
from pnm.annotations.formats.crop_union import clipped, united
from pnm.annotations.formats.drawn_outlines import ellipse, rectangle, turned
from pnm.annotations.formats.entry_checks import LEAST_POINTS, points_in
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop
from pnm.masks.runs import MOST_PIXELS

AREAS = ("polygon", "mask", "box", "ellipse")
_OWN = ("iscrowd", "score")  # attributes that are more than notes
_PLACES = ("points", "rle", "left", "top", "width", "height", "xtl", "ytl", "xbr", "ybr", "cx", "cy", "rx", "ry")
_DRAWN = (*_PLACES, "rotation")


def grouped(shapes: Sequence[Element]) -> list[tuple[int, ...]]:
    """Places of the shapes of each object, the lowest first: those of one label and group are one."""
    groups: dict[Any, list[int]] = {}
    for place, shape in enumerate(shapes):
        if shape.tag in AREAS:
            group = shape.get("group_id", "0").strip()
            groups.setdefault(place if group in ("", "0") else (shape.get("label"), group), []).append(place)
    return sorted((tuple(places) for places in groups.values()), key=lambda places: _height(shapes[places[0]]))


def _height(shape: Element) -> float:
    try:
        return float(shape.get("z_order", "0"))
    except ValueError:
        return 0.0


def object_of(
    places: tuple[int, ...], shapes: Sequence[Element], category: int, image: AnnotatedImage, file: str
) -> AnnotatedObject:
    """The object of some shapes of an image.

    Raises:
        UserError: a shape is damaged; the message names the file, the image and the shape, counted from 0.
    """
    drawn = [(shapes[n], f"{file}: image {image.name}, shape {n}, a {shapes[n].tag}") for n in places]
    outlines = [_outline(shape, image.size, where) for shape, where in drawn if shape.tag != "mask"]
    crops = [_mask(shape, image.size, where) for shape, where in drawn if shape.tag == "mask"]
    if crops and outlines:
        crops += object_masks(image, [AnnotatedObject(category, tuple(outlines))])
    attributes: dict[str, Any] = {}
    for shape, _ in drawn:
        attributes = attributes_of(shape) | attributes
    iscrowd, score = attributes.pop("iscrowd", False) is True, _score(attributes.pop("score", None))
    return AnnotatedObject(
        category,
        None if crops else tuple(outlines),
        united(crops) if crops else None,
        iscrowd=iscrowd,
        score=score,
        attributes=attributes,
        raw=places,
    )


def attributes_of(shape: Element) -> dict[str, Any]:
    """Attributes by their names, "true" and "false" as bool, and whether it is occluded."""
    words = {"true": True, "false": False}
    texts = {str(row.get("name")): row.text or "" for row in shape.iter("attribute")}
    attributes: dict[str, Any] = {name: words.get(text.lower(), text) for name, text in texts.items()}
    return attributes | ({"occluded": True} if shape.get("occluded") == "1" else {})


def _score(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _numbers(shape: Element, keys: Sequence[str], where: str) -> list[float]:
    try:
        return [float(shape.get(key, "")) for key in keys]
    except ValueError:
        there = {key: shape.get(key) for key in keys}
        raise UserError(f"{where}, has {there}, expected numbers: export it from CVAT again") from None


def _outline(shape: Element, size: tuple[int, int], where: str) -> np.ndarray:
    if shape.tag == "polygon":
        text = shape.get("points", "")
        try:
            pairs = [[float(part) for part in pair.split(",")] for pair in text.split(";")]
        except ValueError:
            raise UserError(f'{where}, has points "{text[:60]}", expected "x,y;x,y;..."') from None
        if len(pairs) < LEAST_POINTS:
            raise UserError(f"{where}, has {len(pairs)} points, expected three or more: remove it")
        return points_in(pairs, size, where)
    keys = ("xtl", "ytl", "xbr", "ybr") if shape.tag == "box" else ("cx", "cy", "rx", "ry")
    values = _numbers(shape, keys, where)
    points_in([values[:2], values[2:]], size, where)
    turn = _numbers(shape, ["rotation"], where)[0] if shape.get("rotation") else 0.0
    if shape.tag == "box":
        points, centre = rectangle(*values), ((values[0] + values[2]) / 2, (values[1] + values[3]) / 2)
    else:
        points, centre = ellipse(*values), (values[0], values[1])
    return points_in((turned(points, centre, turn) if turn else points).tolist(), size, where)


def _mask(shape: Element, size: tuple[int, int], where: str) -> MaskCrop:
    left, top, width, height = (int(v) for v in np.nan_to_num(_numbers(shape, _PLACES[2:6], where), posinf=-1))
    text = shape.get("rle", "")
    try:
        counts = np.array([int(part) for part in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise UserError(f'{where}, has rle "{text[:60]}", expected counts, "0, 3, 2, ..."') from None
    if not (0 < height * width <= MOST_PIXELS and counts.min() >= 0 and _total(counts) == height * width):
        raise UserError(
            f"{where}, has an rle whose counts don't add up to its {height} x {width}: export it from CVAT again"
        )
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    return clipped(pixels, top, left, size)


def _total(counts: np.ndarray) -> int:
    return int(counts.sum()) if counts.max() <= MOST_PIXELS and len(counts) <= MOST_PIXELS else -1


def rle_text(pixels: np.ndarray) -> str:
    """CVAT's RLE of an (h, w) mask: lengths of runs along its rows, the first of background."""
    row = np.concatenate([[False], pixels.reshape(-1)])
    turns = np.flatnonzero(row[1:] != row[:-1])
    return ", ".join(map(str, np.diff([0, *turns, pixels.size]).tolist()))


def new_shapes(thing: AnnotatedObject, label: str, group: int, first: Element | None = None) -> list[Element]:
    """Shapes of an object: a mask where it has a crop, else a polygon for each outline.

    Args:
        group: for objects of several polygons.
        first: the shape that the object was read from, all but the mask of which is kept.
    """
    if thing.polygons is None and (thing.crop is None or not thing.crop.pixels.any()):
        return []
    base = Element("polygon") if first is None else copy.deepcopy(first)
    if first is None:
        base.attrib.update(source="manual", occluded=str(int(thing.attributes.get("occluded") is True)), z_order="0")
        for name, value in written_attributes(thing).items():
            SubElement(base, "attribute", name=name).text = value
    base.set("label", label)
    for key in _DRAWN:
        base.attrib.pop(key, None)
    if thing.polygons is None:
        assert thing.crop is not None
        return [_mask_shape(base, thing.crop)]
    if len(thing.polygons) > 1 and base.get("group_id", "0") == "0":
        base.set("group_id", str(group))
    return [_polygon_shape(base, polygon) for polygon in thing.polygons]


def _mask_shape(base: Element, crop: MaskCrop) -> Element:
    height, width = crop.pixels.shape
    base.tag = "mask"
    base.attrib.update(rle=rle_text(crop.pixels), left=str(crop.left), top=str(crop.top))
    base.attrib.update(width=str(width), height=str(height))
    return base


def _polygon_shape(base: Element, polygon: np.ndarray) -> Element:
    shape = copy.deepcopy(base)
    shape.tag = "polygon"
    shape.set("points", ";".join(f"{x!r},{y!r}" for x, y in polygon.tolist()))
    return shape


def written_attributes(thing: AnnotatedObject) -> Mapping[str, str]:
    """Attributes as text, but for "occluded"; that it is a crowd and its score are among them."""
    values = {key: value for key, value in thing.attributes.items() if key not in ("occluded", *_OWN)}
    values |= {"iscrowd": True} if thing.iscrowd else {}
    values |= {"score": thing.score} if thing.score is not None else {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
