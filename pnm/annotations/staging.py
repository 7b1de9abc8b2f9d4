"""Annotations of any format as the files that all programs of this project read: COCO's, or label PNGs."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet
from pnm.annotations.class_map import read_class_map, with_class_map
from pnm.annotations.known_formats import FORMATS, read_annotations
from pnm.annotations.other_tasks import as_task
from pnm.formats.atomic_files import atomic_folder, write_text

PLAIN = {"instance": "coco", "semantic": "label-pngs", "panoptic": "coco-panoptic"}  # format of each task's files
_DIGEST = "source.sha256"


def named_annotations(
    source: Source, name: str | None = None, class_map: Path | None = None, unlabelled: str | None = None
) -> AnnotationSet:
    """Annotations in files, as ``source.task`` whatever their format is read as, in the classes of a map.

    Raises:
        FileNotFoundError, UserError: as :func:`read_annotations` and :func:`read_class_map`.
    """
    task = source.task
    one = FORMATS.get(name or "")
    if task and one and task not in one.reads:
        source = replace(source, task=None)
    annotations = read_annotations(source, name)
    if task:
        annotations = as_task(annotations, task, unlabelled)
    return annotations if class_map is None else with_class_map(annotations, read_class_map(class_map))


def stage(annotations: AnnotationSet, folder: Path, digest: str = "") -> Path:
    """Makes the files in a folder that is theirs alone, returns :func:`staged_path`; what is there of this ``digest``
    is kept."""
    if not (digest and _digest_in(folder) == digest):
        with atomic_folder(folder, overwrite=True) as new:
            with tqdm(total=len(annotations.images), desc="reading annotations", unit="image") as bar:
                part = replace(annotations, read=_counting(annotations, bar))
                FORMATS[PLAIN[annotations.task]].write({"": part}, new)
            if digest:
                write_text(new / _DIGEST, digest)
    return staged_path(annotations.task, folder)


def staged_path(task: str, folder: Path) -> Path:
    """The JSON of objects or segments, or the folder of label PNGs."""
    return folder / {"instance": "instances.json", "semantic": "", "panoptic": "panoptic.json"}[task]


def ignored_label(classes: int) -> int:
    """That of pixels of no class in label PNGs of so many classes."""
    return 255 if classes <= 255 else 2**16 - 1


def _counting(annotations: AnnotationSet, bar: tqdm) -> Callable[[AnnotatedImage], Any]:
    def read(image: AnnotatedImage) -> Any:
        bar.update(bar.n < bar.total)
        return annotations.read(image)

    return read


def _digest_in(folder: Path) -> str:
    try:
        return (folder / _DIGEST).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def digest_of(source: Path, settings: Mapping[str, object]) -> str:
    """Tells annotations from others: names, sizes and times of their files, and how they are read."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    for path in files:
        state = path.stat()
        digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
