"""Mapillary Vistas: panoptic JSONs in folders of splits and versions, or PNGs of class and instance.

https://www.mapillary.com/dataset/vistas, whose folder has::

    {training,validation}/images/*.jpg
    {training,validation}/[v1.2/]panoptic/panoptic_2018.json    with its PNGs, id = R + 256 G + 65536 B
    {training,validation}/v2.0/panoptic/panoptic_2020.json
    {training,validation}/[<version>/]instances/*.png           16 bits: class << 8 | instance
    config[_<version>].json                                     "labels": name, readable, instances, ... of the classes

The JSONs are COCO's panoptic ones. Where there is none, the PNGs of instances are read, see
:mod:`pnm.annotations.formats.mapillary_instances`. Of several versions the newest is taken.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pnm.annotations.annotation_format import AnnotationFormat, Source, joined
from pnm.annotations.annotation_set import AnnotatedImage, AnnotationSet, Content
from pnm.annotations.formats.coco_panoptic import TASKS, panoptic_annotations
from pnm.annotations.formats.mapillary_instances import instance_annotations
from pnm.annotations.formats.panoptic_writing import write_panoptic
from pnm.errors import UserError, listed

NAME = "mapillary"
_SPLITS = ("training", "validation", "testing")
_CALLED = {"train": "training", "val": "validation", "test": "testing"}
_WRITTEN = {"": "training", **_CALLED}
_JSONS = ("v2.0/panoptic/panoptic_2020.json", "v1.2/panoptic/panoptic_2018.json", "panoptic/panoptic_2018.json")
_FILES = tuple(Path(name).name for name in _JSONS)
_INSTANCES = ("v2.0/instances", "v1.2/instances", "instances")
_CONFIGS = ("config_v2.0.json", "config_v1.2.json", "config.json")


class _Part(NamedTuple):
    """Annotations of a split: a panoptic JSON, or a folder of PNGs and the classes' file."""

    split: str
    folder: Path
    annotations: Path
    config: Path | None


def recognises(path: Path) -> bool:
    """Whether a file is called as the panoptic JSONs are, or a folder has one where it belongs, or instances."""
    try:
        return (path.is_file() and path.name in _FILES) or (path.is_dir() and bool(_parts(path, None)))
    except OSError:
        return False


def read(source: Source) -> AnnotationSet:
    """Segments, instances or classes of a split ("training" or "train"), of all, or of a panoptic JSON that is named.

    Names of images have the split before them where several are read, as ``training/images/x.jpg``.

    Raises:
        FileNotFoundError: there are no annotations where they belong.
        UserError: splits with other classes, or a damaged JSON. What is wrong with a PNG is told when its image is
            read.
    """
    if source.path.is_file():
        return panoptic_annotations(NAME, source, source.path, source.path.parent)
    parts = _parts(source.path, source.split)
    if not parts:
        split = source.split or "training"
        raise FileNotFoundError(
            f"{source.path} has neither {split}/{_JSONS[0]} nor {split}/{_INSTANCES[0]}/*.png with {_CONFIGS[0]}: "
            "name the folder that has the splits in it"
        )
    sets = [_read_part(source, part) for part in parts]
    if len(parts) == 1:
        images = parts[0].folder / "images"
        return replace(sets[0], folder=source.images or (images if images.is_dir() else None))
    return _joined(source, parts, sets)


def _parts(path: Path, split: str | None) -> list[_Part]:
    """What there is, of one split or of all; ``path`` may be that of a split."""
    if split is None and path.name in _SPLITS and not any((path / name).is_dir() for name in _SPLITS):
        path, split = path.parent, path.name
    parts: list[_Part] = []
    for name in (*_SPLITS, "") if split is None else (_CALLED.get(split, split),):
        if parts and not name:  # what lies in no split counts where there are none
            break
        files = [path / name / file for file in _JSONS if (path / name / file).is_file()]
        if files:
            parts.append(_Part(name, path / name, files[0], None))
            continue
        for folder, version in zip(_INSTANCES, ("_v2.0", "_v1.2", "")):
            configs = [path / config for config in (f"config{version}.json", *_CONFIGS) if (path / config).is_file()]
            if configs and (path / name / folder).is_dir():
                parts.append(_Part(name, path / name, path / name / folder, configs[0]))
                break
    return parts


def _read_part(source: Source, part: _Part) -> AnnotationSet:
    if part.config is None:
        return panoptic_annotations(NAME, source, part.annotations, part.annotations.parent)
    return instance_annotations(NAME, source.task or TASKS[0], part.annotations, part.config, part.folder / "images")


def _joined(source: Source, parts: list[_Part], sets: list[AnnotationSet]) -> AnnotationSet:
    """Several splits as one set."""
    for part, one in zip(parts, sets):
        if one.categories != sets[0].categories:
            raise UserError(
                f"{part.annotations} has other classes than {parts[0].annotations}: read one of the splits "
                f"{listed([p.split for p in parts])} (--split)"
            )
    readers = {f"{part.split}/images/{image.name}": one.read for part, one in zip(parts, sets) for image in one.images}
    images = tuple(
        replace(image, name=f"{part.split}/images/{image.name}")
        for part, one in zip(parts, sets)
        for image in one.images
    )

    def read_image(image: AnnotatedImage) -> Content:
        content: Content = readers[image.name](image)
        return content

    remarks = tuple(remark for one in sets for remark in one.remarks)
    folder = source.images or source.path
    return replace(sets[0], images=images, read=read_image, folder=folder, remarks=remarks)


def write(parts: Mapping[str, AnnotationSet], output: Path) -> None:
    """``<split>/v2.0/panoptic/panoptic_2020.json`` with its PNGs, "train", or one without a name, being
    called training."""
    for split, annotations in parts.items():
        path = output / _WRITTEN.get(split, split) / _JSONS[0]
        write_panoptic(annotations, path, path.parent, ids_are_names=annotations.format != NAME)


def splits(path: Path) -> tuple[str, ...]:
    """ "train" and "val", if there are such."""
    return tuple(short for short, name in _CALLED.items() if (path / name).is_dir())


FORMAT = AnnotationFormat(
    NAME,
    "Mapillary Vistas (a folder with {training,validation}/v2.0/panoptic/panoptic_2020.json, or instances/*.png)",
    TASKS,
    ("panoptic",),
    recognises,
    read,
    write,
    is_folder=True,
    image_place=lambda split, name: joined(_WRITTEN.get(split, split), "images", name),
    splits=splits,
)
