"""Annotations in other formats, sizes and classes than those that are scored, written as those that are."""

import argparse
import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pnm.annotations.aligning import aligned, numbered, with_ids
from pnm.annotations.annotation_format import AnnotationFormat, Source
from pnm.annotations.annotation_set import AnnotationSet
from pnm.annotations.class_map import read_class_map, with_class_map
from pnm.annotations.coco_results import read_results, results_json
from pnm.annotations.formats.coco import image_numbers_in_names
from pnm.annotations.staging import PLAIN, named_annotations, stage
from pnm.errors import UserError, print_lines
from pnm.formats.atomic_files import write_text
from pnm.formats.class_names import read_class_names


@contextmanager
def staged_files(
    args: argparse.Namespace,
    of_truth: AnnotationFormat | None,
    sides: Mapping[str, str],
    of_sides: Mapping[str, AnnotationFormat | None],
) -> Iterator[argparse.Namespace]:
    """The arguments with paths to files that are scored as they are, which are gone after the block.

    Args:
        args: as those of :func:`pnm.scoring.plain_files.plain_files`, which tells what is raised.
        of_truth: format of the ground truth, None if it is scored as it is.
        sides, of_sides: paths and formats, alike, of the predictions, by the names of their arguments.
    """
    if args.cityscapes:
        raise UserError("--cityscapes is for Cityscapes' files as they are: leave it out, or what makes other files")
    args = copy.copy(args)
    with tempfile.TemporaryDirectory(prefix="pnm-") as folder:
        truth = _truth(args, of_truth)
        truth = numbered(_with_numbers(args, truth, [p for name, p in sides.items() if of_sides[name] is None]))
        if of_truth or args.task == "semantic":
            args.gt, args.gt_folder = str(stage(truth, Path(folder) / "gt")), None
        for name, path in sides.items():
            if of_sides[name] or args.map or args.resize:
                pred = aligned(_predicted(args, Path(path), of_sides[name], truth), truth, resize=args.resize)
                setattr(args, name, str(_written(pred, Path(folder) / name)))
                setattr(args, f"{name}_folder", None)
        if args.task == "semantic":
            names = Path(folder) / "classes.txt"
            write_text(names, "".join(f"{category.name}\n" for category in truth.categories))
            args.classes = str(names)
        yield args


def _with_numbers(args: argparse.Namespace, truth: AnnotationSet, plain: Sequence[str]) -> AnnotationSet:
    """The truth with the numbers that results have of its images and classes.

    Raises:
        UserError: the truth has names alone, and nothing says which number is which.
    """
    if args.image_info:
        return with_ids(truth, Path(args.image_info))
    if args.task == "instance" and plain:
        nameless = [] if _are_numbered(truth) else ["images"]
        nameless += [] if args.classes or all(c.id is not None for c in truth.categories) else ["classes"]
        if nameless:
            raise UserError(
                f"{plain[0]} has numbers of {' and '.join(nameless)}, {args.gt} names alone: say which is which by "
                "--image-info, COCO's lists of images and categories (instances.json in OUTPUT_DIR/converted of a data "
                "set that was trained on, images.json of pnm predict)"
                + (", or by --classes names.txt, a class in each line" if nameless == ["classes"] else "")
            )
    return truth


def _are_numbered(truth: AnnotationSet) -> bool:
    """Whether images have ids, or are called by them."""
    return all(image.id is not None for image in truth.images) or image_numbers_in_names(truth.images) is not None


def _source(args: argparse.Namespace, path: str | Path) -> Source:
    classes = read_class_names(args.classes) if getattr(args, "classes", None) else None
    images = getattr(args, "images", None)
    return Source(Path(path), Path(images) if images else None, classes, args.split, args.task)


def _truth(args: argparse.Namespace, form: AnnotationFormat | None) -> AnnotationSet:
    return _read(args, _source(args, args.gt), form)


def _read(args: argparse.Namespace, source: Source, form: AnnotationFormat | None) -> AnnotationSet:
    annotations = named_annotations(source, form.name if form else PLAIN[args.task], None, args.unlabelled)
    print_lines(annotations.remarks)
    return annotations


def _predicted(
    args: argparse.Namespace, path: Path, form: AnnotationFormat | None, truth: AnnotationSet
) -> AnnotationSet:
    """What was predicted, in its own classes, or those of the class map."""
    if form is None and args.task == "instance":
        pred = read_results(path, truth)
    else:
        source = _source(args, path)
        if form is None and args.task == "semantic" and args.map:  # the map's names are the predicted ones
            source = replace(source, classes=list(read_class_map(args.map)))
        pred = _read(args, source, form)
    return with_class_map(pred, read_class_map(args.map)) if args.map else pred


def _written(pred: AnnotationSet, folder: Path) -> Path:
    if pred.task != "instance":
        return stage(pred, folder)
    path = folder.with_suffix(".json")
    write_text(path, results_json(pred))
    return path
