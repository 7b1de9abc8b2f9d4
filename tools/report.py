#!/usr/bin/env python
"""Makes a page of how good predictions are, where their errors lie, and which images and objects are worst.

python tools/report.py --gt labels/ --pred maps/ --classes names.txt --images images/ --output report.html
python tools/report.py --gt instances_val2017.json --pred coco_instances_results.json --images val2017 --output r.html
python tools/report.py --gt panoptic_val2017.json --pred predictions.json --compare refined/predictions.json \\
    --images val2017 --output report.html

The page is one HTML file that needs no server and no network. Its numbers are those of tools/evaluate.py; the arguments
that both have mean the same. The task is told from --pred. Without --images, maps are drawn on grey.
"""

import argparse
import math
import sys
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.compiling import announce_compilation
from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import write_text
from pnm.annotations.annotation_set import TASKS
from pnm.predictions.opening import told_task
from pnm.scoring import arguments
from pnm.scoring.opening import DEFAULT_METRICS, open_side_by_side
from pnm.scoring.plain_files import add_formats, plain_files


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_files(parser)
    parser.add_argument("--images", metavar="DIR", help="folder of the images; without, maps are drawn on grey")
    parser.add_argument("--output", required=True, metavar="HTML", help="the page")
    parser.add_argument("--task", choices=TASKS, help="of the predictions, where that isn't clear")
    parser.add_argument("--num", type=int, default=12, metavar="N", help="images shown of each kind (default: 12)")
    add_formats(parser)
    arguments.add_running(parser)
    instance = parser.add_argument_group("instance")
    instance.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="of detections whose errors are counted (default: as many detections as there are true objects)",
    )
    arguments.add_semantic(parser.add_argument_group("semantic"))
    arguments.add_panoptic(parser.add_argument_group("panoptic"))
    args = parser.parse_args()
    arguments.finish(args)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """UserErrors that can be told before anything is read."""
    arguments.check_numbers(args)
    if args.num < 0:
        raise UserError(f"--num is {args.num}, expected a number from 0")
    if args.images is not None and not Path(args.images).is_dir():
        raise FileNotFoundError(f"--images is {args.images}, which is no folder: expected one with images")
    if not Path(args.output).parent.is_dir():
        raise FileNotFoundError(f"{Path(args.output).parent} is no folder: make it, or name another file for --output")
    if args.min_score is not None and not math.isfinite(args.min_score):
        raise UserError(f"--min-score is {args.min_score}, expected a number, such as 0.5")
    arguments.check_outputs(args, ["output"])


def run(args: argparse.Namespace) -> None:
    check_arguments(args)
    args.task = told_task(args.pred, args.task, args.pred_from)
    if args.compare:
        told_task(args.compare, args.task, args.pred_from)
    if args.min_score is not None and args.task != "instance":
        raise UserError(f"--min-score is for instances; {args.pred} holds {args.task} predictions: leave it out")
    args.metrics = list(DEFAULT_METRICS[args.task])
    with plain_files(args) as plain:
        write_text(args.output, page_of(args, plain))
    print(f"{args.output}: {Path(args.output).stat().st_size / 1e6:.1f} MB")


def page_of(args: argparse.Namespace, plain: argparse.Namespace) -> str:
    """The page; ``plain`` names the files that are scored, ``args`` what the user called them."""
    scoring = arguments.settings_of(plain)
    opened = open_side_by_side(arguments.sides_of(plain), scoring, allow_missing=args.allow_missing)
    from pnm.reporting.report import ReportSettings, make_report  # plots take their time to import

    announce_compilation()
    settings = ReportSettings(
        paths=[path for path, _ in arguments.sides_of(args)],
        images=args.images,
        number=args.num,
        least_score=args.min_score,
        resamples=args.bootstrap,
        seed=args.seed,
        workers=args.workers,
        allow_missing=args.allow_missing,
    )
    return make_report(opened, scoring._replace(gt=args.gt), settings)


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors(), arguments.errors_of_images_listed():
        run(args)


if __name__ == "__main__":
    main()
