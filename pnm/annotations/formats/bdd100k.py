"""BDD100K's bitmasks: PNGs of four bytes a pixel, class, attributes and number of the object.

https://doc.bdd100k.com/format.html#bitmask: red is the class from 1 on, 0 is background; green has the bits
``truncated << 3 | occluded << 2 | crowd << 1 | ignored``; the object's number is ``blue << 8 | alpha``. A folder of
splits, ``bitmasks/{train,val}/*.png``, with the images in ``images/10k/{train,val}/*.jpg``.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pnm.annotations.annotation_format import AnnotationFormat, Source, joined, splits_below
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet
from pnm.annotations.formats.class_lists import FILES, check_same_classes, list_beside, list_text, read_list
from pnm.annotations.formats.label_maps import first_png, names_as_categories, png_names
from pnm.annotations.formats.painted_objects import NOTHING, Covered, numbers_within
from pnm.annotations.formats.png_encoding import colour_png
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.folders import label_pngs_below
from pnm.formats.label_png import decode_panoptic_png, png_size_of, read_bytes
from pnm.masks.crops import MaskCrop, crop_segments

NAME = "bdd100k"
CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
_BITS = {"truncated": 8, "occluded": 4, "ignored": 1}
_CROWD, _KNOWN_BITS = 2, 15
_MOST_CLASSES, _MOST_OBJECTS = 255, 2**16 - 1
_LIKELY_CLASSES = 40  # that a folder is recognised by: the most that BDD100K has, of panoptic bitmasks
_RGBA, _KIND_AT = 6, 25
logger = logging.getLogger(__name__)


def recognises(path: Path) -> bool:
    """Whether a folder's first PNG has four bytes a pixel, of which no class and attribute is too large."""
    try:
        png = first_png(path) if path.is_dir() else None
        if png is None:
            return False
        with png.open("rb") as file:
            if file.read(_KIND_AT + 1)[_KIND_AT:] != bytes([_RGBA]):
                return False
        pixels = _pixels(png)
    except (OSError, UserError):
        return False
    return pixels[..., 0].max() <= _LIKELY_CLASSES and pixels[..., 1].max() <= _KNOWN_BITS


def read(source: Source) -> AnnotationSet:
    """Objects of the PNGs in a folder, or in its folder ``source.split``.

    Raises:
        FileNotFoundError: no such folder, or no PNG in it. What is wrong with a PNG is told when its image is read.
    """
    folder = source.path / source.split if source.split else source.path
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected one with bitmask PNGs")
    files = label_pngs_below(folder)
    if not files:
        raise FileNotFoundError(f"{folder} has no PNG in it: expected a bitmask for each image")
    images = _image_folder(source, folder)
    known = ImageFolder(images) if images is not None else None
    annotated = [
        AnnotatedImage((known and known.of_stem(file)) or f"{file[:-4]}.jpg", *png_size_of(png), raw=png)
        for file, png in ((file, folder / file) for file in files)
    ]
    names = _class_names(source, folder)

    def read_objects(image: AnnotatedImage) -> tuple[AnnotatedObject, ...]:
        return _objects(image.raw, len(names))

    return AnnotationSet(
        NAME, "instance", names_as_categories(names, 1), tuple(annotated), read_objects, images, tuple(names)
    )


def _class_names(source: Source, folder: Path) -> Sequence[str]:
    if source.classes is not None:
        return source.classes
    beside = list_beside(folder, source.path, source.path.parent)
    return CLASSES if beside is None else read_list(beside)


def _image_folder(source: Source, labels: Path) -> Path | None:
    """The images that were named, or BDD100K's own."""
    split = source.split or (labels.name if labels.name in ("train", "val") else "")
    places = (
        [parent / "images/10k" for parent in (labels.absolute(), *labels.absolute().parents)]
        if source.images is None
        else []
    )
    folder = source.images or next((place for place in places if place.is_dir()), None)
    return folder / split if folder is not None and (folder / split).is_dir() else folder


def _pixels(png: Path) -> np.ndarray:
    """(H, W, 4) uint8: red, green, blue, alpha."""
    import cv2

    content = read_bytes(png, "bitmask")
    decode_panoptic_png(content, png)  # a sound file; its alpha is passed over there
    if content[_KIND_AT] != _RGBA:
        raise UserError(f"{png} has no alpha, expected a bitmask of BDD100K with red, green, blue and alpha")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3]])


def _objects(png: Path, count: int) -> tuple[AnnotatedObject, ...]:
    """Objects by class and number."""
    pixels = _pixels(png)
    keys = np.ascontiguousarray(pixels).view(">u4")[..., 0].astype(np.int64)
    present, places = np.unique(keys, return_inverse=True)
    parts = [k.to_bytes(4, "big") for k in present.tolist()]
    strange = sorted({red for red, *_ in parts if red > count})
    if strange:
        raise UserError(
            f"{png} has classes {', '.join(map(str, strange))}, expected 1 to {count}: name all classes in the order "
            f"of their numbers, in {FILES[0]} or by --classes"
        )
    kept = [n for n, (red, *_) in enumerate(parts) if red]
    crops = crop_segments(places.reshape(keys.shape).astype(np.int32), kept)
    return tuple(_object(parts[n], crop) for n, crop in zip(kept, crops))


def _object(part: bytes, crop: MaskCrop) -> AnnotatedObject:
    red, green, blue, alpha = part
    attributes = {name: True for name, bit in _BITS.items() if green & bit}
    return AnnotatedObject(
        red - 1, None, crop, blue << 8 | alpha, bool(green & _CROWD), attributes=attributes, raw=green & ~_KNOWN_BITS
    )


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``<split>/*.png``, and ``names.txt`` where the classes aren't BDD100K's eight.

    Of objects that overlap, the later one has the pixels.

    Raises:
        UserError: more than 255 classes, or 65535 objects on an image; images of one name but for the ending.
    """
    check_same_classes(parts)
    covered = Covered()
    for split, annotations in parts.items():
        if len(annotations.categories) > _MOST_CLASSES:
            raise UserError(
                f"there are {len(annotations.categories)} classes, BDD100K's PNGs have place for {_MOST_CLASSES}: "
                "leave some out"
            )
        for image, name in zip(annotations.images, png_names(annotations.images)):
            write_bytes(output / split / name, _encoded(annotations, image, covered))
    covered.log(logger, "BDD100K's bitmasks")
    names = [category.name for annotations in list(parts.values())[:1] for category in annotations.categories]
    if names != list(CLASSES):
        write_text(output / FILES[0], list_text(names))


def _encoded(annotations: AnnotationSet, image: AnnotatedImage, covered: Covered) -> bytes:
    objects = annotations.read(image)
    if len(objects) > _MOST_OBJECTS:
        raise UserError(f"image {image.name} has {len(objects)} objects, BDD100K's PNGs have place for {_MOST_OBJECTS}")
    own = annotations.format == NAME and isinstance(image.raw, Path)
    numbers = numbers_within([thing.id for thing in objects], _MOST_OBJECTS)
    rows = [
        (thing.category + 1, _green(thing, own), number >> 8, number & 255) for thing, number in zip(objects, numbers)
    ]
    places = covered.paint(image, objects)
    pixels = np.array([*rows, (0, 0, 0, 0)], np.uint8)[np.where(places == NOTHING, len(rows), places)]
    if not own:
        return colour_png(pixels)
    old = _pixels(image.raw)
    background = (pixels[..., 0] == 0) & (old[..., 0] == 0)
    pixels[background] = old[background]
    return read_bytes(image.raw) if np.array_equal(pixels, old) else colour_png(pixels)


def _green(thing: AnnotatedObject, own: bool) -> int:
    bits = sum(bit for name, bit in _BITS.items() if thing.attributes.get(name) is True)
    return bits | _CROWD * thing.iscrowd | (thing.raw if own and isinstance(thing.raw, int) else 0)


FORMAT = AnnotationFormat(
    NAME,
    "BDD100K bitmasks (a folder of PNGs with class, attributes and number in red, green, blue and alpha)",
    ("instance",),
    ("instance",),
    recognises,
    read,
    write,
    is_folder=True,
    has_numbers=True,
    image_place=lambda split, name: joined("images/10k", split, name),
    splits=lambda path: splits_below(path, ".png"),
)
