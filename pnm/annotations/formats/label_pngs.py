"""A folder of label PNGs, one for each image: a pixel's value is the number of its class, from 0.

The layout that mmsegmentation and many others call their own
(https://mmsegmentation.readthedocs.io/en/latest/advanced_guides/add_datasets.html): grey with 8 or 16 bits, or a
palette, whose indices count. 255 is no class, in 16 bits 65535, too. Names of the classes are in ``names.txt``,
``classes.txt`` or ``labels.txt``, one a line.
"""

from collections.abc import Mapping
from pathlib import Path

from pnm.annotations.annotation_format import AnnotationFormat, Source, splits_below
from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet, Category
from pnm.annotations.formats.class_lists import FILES, check_same_classes, list_beside, list_text, read_list
from pnm.annotations.formats.label_file import LabelFile, label_file_png, read_label_file
from pnm.annotations.formats.label_maps import first_png, names_as_categories, png_names
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError, listed
from pnm.formats.atomic_files import write_bytes, write_text
from pnm.formats.folders import label_pngs_below
from pnm.formats.label_png import png_size_of

NAME = "label-pngs"
VOID, VOID16 = 255, 65535
_VOIDS = (VOID, VOID16)
_GREY, _PALETTE = 0, 3
_ADVICE = "name all classes in the order of their numbers, or give pixels of no class the value 255"


def recognises(path: Path) -> bool:
    """Whether a folder's first PNG holds one 8- or 16-bit value a pixel."""
    try:
        png = first_png(path) if path.is_dir() else None
        if png is None:
            return False
        with png.open("rb") as file:
            head = file.read(26)
    except OSError:
        return False
    if len(head) < 26 or head[12:16] != b"IHDR":
        return False
    return head[25] == _PALETTE or (head[25] == _GREY and head[24] in (8, 16))


def read(source: Source) -> AnnotationSet:
    """Labels in a folder and the folders in it, or those in its folder ``source.split``. A folder "images" in it has
    the images.

    Raises:
        FileNotFoundError: no such folder, or no PNG in it.
        UserError: no names of the classes; no PNG is named after an image. Damaged PNGs and values without a name are
            told when an image is read.
    """
    folder = source.path / source.split if source.split else source.path
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected one with label PNGs")
    inside = source.path / "images"
    images = source.images or (inside if inside.is_dir() else None)
    if source.images is None and source.split and (inside / source.split).is_dir():
        images = inside / source.split
    files = label_pngs_below(folder)
    if not files:
        raise FileNotFoundError(f"{folder} has no PNG in it: expected a label PNG for each image")
    named, remarks = _image_names(files, images)
    classes = _class_names(source, folder)
    places = {place: place for place in range(len(classes))}
    labelled = [
        AnnotatedImage(
            name, *png_size_of(folder / file), raw=LabelFile(folder / file, tuple(classes), places, _VOIDS, _ADVICE)
        )
        for name, file in named
    ]
    categories = names_as_categories(classes)
    return AnnotationSet(NAME, "semantic", categories, tuple(labelled), read_label_file, images, None, remarks)


def _class_names(source: Source, folder: Path) -> list[str]:
    if source.classes is not None:
        return list(source.classes)
    beside = list_beside(folder, source.path, source.path.parent)
    if beside is None:
        raise UserError(
            f"{folder} doesn't say what the classes are: put a {FILES[0]} with a name in each line there, in the order "
            "of the numbers from 0, or name the classes (--classes)"
        )
    return read_list(beside)


def _image_names(files: list[str], folder: Path | None) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """(name of the image, label file) of each, and remarks."""
    if folder is None:
        return [(file, file) for file in files], ()
    images = ImageFolder(folder)
    named = {file: images.of_stem(file) for file in files}
    without = [file for file, image in named.items() if image is None]
    if len(without) == len(files):
        raise UserError(
            f"none of the label PNGs is named after an image in {folder}, e.g. {files[0]}: name each as its image, but "
            "for the ending, and check the folder of images"
        )
    remark = f"{len(without)} label PNGs have no image in {folder}, and keep their names: {listed(without)}"
    return [(image or file, file) for file, image in named.items()], (remark,) if without else ()


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``<split>/*.png`` and ``names.txt``. Values, bit depths and palettes of label PNGs stay where labels do.

    Raises:
        UserError: splits whose classes differ; more than 65535 classes; images that differ in their endings alone.
    """
    check_same_classes(parts)
    for split, annotations in parts.items():
        _check_number(annotations.categories)
        numbers = list(range(len(annotations.categories)))
        void = VOID if len(numbers) <= VOID else VOID16
        for image, name in zip(annotations.images, png_names(annotations.images)):
            write_bytes(output / split / name, label_file_png(annotations, image, numbers, void, NAME))
    names = [category.name for annotations in list(parts.values())[:1] for category in annotations.categories]
    write_text(output / FILES[0], list_text(names))


def _check_number(categories: tuple[Category, ...]) -> None:
    if len(categories) > VOID16:
        raise UserError(f"there are {len(categories)} classes, a label PNG has place for {VOID16}: leave some out")


FORMAT = AnnotationFormat(
    NAME,
    "label PNGs (a folder with a PNG for each image, whose values are the classes, and names.txt)",
    ("semantic",),
    ("semantic",),
    recognises,
    read,
    write,
    is_folder=True,
    has_numbers=True,
    splits=lambda path: splits_below(path, ".png"),
)
