"""CVAT for images 1.1: an XML with polygons, masks and other shapes of each image.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/. Coordinates are pixels, (0, 0) the upper left corner
of the image. A mask is runs along the rows of its box, the first of background. Boxes and ellipses are read as what
they enclose; an ellipse is a polygon that is nowhere farther than 0.02 pixels from it. Shapes of one label and group
are one object, and z_order tells which lies on top.
"""

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category, first_twice
from pnm.annotations.formats.cvat_shapes import AREAS, grouped, new_shapes, object_of, written_attributes
from pnm.annotations.formats.entry_checks import name_below, size_in
from pnm.annotations.formats.safe_xml import read_xml, xml_text
from pnm.errors import UserError
from pnm.formats.atomic_files import write_text

NAME = "cvat"
_FILE = "annotations.xml"
_EXPECTED = 'an XML of "CVAT for images 1.1"'
_HEAD = 2**14  # bytes that are looked at to recognise a file
_FULL = ("box", "ellipse")


def recognises(path: Path) -> bool:
    """Whether a file, or annotations.xml in a folder, begins as CVAT's do."""
    try:
        path = path / _FILE if path.is_dir() else path
        if path.suffix.lower() != ".xml":
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return (
        re.search(rb"<annotations[\s>]", head) is not None
        and re.search(rb"<(meta|image|version)[\s>]", head) is not None
    )


def read(source: Source) -> AnnotationSet:
    """Objects of an XML, or of the annotations.xml in a folder; with a split, of the images of that subset.

    Raises:
        FileNotFoundError, UserError: there is none, it is damaged, or of a video.
    """
    path = source.path / _FILE if source.path.is_dir() else source.path
    root = read_xml(path, _EXPECTED)
    if root.tag != "annotations":
        raise UserError(f"{path} is an XML of <{root.tag}>, expected {_EXPECTED}, which is one of <annotations>")
    if root.find("track") is not None:
        raise UserError(f'{path} is "CVAT for video", whose masks lie between frames: export "CVAT for images 1.1"')
    rows = _rows(root, source.split, path)
    images = tuple(_image(row, n, path) for n, row in enumerate(rows))
    twice = first_twice([image.name for image in images])
    if twice is not None:
        raise UserError(f"{path}: two images are called {twice}: read one subset (--split), or rename one")
    categories = _categories(root, rows, path)
    places = {category.name: place for place, category in enumerate(categories)}

    def read_objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        shapes = list(image.raw)
        return tuple(
            object_of(group, shapes, places[shapes[group[0]].get("label", "")], image, str(path))
            for group in grouped(shapes)
        )

    rest = Element(root.tag, root.attrib)
    rest.extend(child for child in root if child.tag != "image")
    return AnnotationSet(NAME, "instance", categories, images, read_objects, source.images, rest, _remarks(rows, path))


def _rows(root: Element, split: str | None, path: Path) -> list[Element]:
    rows = root.findall("image")
    if split is None:
        return rows
    subset = (root.findtext("meta/task/subset") or root.findtext("meta/job/subset") or "").strip()
    subsets = [row.get("subset", subset) for row in rows]
    if split not in subsets:
        there = ", ".join(sorted({name for name in subsets if name})) or "none"
        raise UserError(f"{path} has no images of subset {split}; there are {there}")
    return [row for row, name in zip(rows, subsets) if name == split]


def _image(row: Element, n: int, path: Path) -> AnnotatedImage:
    where = f"{path}: image {n}"
    name = name_below(row.get("name"), where)
    height, width = (int(text) if text.isdecimal() else text for text in (row.get("height", ""), row.get("width", "")))
    number = row.get("id", "")
    size = size_in(height, width, f"{where}, {name}")
    return AnnotatedImage(name, *size, int(number) if number.isdecimal() else None, raw=row)


def _categories(root: Element, rows: Sequence[Element], path: Path) -> tuple[Category, ...]:
    """Labels as the project lists them, those of points of skeletons left out; then others, as they appear."""
    listed = [one for one in root.findall("meta/*/labels/label") if one.find("parent") is None]
    names = {(one.findtext("name") or "").strip(): {"color": one.findtext("color")} for one in listed}
    for row in rows:
        for n, shape in enumerate(row):
            if shape.tag in AREAS and not shape.get("label"):
                raise UserError(f"{path}: image {row.get('name')}, shape {n}, a {shape.tag}, has no label: give it one")
            if shape.tag in AREAS:
                names.setdefault(shape.get("label", ""), {})
    return tuple(Category(name, raw=raw) for name, raw in names.items())


def _remarks(rows: Sequence[Element], path: Path) -> tuple[str, ...]:
    counts = Counter(shape.tag for row in rows for shape in row)
    others = [f"{path}: {n} shapes left out that have no area: {tag}" for tag, n in counts.items() if tag not in AREAS]
    return (
        *others,
        *(f"{path}: {counts[tag]} shapes read as what they enclose: {tag}" for tag in _FULL if tag in counts),
    )


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``annotations_<split>.xml`` of each split, or ``annotations.xml``; what came from CVAT keeps what else is in it.

    Objects without any pixel have no place.
    """
    for split, annotations in parts.items():
        own = annotations.format == NAME and annotations.raw is not None
        root = copy.deepcopy(annotations.raw) if own else _new_root(annotations)
        for n, image in enumerate(annotations.images):
            row = Element("image", image.raw.attrib) if own else Element("image", id=str(n))
            row.attrib |= {"name": image.name, "width": str(image.width), "height": str(image.height)}
            if split and not own:
                row.set("subset", split)
            row.extend(_shapes(annotations, image, list(image.raw) if own else []))
            root.append(row)
        write_text(output / (f"annotations_{split}.xml" if split else _FILE), xml_text(root))


def _new_root(annotations: AnnotationSet) -> Element:
    """What comes before the images: the labels and their attributes, by which CVAT makes a task."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    found: list[dict[str, None]] = [{} for _ in annotations.categories]
    for image in annotations.images:
        for thing in annotations.read(image):
            found[thing.category] |= dict.fromkeys(written_attributes(thing))
    for category, names in zip(annotations.categories, found):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = category.name
        attributes = SubElement(label, "attributes")
        for name in sorted(names):
            row = SubElement(attributes, "attribute")
            for key, text in (("name", name), ("mutable", "False"), ("input_type", "text")):
                SubElement(row, key).text = text
            for key in ("default_value", "values"):
                SubElement(row, key)
    return root


def _shapes(annotations: AnnotationSet, image: AnnotatedImage, old: list[Element]) -> list[Element]:
    """The shapes of an image: those that are no masks, and those of objects as they were, stay in their places."""
    at = {n: [copy.deepcopy(shape)] for n, shape in enumerate(old) if shape.tag not in AREAS}
    added: list[Element] = []
    group = max([0, *(int(text) for shape in old if (text := shape.get("group_id", "")).isdecimal())])
    for thing in annotations.read(image):
        label, group = annotations.categories[thing.category].name, group + 1
        places: tuple[int, ...] = thing.raw if old and thing.raw else ()
        if places and not thing.redrawn:
            for n in places:
                at[n] = [copy.deepcopy(old[n])]
                at[n][0].set("label", label)
        elif places:
            at[places[0]] = new_shapes(thing, label, group, old[places[0]])
        else:
            added += new_shapes(thing, label, group)
    return [shape for _, shapes in sorted(at.items()) for shape in shapes] + added


def splits(path: Path) -> tuple[str, ...]:
    """The subsets, in lower case as Datumaro calls them or not; () if not all images are of one."""
    file = path / _FILE if path.is_dir() else path
    names = [row.get("subset", "") for row in read_xml(file, _EXPECTED).findall("image")]
    return tuple(dict.fromkeys(names)) if all(names) else ()


FORMAT = AnnotationFormat(
    NAME,
    "CVAT for images 1.1 (an XML)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=False,
    names_files=False,
    no_place_for=("empty objects",),
    splits=splits,
)
