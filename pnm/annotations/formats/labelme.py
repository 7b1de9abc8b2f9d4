"""labelme: a JSON for each image, with polygons, rectangles, circles and masks. https://github.com/wkentaro/labelme

Files of versions 3 to 6, and those that X-AnyLabeling writes. Coordinates are pixels, (0, 0) the upper left corner of
the image. Where labelme's programs make pixels of a shape, they draw its outline, too; here COCO's rule holds, as in
the one that converts to COCO: the rectangle from (2, 2) to (6, 6) has 4 x 4 pixels. A circle is a polygon that is
nowhere farther than 0.02 pixels from it. The two points of a mask are its first and its last pixel.
"""

import base64
import binascii
import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from pnm.annotations.annotation_format import AnnotationFormat, Source, joined, splits_below
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category
from pnm.annotations.formats.entry_checks import label_names, leads_out, name_below, size_in
from pnm.annotations.formats.labelme_shapes import grouped, is_mask, new_shapes, object_of, shape_type
from pnm.annotations.image_folder import ImageFolder, image_size
from pnm.errors import UserError, listed
from pnm.formats.atomic_files import write_text
from pnm.formats.coco_instances import read_json
from pnm.formats.folders import files_below

NAME = "labelme"
VERSION = "5.5.0"  # of new files: what they have is known to labelme since then
_EXPECTED = 'a labelme JSON, {"shapes": [...], "imagePath": ..., "imageHeight": ..., "imageWidth": ...}'
_TRIED = 5  # files of a folder that are looked at to recognise it
_LONGEST = 2**28  # bytes of a file that is looked at


class _File(NamedTuple):
    """A file: where it is, its path below the folder named, with slashes, and its content without imageData."""

    path: Path
    name: str
    content: dict[str, Any]
    has_image_data: bool


def recognises(path: Path) -> bool:
    """Whether a file, or one of the first JSONs in a folder, has shapes and the path of an image."""
    try:
        if path.is_dir():
            return any(recognises(path / name) for name in files_below(path, ".json")[:_TRIED])
        if path.suffix.lower() != ".json" or path.stat().st_size > _LONGEST:
            return False
        return b'"shapes"' in path.read_bytes() and _is_labelme(read_json(path, _EXPECTED))
    except (UserError, OSError):
        return False


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read(source: Source) -> AnnotationSet:
    """Objects of a JSON, or of all in a folder and the folders in it; with a split, of the folder of that name.

    An image is called by its path below the folder of images, by default that of the JSONs: where imagePath leads, or
    else the image beside the JSON of the same name, or below the other folder in the same place.

    Raises:
        FileNotFoundError, UserError: there is none, it is damaged, or two are of one image.
    """
    root, files, strange = _files(source)
    images_folder = ImageFolder(source.images or root)
    images: dict[str, AnnotatedImage] = {}
    for file in files:
        image = _image(file, root, images_folder)
        if image.name in images:
            other = images[image.name].raw.path
            raise UserError(f"{other} and {file.path} are both of image {image.name}: keep one of them")
        images[image.name] = image
    labels = sorted({shape["label"] for file in files for shape in file.content["shapes"] if is_mask(shape)})
    places = {label: place for place, label in enumerate(labels)}

    def read_objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        shapes, path = image.raw.content["shapes"], str(image.raw.path)
        return tuple(
            object_of(group, shapes, places[shapes[group[0]]["label"]], image, path) for group in grouped(shapes)
        )

    categories = tuple(Category(label) for label in labels)
    remarks = _remarks(root, files, strange)
    return AnnotationSet(
        NAME, "instance", categories, tuple(images.values()), read_objects, images_folder.folder, None, remarks
    )


def _files(source: Source) -> tuple[Path, list[_File], list[str]]:
    """The folder of the files, all of them, and names of JSONs that are something else."""
    root = source.path
    if root.is_file():
        return root.parent, [_file(root, root.name, read_json(root, _EXPECTED))], []
    root = root / source.split if source.split is not None else root
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: expected one with labelme JSONs")
    contents = ((name, read_json(root / name, _EXPECTED)) for name in files_below(root, ".json"))
    files, strange = [], []
    for name, content in contents:
        if isinstance(content, dict) and "shapes" in content:
            files.append(_file(root / name, name, content))
        else:
            strange.append(name)
    if not files:
        raise UserError(f"{root} has no labelme JSON in it: expected files with {_EXPECTED}")
    return root, files, strange


def _file(path: Path, name: str, content: Any) -> _File:
    if not _is_labelme(content):
        raise UserError(f"{path} has no list of shapes, or no imagePath: expected {_EXPECTED}")
    for n, shape in enumerate(content["shapes"]):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise UserError(f"{path}: shapes[{n}] is {str(shape)[:60]}, expected one with a label")
    has_image_data = content.get("imageData") is not None
    size = content.get("imageHeight"), content.get("imageWidth")
    if has_image_data and None in size:  # as labelme did before version 4
        content["imageHeight"], content["imageWidth"] = _embedded_size(path, content["imageData"])
    return _File(path, name, content | {"imageData": None}, has_image_data)


def _embedded_size(path: Path, data: Any) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return image.height, image.width
    except (TypeError, ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: imageData is no image ({error}): set it to null, and imageHeight, imageWidth"
        ) from None


def _image(file: _File, root: Path, images: ImageFolder) -> AnnotatedImage:
    content, where = file.content, str(file.path)
    name = _image_name(file, root, images)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None and width is None:
        if name not in images:
            raise UserError(f"{where} doesn't say imageHeight and imageWidth, and {name} is not in {images.folder}")
        height, width = image_size(images.folder / name)
    height, width = size_in(height, width, f"{where}: imageHeight, imageWidth")
    notes = {key: value for part in ("attributes", "flags") for key, value in (_dict(content.get(part))).items()}
    return AnnotatedImage(name, height, width, None, notes, file)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _image_name(file: _File, root: Path, images: ImageFolder) -> str:
    text = file.content["imagePath"]
    if not isinstance(text, str) or not posixpath.basename(text.replace("\\", "/")):
        raise UserError(f"{file.path}: imagePath is {str(text)[:60]!r}, expected the path of an image")
    text = text.replace("\\", "/")
    target = os.path.normpath(os.path.join(os.path.abspath(file.path.parent), text))
    folder = os.path.abspath(images.folder)
    led = Path(target).relative_to(folder).as_posix() if Path(target).is_relative_to(folder) else None
    beside = posixpath.join(posixpath.dirname(file.name), posixpath.basename(text))
    for name in (led, beside, images.of_stem(file.name), posixpath.basename(text)):
        if name in images:
            return str(name)
    return name_below(led if led is not None and not leads_out(led) else beside, str(file.path))


def _remarks(root: Path, files: list[_File], strange: list[str]) -> tuple[str, ...]:
    shapes = [shape for file in files for shape in file.content["shapes"]]
    others = Counter(shape_type(shape) for shape in shapes if not is_mask(shape))
    full = Counter(shape_type(shape) for shape in shapes if shape_type(shape) in ("rectangle", "circle"))
    lines = [f"{root}: {n} shapes left out that have no area: {kind}" for kind, n in sorted(others.items())]
    lines += [f"{root}: {n} shapes read as what they enclose: {kind}" for kind, n in sorted(full.items())]
    return (*lines, *([f"{root}: {len(strange)} other JSONs left out: {listed(strange)}"] if strange else []))


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``<split>/<image>.json`` of each image; those that came from labelme keep what else is in them, and their names.

    imagePath leads to the image where that is known; in a JSON that came from labelme it stays: such JSONs belong where
    the ones were that they were made of. Objects without any pixel have no place.
    """
    for split, annotations in parts.items():
        is_own = annotations.format == NAME
        names = label_names([image.name for image in annotations.images], ".json")
        for image in annotations.images:
            path = output / split / (image.raw.name if is_own else names[image.name])
            content = _content(annotations, image, path)
            write_text(path, json.dumps(content, indent=2))


def _content(annotations: AnnotationSet, image: AnnotatedImage, path: Path) -> dict[str, Any]:
    file: _File | None = image.raw if annotations.format == NAME else None
    flags = {key: value for key, value in image.attributes.items() if isinstance(value, bool)}
    others = {key: value for key, value in image.attributes.items() if key not in flags}
    content: dict[str, Any] = {"version": VERSION, "flags": flags, "shapes": []}
    content["imagePath"] = PurePosixPath(image.name).name  # beside the JSON
    content |= {"imageData": None} | ({"attributes": others} if others else {})
    content |= file.content if file else {}
    content |= {"imageHeight": image.height, "imageWidth": image.width}
    if file is not None and file.has_image_data:
        content["imageData"] = read_json(file.path, _EXPECTED)["imageData"]
    if file is None and annotations.folder is not None and (annotations.folder / image.name).is_file():
        content["imagePath"] = _way(annotations.folder / image.name, path.parent)
    return content | {"shapes": _shapes(annotations, image, file.content["shapes"] if file else [])}


def _way(image: Path, folder: Path) -> str:
    """Path of an image from a folder, with slashes; on Windows it is absolute if it is on another drive."""
    try:
        return Path(os.path.relpath(image, folder)).as_posix()
    except ValueError:
        return image.resolve().as_posix()


def _shapes(annotations: AnnotationSet, image: AnnotatedImage, old: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The shapes of a file: those that are no masks, and those of objects as they were, stay in their places."""
    group = max([0, *(shape["group_id"] for shape in old if type(shape.get("group_id")) is int)])
    at: dict[int, list[dict[str, Any]]] = {n: [shape] for n, shape in enumerate(old) if not is_mask(shape)}
    added: list[dict[str, Any]] = []
    for thing in annotations.read(image):
        label, group = annotations.categories[thing.category].name, group + 1
        places: tuple[int, ...] = thing.raw if old and thing.raw else ()
        if places and not thing.redrawn:
            at |= {n: [old[n] | {"label": label}] for n in places}
        elif places:
            at[places[0]] = new_shapes(thing, label, group, old[places[0]])
        else:
            added += new_shapes(thing, label, group)
    return [shape for _, shapes in sorted(at.items()) for shape in shapes] + added


FORMAT = AnnotationFormat(
    NAME,
    "labelme (a folder with a JSON of shapes for each image)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=True,
    no_place_for=("empty objects",),
    image_place=joined,
    splits=lambda path: splits_below(path, ".json"),
)
