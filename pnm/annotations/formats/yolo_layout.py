"""Where the images and labels of a YOLO data set are, by its data.yaml. https://docs.ultralytics.com/datasets/segment/

Paths in it are below "path", or else below the folder of the file; as Ultralytics does, ``../train/images`` that leads
nowhere is also tried as ``train/images``. The labels of ``.../images/a/b.jpg`` are ``.../labels/a/b.txt``, the last
folder that is called "images" being meant; without such a folder, they are beside the image.
"""

import os
import reprlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from pnm.annotations.formats.entry_checks import read_text
from pnm.annotations.image_folder import ImageFolder
from pnm.errors import UserError
from pnm.formats.folders import IMAGE_ENDINGS, files_below

SPLITS = ("train", "val", "test")
_OTHER_NAMES: dict[str, str] = {"valid": "val", "validation": "val"}
_EXPECTED = 'a YOLO data set, "train: images/train", "val: images/val", "names: [...]"'


class Pair(NamedTuple):
    """An image and its labels, which need not be there."""

    image: Path
    labels: Path


class Layout(NamedTuple):
    """A data set.

    Attributes:
        root: the folder of data.yaml.
        images: the folder that all images are below.
        pairs: sorted by image.
        names: of classes by their numbers.
        content: of data.yaml.
        remarks: on folders that are missing.
    """

    root: Path
    images: Path
    pairs: list[Pair]
    names: dict[int, str]
    content: Mapping[str, Any]
    remarks: tuple[str, ...]


def find_yaml(path: Path) -> Path | None:
    """The YAML that a path is, or the first in a folder, that lists images; None if there is none. Never raises."""
    try:
        if path.is_dir():
            near = sorted(
                (*path.glob("*.yaml"), *path.glob("*.yml")), key=lambda file: (file.name != "data.yaml", file)
            )
            return next((file for file in near if find_yaml(file)), None)
        if path.suffix.lower() not in (".yaml", ".yml"):
            return None
        content = read_yaml(path)
    except (UserError, OSError):
        return None
    return path if any(key in content for key in SPLITS) and {"names", "nc"} & set(content) else None


def read_yaml(path: Path) -> dict[str, Any]:
    """Content of a data.yaml; a UserError if it is no YAML or no mapping."""
    try:
        content = yaml.safe_load(read_text(path, _EXPECTED))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not YAML ({' '.join(str(error).split())[:120]}): expected {_EXPECTED}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is {reprlib.repr(content)}, expected {_EXPECTED}")
    return {_OTHER_NAMES.get(str(key), str(key)): value for key, value in content.items()}


def read_layout(file: Path, split: str | None, images: Path | None) -> Layout:
    """The data set of a data.yaml.

    Args:
        split: one alone; None: all of which there are images.
        images: the folder of images, by default the one that all are below.

    Raises:
        FileNotFoundError, UserError: the file is damaged, or images are missing; the message names the key.
    """
    content = read_yaml(file)
    if content.get("kpt_shape"):
        raise UserError(f"{file} has kpt_shape: its labels are boxes and points of poses, which have no masks")
    names = _names(content, file)
    wanted = [_OTHER_NAMES.get(split, split)] if split else [key for key in SPLITS if content.get(key)]
    places: list[Path] = []
    missing = []
    for key in wanted:
        try:
            places += _places(content, key, file)
        except FileNotFoundError as error:
            if split is not None or key == wanted[-1] and not places:
                raise
            missing.append(f"{error}; left out")
    files = sorted({image for place in places for image in _images(place)})
    if not files:
        raise UserError(f"{file} leads to no images ({', '.join(map(str, places)) or 'no split is named'})")
    below = Path(os.path.abspath(images)) if images is not None else _common(places, files, file)
    if not all(image.is_relative_to(below) for image in files):
        below = _common(places, files, file)  # others were named: they belong together by their names
    return Layout(file.parent, below, [Pair(f, labels_of(f)) for f in files], names, content, tuple(missing))


def named_splits(file: Path) -> tuple[str, ...]:
    """Those that a data.yaml names and that have images."""
    content = read_yaml(file)
    there = []
    for key in SPLITS:
        with suppress(FileNotFoundError, UserError):
            if content.get(key) and any(_images(place) for place in _places(content, key, file)):
                there.append(key)
    return tuple(there)


def class_names(file: Path) -> dict[int, str]:
    """Names of the classes of a data.yaml by their numbers."""
    return _names(read_yaml(file), file)


def _names(content: Mapping[str, Any], file: Path) -> dict[int, str]:
    names, number = content.get("names"), content.get("nc")
    if names is None and type(number) is int and number >= 0:
        return {k: f"class_{k}" for k in range(number)}
    if isinstance(names, list):
        return {k: str(name) for k, name in enumerate(names)}
    if not isinstance(names, dict) or not all(str(k).isdecimal() for k in names):
        raise UserError(f"{file}: names is {reprlib.repr(names)}, expected a list, or {{0: name, 1: name, ...}}")
    return {int(k): str(name) for k, name in sorted(names.items(), key=lambda pair: int(pair[0]))}


def _places(content: Mapping[str, Any], key: str, file: Path) -> list[Path]:
    """Folders, lists and images of a split, absolute."""
    entries = content.get(key)
    if not entries:
        there = ", ".join(name for name in SPLITS if content.get(name)) or "none"
        raise UserError(f"{file} has no {key}: name one of its splits, {there} (--split)")
    texts = entries if isinstance(entries, list) else [entries]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{file}: {key} is {reprlib.repr(entries)}, expected a folder, a list of images, or several")
    return [_place(text.replace("\\", "/"), content, key, file) for text in texts]


def _place(text: str, content: Mapping[str, Any], key: str, file: Path) -> Path:
    named = str(content.get("path") or "").replace("\\", "/")
    for root in dict.fromkeys((file.parent / named, Path(named).absolute(), file.parent)):
        for way in (text, text.removeprefix("../")):
            place = Path(os.path.abspath(root / way))
            if place.exists():
                return place
    raise FileNotFoundError(
        f"{file}: {key} is {text}, which is not there: put the images beside it, or correct the path"
    )


def _images(place: Path) -> list[Path]:
    if place.is_dir():
        return [place / name for name in files_below(place, *IMAGE_ENDINGS)]
    if place.suffix.lower() != ".txt":
        return [place]
    lines = [line.strip() for line in read_text(place, "a list of images").splitlines() if line.strip()]
    files = [Path(os.path.abspath(place.parent / line.replace("\\", "/"))) for line in lines]
    for file, line in zip(files, lines):
        if not file.is_file():
            raise FileNotFoundError(f"{place}: image {line} is not there: put it beside the list, or correct the line")
    return files


def _common(places: Sequence[Path], files: Sequence[Path], file: Path) -> Path:
    """The folder of all images: that which is named, if one is, else the one that all are in or below."""
    folders = places if all(place.is_dir() for place in places) else [image.parent for image in files]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:
        raise UserError(f"{file}: its images are on several drives: read one split (--split)") from None


def labels_of(image: Path) -> Path:
    """The file of labels of an image."""
    parts = list(image.with_suffix(".txt").parts)
    at = max((n for n, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if at is not None:
        parts[at] = "labels"
    return Path(*parts)


def folder_layout(folder: Path, images: Path | None, classes: Sequence[str] | None, split: str | None) -> Layout:
    """A folder of labels without a data.yaml: with folders "labels" and "images" in it, or of labels alone.

    Args:
        images: the folder of images, in which every file of labels has the one of its name.
        classes: by default the lines of classes.txt.
        split: folder in both of them, if they are not given.

    Raises:
        FileNotFoundError, UserError: these are missing, or a file has no image.
    """
    labels = folder / "labels" if (folder / "labels").is_dir() else folder
    images = images or (folder / "images" if (folder / "images").is_dir() else None)
    if split is not None and (labels / split).is_dir():
        images = images / split if images is not None and (images / split).is_dir() else images
        labels = labels / split
    listed = next((f for f in (folder / "classes.txt", labels / "classes.txt") if f.is_file()), None)
    if classes is None and listed is not None:
        classes = [line.strip() for line in read_text(listed, "a class a line").splitlines() if line.strip()]
    if classes is None or images is None:
        lacking = "its classes (--classes)" if classes is None else "the folder of its images (--images)"
        broken = next((file for ending in ("yaml", "yml") for file in sorted(folder.glob(f"*.{ending}"))), None)
        if broken is not None:
            raise UserError(f"{broken} is no data.yaml of YOLO, which has train and val, and names: correct it")
        raise UserError(f"{folder} has no data.yaml: name {lacking}, or a data.yaml that lists classes and images")
    there, pairs = ImageFolder(images), {}
    for name in files_below(labels, ".txt"):
        if PurePosixPath(name).name == "classes.txt":
            continue
        image = there.of_stem(name)
        if image is None:
            raise UserError(f"{labels / name} has no image of its name in {images}: check the folder of images")
        pairs[image] = labels / name
    every = [
        Pair(images / name, pairs.get(name, labels / PurePosixPath(name).with_suffix(".txt"))) for name in there.names
    ]
    return Layout(folder, images, every, dict(enumerate(classes)), {}, ())
