"""Arguments of the programs that read annotations."""

import argparse
from pathlib import Path

from pnm.annotations.annotation_format import Source
from pnm.annotations.known_formats import FORMATS
from pnm.formats.class_names import read_class_names


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """What names annotations; :func:`named_source` reads it."""
    parser.add_argument("annotations", type=Path, metavar="FILE|DIR", help="annotations")
    parser.add_argument("--from", dest="format", metavar="FORMAT", help=f"of the annotations: {', '.join(FORMATS)}")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: the format's own)")
    parser.add_argument("--classes", metavar="N|FILE", help="number of classes, or a file with a name in each line")
    parser.add_argument("--split", metavar="NAME", help="of several in one folder, the one to read (default: all)")
    parser.add_argument("--map", type=Path, metavar="CSV", help="lines old,new: classes by other names; old,: left out")


def named_source(args: argparse.Namespace, task: str | None) -> Source:
    """The annotations that the arguments name."""
    classes = read_class_names(args.classes) if args.classes else None
    return Source(args.annotations, args.images, classes, args.split, task)
