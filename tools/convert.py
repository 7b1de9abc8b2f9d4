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

from tqdm import tqdm

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.annotations.annotation_format import AnnotationFormat
from pnm.annotations.annotation_set import TASKS, AnnotationSet
from pnm.annotations.arguments import add_source_arguments, named_source
from pnm.annotations.class_map import read_class_map, with_class_map
from pnm.annotations.known_formats import format_named, format_of, read_annotations
from pnm.annotations.other_tasks import as_task
from pnm.annotations.splits import parted
from pnm.errors import UserError, interrupts_told, one_line_errors, print_lines
from pnm.formats.atomic_files import atomic_folder, check_new_folder


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


def run(args: argparse.Namespace) -> None:
    writer = format_named(args.to)
    check_new_folder(args.output, overwrite=args.overwrite)
    source = named_source(args, None)
    reader = format_named(args.format) if args.format else format_of(source.path)
    task, goal = tasks_of(reader, writer, args.task)
    names = () if args.split or args.val else reader.splits(args.annotations)
    parts = {}
    for name in names or (args.split,):
        annotations = read_annotations(replace(source, task=task, split=name), reader.name)
        print_lines(annotations.remarks)
        annotations = as_task(annotations, goal, args.unlabelled)
        if args.map:
            annotations = with_class_map(annotations, read_class_map(args.map))
        parts[name or ""] = annotations
    if args.val:
        parts = parted(annotations, args.val, args.seed)
    total = sum(len(part.images) for part in parts.values())
    with atomic_folder(args.output, overwrite=args.overwrite) as folder, tqdm(total=total, unit="image") as bar:
        writer.write({split: with_progress(part, bar) for split, part in parts.items()}, folder)
        if args.copy_images or args.link_images:
            place_images(parts, folder, writer.image_place, args.link_images)
    told = ", ".join(f"{split or 'all'} {len(part.images)}" for split, part in parts.items())
    print(f"{args.output}: {writer.name}, {goal}, {len(annotations.categories)} classes; images: {told}")


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
