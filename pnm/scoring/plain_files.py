"""Annotations of any format, other sizes and other classes, brought to the files that are scored."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pnm.annotations.annotation_format import AnnotationFormat
from pnm.annotations.formats import coco, coco_stuff, label_pngs, lvis
from pnm.annotations.formats.json_summary import json_summary
from pnm.formats.json_list import first_item, is_list

# Folders of these are label PNGs, too, and are scored as they are unless their format is named.
_SCORED_AS_THEY_ARE = {"label-pngs", "cityscapes", "ade20k"}


def add_formats(parser: argparse.ArgumentParser) -> None:
    """What is said of annotations that aren't in the formats that are scored as they are."""
    parser.add_argument("--gt-from", metavar="FORMAT", help="of the ground truth, where it can't be told: see convert")
    parser.add_argument("--pred-from", metavar="FORMAT", help="of the predictions, alike")
    parser.add_argument("--split", metavar="NAME", help="of annotations with several, the one to score")
    parser.add_argument("--unlabelled", metavar="NAME", help="class of pixels of no object, where objects become a map")
    parser.add_argument(
        "--image-info", metavar="JSON", help="COCO's images and categories: what numbers in results mean"
    )
    parser.add_argument("--map", metavar="CSV", help="lines old,new: predicted classes by the true names")
    parser.add_argument("--resize", action="store_true", help="bring predictions of another size to that of the truth")


@contextmanager
def plain_files(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The arguments with paths to files that are scored as they are; those made for it are gone after the block.

    Args:
        args: ``task``, ``gt``, ``pred``, ``compare`` and what :func:`add_formats` adds; ``images`` and ``classes`` if
            there are such.

    Raises:
        FileNotFoundError, UserError: annotations that can't be read, or predicted classes that aren't the truth's.
    """
    of_truth = _format(args.gt, args.gt_from, args.task)
    sides = {name: getattr(args, name) for name in ("pred", "compare") if getattr(args, name)}
    of_sides = {name: _format(path, args.pred_from, args.task, is_predicted=True) for name, path in sides.items()}
    if not (of_truth or any(of_sides.values()) or args.map or args.resize):
        yield args
        return
    from pnm.scoring.staged_files import staged_files

    with staged_files(args, of_truth, sides, of_sides) as staged:
        yield staged


def _is_scored_as_it_is(file: Path, task: str, is_predicted: bool) -> bool:
    """Whether a file is surely COCO's, results or instances: told without the other formats, which import much."""
    if file.is_dir():
        return task == "semantic" and _holds_label_pngs_alone(file)
    if file.suffix.lower() != ".json" or not file.exists():
        return not file.exists()
    if is_list(file, "JSON"):
        first = first_item(file, "JSON")
        return not (isinstance(first, dict) and "data" in first)
    if task != "instance" or is_predicted or "shapes" in json_summary(file):
        return False
    return coco.recognises(file) and not (coco_stuff.recognises(file) or lvis.recognises(file))


def _holds_label_pngs_alone(folder: Path) -> bool:
    """Whether all that is in a folder are PNGs, of which the first one holds labels."""
    return label_pngs.recognises(folder) and all(
        entry.name.endswith(".png") and entry.is_file() for entry in os.scandir(folder)
    )


def _format(path: str, name: str | None, task: str, *, is_predicted: bool = False) -> AnnotationFormat | None:
    """The format of what has to be read as annotations; None of what is scored as it is, or isn't known."""
    file = Path(path)
    if not name and _is_scored_as_it_is(file, task, is_predicted):
        return None
    from pnm.annotations.known_formats import FORMATS, format_named, format_of
    from pnm.annotations.staging import PLAIN

    if name:
        return format_named(name)
    if file.is_dir():
        return next((f for n, f in FORMATS.items() if n not in _SCORED_AS_THEY_ARE and f.recognises(file)), None)
    if file.suffix.lower() == ".json":
        if is_list(file, "JSON"):
            return format_of(file)
        one = next((f for f in FORMATS.values() if f.recognises(file)), None)
        is_own = one is None or one.name == PLAIN[task] and not (is_predicted and task == "instance")
        return None if is_own else one
    return next((f for f in FORMATS.values() if f.recognises(file)), None)
