"""The formats that are known, and which of them a file or folder is in."""

import difflib
from pathlib import Path

from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotationSet
from pnm.annotations.class_map import with_classes
from pnm.annotations.formats import (
    ade20k,
    bdd100k,
    cityscapes,
    coco,
    coco_panoptic,
    coco_stuff,
    cvat,
    label_pngs,
    label_studio,
    labelme,
    lvis,
    mapillary,
    voc,
    yolo,
)
from pnm.errors import UserError
from pnm.formats.coco_instances import read_json

# The first that recognises a path reads it: special ones come before general ones.
_IN_ORDER = (
    labelme.FORMAT,
    yolo.FORMAT,
    cvat.FORMAT,
    label_studio.FORMAT,
    lvis.FORMAT,
    mapillary.FORMAT,
    coco_stuff.FORMAT,
    coco_panoptic.FORMAT,
    coco.FORMAT,
    voc.FORMAT,
    cityscapes.FORMAT,
    ade20k.FORMAT,
    bdd100k.FORMAT,
    label_pngs.FORMAT,
)
FORMATS = {one.name: one for one in _IN_ORDER}


def format_named(name: str) -> AnnotationFormat:
    """A format by its name; a UserError that lists them all if there is none."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1)
    advice = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"there is no format {name!r}; {advice}Known are {', '.join(sorted(FORMATS))}")


def writable_format(name: str) -> AnnotationFormat:
    """As :func:`format_named`; a UserError if it is only read, too."""
    one = format_named(name)
    if not one.writes:
        writable = ", ".join(sorted(other.name for other in FORMATS.values() if other.writes))
        raise UserError(f"format {name} is read, but not written here: choose one of {writable}")
    return one


def format_of(path: Path) -> AnnotationFormat:
    """The format that a file or folder is in.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is none of them; the message lists them.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: expected annotations")
    for one in _IN_ORDER:
        if one.recognises(path):
            return one
    if path.suffix.lower() == ".json" and path.is_file():
        read_json(path, "annotations")  # says where it is damaged
    if path.is_dir():
        inside = [
            file for file in sorted(path.iterdir()) if file.suffix.lower() in (".json", ".xml") and file.is_file()
        ]
        known = next((file for file in inside[:20] for one in _IN_ORDER if one.recognises(file)), None)
        if known is not None:
            raise UserError(f"{path} is a folder with annotations in files of their own: name one, such as {known}")
    raise UserError(
        f"{path} is in no format that is known here; if it is one of {', '.join(FORMATS)}, name it (--from) to be told "
        "what is wrong, else convert it"
    )


def read_annotations(source: Source, name: str | None = None) -> AnnotationSet:
    """Annotations in files.

    Args:
        name: of the format; by default it is told from what is there.

    Raises:
        FileNotFoundError, UserError: there is no such file, it is in no known format, or damaged.
    """
    if not source.path.exists():
        raise FileNotFoundError(f"{source.path} does not exist: expected annotations")
    one = format_of(source.path) if name is None else format_named(name)
    one.task_of(source)
    if source.split is not None and one.splits is None:
        raise UserError(f"{source.path}: {one.words} has no splits: leave {source.split!r} out, or name its file")
    annotations = one.read(source)
    return annotations if source.classes is None or one.has_numbers else with_classes(annotations, source.classes)
