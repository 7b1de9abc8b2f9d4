"""What a format of annotations is: how it is recognised, read and written."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pnm.annotations.annotation_set import AnnotationSet
from pnm.errors import UserError
from pnm.formats.folders import files_below


@dataclass(frozen=True)
class Source:
    """Annotations as a user names them.

    Attributes:
        path: the file or folder.
        images: folder of the images, where the format needs it to be told, or has none of its own.
        classes: names in the order of the numbers, where the format has numbers alone; else all that there may be, in
            the order wanted.
        split: of a format with several in one folder, that to read ("train"); None: all of them.
        task: "instance", "semantic" or "panoptic" of a format that can be read as several; None: its first.
    """

    path: Path
    images: Path | None = None
    classes: Sequence[str] | None = None
    split: str | None = None
    task: str | None = None


def check_inside(name: str) -> None:
    """A UserError if the name of an image is a path that leads out of a folder."""
    plain = posixpath.normpath(name.replace("\\", "/"))
    if plain.startswith(("/", "../")) or plain in ("..", ".") or plain[1:2] == ":":
        raise UserError(
            f"image {name} leads out of the folder of images: name it by its path below that, so that what is made of "
            "it stays in the output"
        )


SPLITS = ("train", "val", "test")


def joined(*parts: str) -> str:
    """A path of those parts that aren't empty."""
    return "/".join(part for part in parts if part)


def splits_below(path: Path, ending: str) -> tuple[str, ...]:
    """Folders "train", "val" and "test" in a folder; () unless all files of an ending that are below are in them,
    or in a folder "images"."""
    there = tuple(name for name in SPLITS if (path / name).is_dir())
    inside = tuple(f"{name}/" for name in (*there, "images"))
    return there if there and all(file.startswith(inside) for file in files_below(path, ending)) else ()


@dataclass(frozen=True)
class AnnotationFormat:
    """A format of annotations.

    Attributes:
        name: for command lines and configs, e.g. "yolo".
        words: what it is, for people, e.g. "YOLO segmentation labels (a data.yaml, labels/*.txt)".
        reads, writes: tasks that it is read as and written from; the first of ``reads`` is its own.
        recognises: whether a file or folder looks like it: cheap, and never raises of what is there.
        read: raises UserError and FileNotFoundError that name the file and say what to do.
        writer: what :meth:`write` does, given names of images that are in order.
        is_folder: whether people name a folder when they mean such annotations.
        image_place: (split, name of an image) -> where its users look for the image beside the annotations.
        names_files: after images, so that these may not lead out of the output.
        no_place_for: "crowds" where they become objects, "empty objects" where these are left out; none of writers that
            log such losses themselves.
        has_numbers: its files have numbers of classes, which ``Source.classes`` names; else these say their order.
        splits: see :meth:`splits_of`; None of a format that has no splits.
    """

    name: str
    words: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    recognises: Callable[[Path], bool]
    read: Callable[[Source], AnnotationSet]
    writer: Callable[[Mapping[str, AnnotationSet], Path], None]
    is_folder: bool
    image_place: Callable[[str, str], str] = lambda split, name: joined("images", split, name)
    names_files: bool = True
    no_place_for: tuple[str, ...] = ()
    has_numbers: bool = False
    splits: Callable[[Path], tuple[str, ...]] | None = None

    def write(self, parts: Mapping[str, AnnotationSet], output: Path) -> None:
        """Makes files of one or more splits, ``{split: annotations}``, in an empty folder.

        A single split may have the name "", then no name shows. Folders of images are not touched.

        Raises:
            UserError: an image's name would lead a file out of the folder; what the format has no place for.
        """
        if self.names_files:
            for image in (image for annotations in parts.values() for image in annotations.images):
                check_inside(image.name)
        self.writer(parts, output)

    def splits_of(self, path: Path) -> tuple[str, ...]:
        """Names of the splits in a file or folder, () where there are none."""
        return self.splits(path) if self.splits is not None else ()

    def task_of(self, source: Source) -> str:
        """The task that annotations are to be read as; a UserError if the format can't."""
        task = source.task or self.reads[0]
        if task not in self.reads:
            raise UserError(
                f"{source.path} is read as {self.words}, which has {' or '.join(self.reads)} annotations: {task} ones "
                "cannot be made of it"
            )
        return task
