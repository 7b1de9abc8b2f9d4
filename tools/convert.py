#!/usr/bin/env python
"""Converts annotations of one format to another; masks keep their pixels, ids and attributes where there is a place.

python tools/convert.py labelme_folder --to coco --output converted
python tools/convert.py annotations.xml --to yolo --output yolo --images photos --copy-images --val 0.1 --seed 0
python tools/convert.py VOC2012 --from voc --split val --to label-pngs --output labels --map names.csv

The format is told from what is there; --from says it. docs/formats.md has a table of the formats and what they keep.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.annotations.annotation_format import AnnotationFormat, check_inside
from pnm.annotations.annotation_set import TASKS, AnnotatedImage, AnnotatedObject, AnnotationSet, object_masks
from pnm.annotations.arguments import add_source_arguments, named_source
from pnm.annotations.class_map import read_class_map, with_class_map
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.annotations.other_tasks import as_task
from pnm.annotations.splits import parted
from pnm.errors import UserError, interrupts_told, one_line_errors, print_lines
from pnm.formats.atomic_files import atomic_folder, check_new_folder
from pnm.formats.folders import overlap


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--to", required=True, metavar="FORMAT", help="of the output")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--task", choices=TASKS, help="of the output (default: that of the annotations, if it has it)")
    parser.add_argument("--unlabelled", metavar="NAME", help="class of the pixels of no object (default: none)")
    parser.add_argument("--val", metavar="SHARE|FILE", help="part: a share to test on, or a file that lists its images")
    parser.add_argument("--seed", type=int, default=0, help="of a share (default: 0)")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--copy-images", action="store_true", help="the images, too")
    images.add_argument("--link-images", action="store_true", help="links to the images")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    return parser.parse_args()


def tasks_of(reader: AnnotationFormat, writer: AnnotationFormat, wanted: str | None) -> tuple[str, str]:
    """The task to read annotations as, and the one to write them as: the same if the formats have one in common."""
    if wanted and wanted not in writer.writes:
        raise UserError(f"{writer.name} takes {' and '.join(writer.writes)} annotations: leave --task out")
    goal = wanted or next((task for task in reader.reads if task in writer.writes), writer.writes[0])
    return (goal if goal in reader.reads else reader.reads[0]), goal


def place_images(
    parts: Mapping[str, AnnotationSet], folder: Path, place: Callable[[str, str], str], link: bool
) -> None:
    """Copies of the images, or links to them, where the format's users look for them."""
    for split, annotations in parts.items():
        source = annotations.folder
        if source is None:
            raise UserError("--copy-images and --link-images need the folder of the images: add --images")
        for image in tqdm(annotations.images, desc="images", unit="file", leave=False):
            check_inside(image.name)
            path = folder / place(split, image.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (source / image.name).is_file():
                raise UserError(f"image {source / image.name} is missing: check --images, and the image's name")
            if link:
                os.symlink((source / image.name).resolve(), path)
            else:
                shutil.copyfile(source / image.name, path)


def with_progress(annotations: AnnotationSet, bar: tqdm) -> AnnotationSet:
    """The same annotations; reading an image moves a bar."""

    def read(image):
        bar.update(bar.n < bar.total)
        return annotations.read(image)

    return replace(annotations, read=read)


class Losses:
    """Counts what a conversion has no place for, as objects are read.

    Args:
        writer: the format of the output.
        is_map: objects become a map of classes or segments, in which a pixel has one.
    """

    def __init__(self, writer: AnnotationFormat, is_map: bool):
        self._writer, self._is_map = writer, is_map
        self._seen: dict[str, tuple[int, int, int]] = {}

    def counted(self, annotations: AnnotationSet) -> AnnotationSet:
        """The same annotations, whose objects are counted when they are read."""

        def read(image: AnnotatedImage) -> Any:
            content = annotations.read(image)
            if annotations.task == "instance" and image.name not in self._seen:
                self._seen[image.name] = self._of(image, content)
            return content

        return replace(annotations, read=read)

    def _of(self, image: AnnotatedImage, objects: tuple[AnnotatedObject, ...]) -> tuple[int, int, int]:
        """Crowds, objects without a pixel, and pixels under later objects."""
        masks = object_masks(image, objects)
        areas = [int(mask.pixels.sum()) for mask in masks]
        hidden = 0
        if self._is_map:
            union = np.zeros(image.size, np.bool_)
            for mask in masks:
                rows, columns = mask.pixels.shape
                union[mask.top : mask.top + rows, mask.left : mask.left + columns] |= mask.pixels
            hidden = sum(areas) - int(union.sum())
        return sum(thing.iscrowd for thing in objects), areas.count(0), hidden

    def lines(self) -> list[str]:
        """A line for each kind of loss."""
        crowds, empty, hidden = (sum(column) for column in zip(*self._seen.values())) if self._seen else (0, 0, 0)
        lines = []
        if crowds and "crowds" in self._writer.no_place_for:
            lines.append(f"{self._writer.name} has no place for crowds: {crowds} became objects")
        if empty and (self._is_map or "empty objects" in self._writer.no_place_for):
            lines.append(f"{self._writer.name} has no place for objects without a pixel: {empty} are left out")
        if hidden:
            lines.append(f"a pixel has one object in {self._writer.name}: {hidden} under later objects are not kept")
        return lines


def run(args: argparse.Namespace) -> None:
    writer = format_named(args.to)
    if args.annotations.exists() and overlap(args.annotations, args.output):
        raise UserError(f"--output {args.output} and {args.annotations} lie one in the other: name another folder")
    if args.images is not None and args.output.resolve() in (args.images / "x").resolve().parents:
        raise UserError(f"--output {args.output} has the images {args.images} in it: name another folder")
    check_new_folder(args.output, overwrite=args.overwrite)
    source = named_source(args, None)
    reader = format_named(args.format) if args.format else format_of(source.path)
    task, goal = tasks_of(reader, writer, args.task)
    names = () if args.split or args.val else reader.splits_of(args.annotations)
    parts, losses = {}, Losses(writer, is_map=task == "instance" and goal != task)
    for name in names or (args.split,):
        annotations = read_annotations(replace(source, task=task, split=name), reader.name)
        print_lines(annotations.remarks)
        annotations = as_task(losses.counted(annotations), goal, args.unlabelled)
        if args.map:
            annotations = with_class_map(annotations, read_class_map(args.map))
        parts[name or ""] = annotations
    if not any(part.images for part in parts.values()):
        raise UserError(f"no image is annotated in {args.annotations}: check the path, and --split")
    if args.val:
        parts = parted(annotations, args.val, args.seed)
    total = sum(len(part.images) for part in parts.values())
    with atomic_folder(args.output, overwrite=args.overwrite) as folder, tqdm(total=total, unit="image") as bar:
        beside = args.copy_images or args.link_images  # then nothing is to lead to where the images are now
        written = {split: replace(part, folder=None if beside else part.folder) for split, part in parts.items()}
        writer.write({split: with_progress(part, bar) for split, part in written.items()}, folder)
        if args.copy_images or args.link_images:
            place_images(parts, folder, writer.image_place, args.link_images)
    print_lines(losses.lines())
    told = ", ".join(f"{split or 'all'} {len(part.images)}" for split, part in parts.items())
    print(f"{args.output}: {writer.name}, {goal}, {len(annotations.categories)} classes; images: {told}")


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
