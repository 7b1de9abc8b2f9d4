"""ADE20K of the scene parsing challenge: label PNGs of 150 classes, ``ADEChallengeData2016``.

http://sceneparsing.csail.mit.edu/::

    annotations/{training,validation}/*.png    0 of other things, 1 to 150 of the classes
    images/{training,validation}/*.jpg
    objectInfo150.txt                          a table of the classes, parted by tabs, with a column "Name"
"""

from collections.abc import Mapping
from pathlib import Path

from pnm.ade20k_classes import ADE20K_CLASSES
from pnm.annotations.annotation_format import AnnotationFormat, Source, joined
from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet, first_twice
from pnm.annotations.formats.class_lists import check_same_classes, list_text
from pnm.annotations.formats.label_file import LabelFile, label_file_png, read_label_file
from pnm.annotations.formats.label_maps import first_png, names_as_categories, png_names
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.folders import files_below
from pnm.formats.label_png import png_size_of

NAME = "ade20k"
_SPLITS = ("training", "validation")
_CALLED = {"train": "training", "val": "validation"}
_WRITTEN = {"": "training", **_CALLED}
_TABLE = "objectInfo150.txt"
_OTHER, _MOST = 0, 255
_ADVICE = f"name the classes in the order of their numbers, from 1, in {_TABLE} or by --classes"
_NAMES = tuple(name.strip() for name in ADE20K_CLASSES)


def recognises(path: Path) -> bool:
    """Whether a folder has annotations/training or .../validation, and ADE20K's table or names of files."""
    try:
        there = [path / "annotations" / split for split in _SPLITS if (path / "annotations" / split).is_dir()]
        first = first_png(there[0]) if there else None
        return first is not None and (first.name.startswith("ADE_") or (path / _TABLE).is_file())
    except OSError:
        return False


def read(source: Source) -> AnnotationSet:
    """Classes of pixels of a split ("training" or "train"), or of all, whose images have the split in their names.

    Raises:
        FileNotFoundError: no such folder, or no PNG in it.
        UserError: a table without names. What is wrong with a PNG is told when its image is read.
    """
    split = _CALLED.get(source.split or "", source.split)
    labels, images = source.path / "annotations", source.images or source.path / "images"
    if split:
        labels = labels / split
        images = images / split if (images / split).is_dir() else images
    if not labels.is_dir():
        raise FileNotFoundError(f"{labels} is not a folder: name the one that has annotations/training in it")
    files = files_below(labels, ".png")
    if not files:
        raise FileNotFoundError(f"{labels} has no PNG in it: expected one for each image")
    names, text = _class_names(source)
    places = {number: place for place, number in enumerate(range(1, len(names) + 1))}
    known = ImageFolder(images) if source.images or images.is_dir() else None
    annotated = [
        AnnotatedImage(
            (known and known.of_stem(file)) or f"{file[:-4]}.jpg",
            *png_size_of(labels / file),
            raw=LabelFile(labels / file, tuple(names), places, (_OTHER,), _ADVICE),
        )
        for file in files
    ]
    folder = images if known else None
    return AnnotationSet(
        NAME, "semantic", names_as_categories(names, 1), tuple(annotated), read_label_file, folder, (names, text)
    )


def _class_names(source: Source) -> tuple[list[str], str | None]:
    """Names, and the text of the table that they are from."""
    if source.classes is not None:
        return list(source.classes), None
    path = source.path / _TABLE
    if not path.is_file():
        return list(_NAMES), None
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): restore it, or take it away") from None
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    column = rows[0].index("Name") if rows and "Name" in rows[0] else None
    if column is None or len(rows) < 2:
        raise UserError(f'{path} has no table with a column "Name", parted by tabs: restore it, or take it away')
    for n, row in enumerate(rows[1:], 1):
        if len(row) <= column or row[0].strip() != str(n) or not row[column].strip():
            raise UserError(f"{path}, row {n} is {str(row)[:60]}: expected number {n} and a name under {rows[0]}")
    names = [row[column].strip() for row in rows[1:]]
    twice = first_twice(names)
    if twice is not None:
        raise UserError(f"{path} has the name {twice} twice: rename one")
    return names, text


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``annotations/<split>/*.png``, a table of classes that aren't ADE20K's; "train" and "" are called training.

    Raises:
        UserError: more than 255 classes, or others in one split than in another; images of one name but for the ending.
    """
    check_same_classes(parts)
    for split, annotations in parts.items():
        numbers = list(range(1, len(annotations.categories) + 1))
        if len(numbers) > _MOST:
            raise UserError(f"there are {len(numbers)} classes, ADE20K's PNGs have place for {_MOST}: leave some out")
        whole = not split and annotations.format == NAME  # then names of images have their splits
        folder = output / "annotations" / ("" if whole else _WRITTEN.get(split, split))
        for image, name in zip(annotations.images, png_names(annotations.images)):
            write_bytes(folder / name, label_file_png(annotations, image, numbers, _OTHER, NAME))
    for annotations in list(parts.values())[:1]:
        names = [category.name for category in annotations.categories]
        own, text = annotations.raw if annotations.format == NAME and annotations.raw else (None, None)
        if text is not None and own == names:
            write_text(output / _TABLE, text)
        elif names != list(_NAMES):
            lines = list_text(names).splitlines()
            write_text(output / _TABLE, "Idx\tName\n" + "".join(f"{n}\t{name}\n" for n, name in enumerate(lines, 1)))


FORMAT = AnnotationFormat(
    NAME,
    "ADE20K (the folder ADEChallengeData2016, with annotations/{training,validation}/*.png)",
    ("semantic",),
    ("semantic",),
    recognises,
    read,
    write,
    is_folder=True,
    has_numbers=True,
    image_place=lambda split, name: joined("images", _WRITTEN.get(split, split), name),
    splits=lambda path: tuple(k for k, v in _CALLED.items() if (path / "annotations" / v).is_dir()),
)
