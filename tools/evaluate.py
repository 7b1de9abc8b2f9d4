#!/usr/bin/env python
"""Scores result files of any model, whole or image by image, alone or beside another prediction.

python tools/evaluate.py semantic --pred maps/ --gt labels/ --classes names.txt --output metrics.json
python tools/evaluate.py semantic --pred results/ --gt cityscapes/gtFine/val --cityscapes
python tools/evaluate.py instance --pred coco_instances_results.json --gt instances_val2017.json --per-image rows.csv
python tools/evaluate.py instance --pred results/ --gt cityscapes/gtFine/val --cityscapes
python tools/evaluate.py panoptic --pred predictions.json --gt panoptic_val2017.json --compare refined/predictions.json
python tools/evaluate.py semantic --pred maps/ --gt labels/ --classes 19 --shard 1/8 --output state-1.npz   # to 8/8
python tools/evaluate.py semantic --pred maps/ --gt labels/ --classes 19 --merge state-*.npz --output metrics.json

Semantic predictions are folders of label PNGs or Detectron2's sem_seg_predictions.json, matched by image name: that of
the file, without folders, extension and Cityscapes' _leftImg8bit..., _gtFine_labelIds, _gtFine_labelTrainIds,
_pred... Instance predictions are COCO results, or with --cityscapes a folder of *_pred.txt, each for the image that its
name begins with. What doesn't fit (image missing on either side, other size, unknown id) is listed and ends in exit
status 2; --allow-missing scores the rest. Damaged files always end in exit status 2. Metrics are percentages in what is
printed and 0..1 in files.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.compiling import announce_compilation
from pnm.errors import UserError, interrupts_told, listed, one_line_errors, print_lines
from pnm.formats.atomic_files import write_text
from pnm.memory_reuse import keep_freed_memory
from pnm.metrics.metric_values import MetricValues
from pnm.scoring import arguments
from pnm.scoring.compare import Comparison, compare
from pnm.scoring.plain_files import add_formats, plain_files
from pnm.scoring.opening import DEFAULT_METRICS, METRICS, open_side_by_side
from pnm.scoring.score_states import SideState, write_state
from pnm.scoring.scores import Scores, json_text
from pnm.scoring.sharded_scores import MergedScores, belongings, merge_states
from pnm.shards import Shard, shard_of

BOUNDARY_F = "Boundary-F-"
_OF_REPORT = {"output", "per_image", "per_class", "show", "bootstrap", "seed", "workers", "shard", "merge"}
MUCH_IGNORED = 0.3  # of the pixels; a tenth is usual on Cityscapes


def percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def check_shown(wanted: list[str] | None, known: list[str]) -> None:
    """A UserError unless all names of --show are metrics of the whole."""
    strange = [name for name in wanted or () if name not in known]
    if strange:
        raise UserError(f"--show: there is no metric {', '.join(strange)}, expected some of {', '.join(known)}")


def report(values: MetricValues, shown: list[str] | None) -> str:
    """Tables in percent: classes, and the metrics of the whole; given names, these alone."""
    style = {"disable_numparse": True}
    rows = [[name, percent(values.means[name])] for name in shown or values.means]
    tables = [tabulate(rows, ("metric", "%"), colalign=("left", "right"), **style)]
    if values.by_class and not shown:
        columns = list(values.by_class.values())
        rows = [[name, *(percent(column[name]) for column in columns)] for name in columns[0]]
        headers = ("class", *values.by_class)
        tables.insert(0, tabulate(rows, headers, colalign=("left", *["right"] * len(columns)), **style))
    return "\n\n".join(tables)


def differences(entries: dict[str, Comparison], title: str) -> str:
    """A, B and B - A in percent, with intervals."""
    rows = []
    for name, entry in entries.items():
        cells = [f"{percent(one.value)} [{percent(one.low)}, {percent(one.high)}]" for one in entry]
        rows.append([name, *cells])
    headers = (title, "A [95 %]", "B [95 %]", "B - A [95 %]")
    return tabulate(rows, headers, colalign=("left", "right", "right", "right"), disable_numparse=True)


def remarks_on(values: MetricValues, share_ignored: float) -> list[str]:
    """What keeps the metrics from telling much: classes without ground truth, and pixels that are left out."""
    column = next(iter(values.by_class.values()), {})
    absent = [name for name, value in column.items() if np.isnan(value)]
    remarks = []
    if absent:
        remarks.append(f"{len(absent)} of {len(column)} classes never occur in the ground truth: {listed(absent)}")
    if share_ignored >= MUCH_IGNORED:
        remarks.append(f"the ground truth ignores {100 * share_ignored:.1f} % of the pixels")
    return remarks


def boundary_f_table(comparisons: MetricValues) -> str:
    """Boundary F by class, A and B side by side at each tolerance, in percent: Table 3 of SegFix, on its side."""
    columns = [name for name in comparisons.by_class if name.startswith(BOUNDARY_F)]
    rows = {
        name: [comparisons.by_class[column][name] for column in columns] for name in comparisons.by_class[columns[0]]
    }
    rows["mean"] = [comparisons.means[column] for column in columns]
    cells = [[name, *(percent(side.value) for one in entries for side in one[:2])] for name, entries in rows.items()]
    headers = [f"{column.removeprefix(BOUNDARY_F)} {side}" for column in columns for side in "AB"]
    align = ("left", *["right"] * len(headers))
    return tabulate(cells, ("Boundary F of class", *headers), colalign=align, disable_numparse=True)


def comparison_report(comparisons: MetricValues, shown: list[str] | None, per_class: bool) -> str:
    """A table of the metrics of the whole and, if asked for, one for each metric of the classes before it; names of
    metrics leave the others out."""
    tables = []
    for metric, of_class in comparisons.by_class.items() if per_class else ():
        if not shown or metric in shown or f"m{metric}" in shown:
            tables.append(differences(of_class, f"{metric} of class"))
    if per_class and any(name.startswith(BOUNDARY_F) for name in shown or comparisons.by_class):
        tables.append(boundary_f_table(comparisons))
    means = {name: comparisons.means[name] for name in shown or comparisons.means}
    return "\n\n".join([*tables, differences(means, "metric")])


def per_image_csv(scores: list[Scores]) -> str:
    """A row for each image with the metrics of the whole, worst first by the first of them; undefined ones last.

    Of two predictions, each metric has columns for A, B and B - A, and images that lost most come first.
    """
    values = [one.each_image().means for one in scores]
    names = list(values[0])
    columns = values[0]
    if len(scores) == 2:
        columns = {}
        for name in names:
            a, b = values[0][name], values[1][name]
            columns |= {f"{name} A": a, f"{name} B": b, f"{name} B - A": b - a}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", *columns))
    first = columns[names[0]] if len(scores) == 1 else columns[f"{names[0]} B - A"]
    for k in np.argsort(first, kind="stable"):
        row = [column[k] for column in columns.values()]
        writer.writerow((scores[0].images[k], *("" if np.isnan(v) else f"{v:.6f}" for v in row)))
    return text.getvalue()


def compared(a: Scores, b: Scores, args: argparse.Namespace) -> MetricValues:
    with tqdm(total=2 * args.bootstrap, desc="bootstrap", unit="resample") as bar:
        return compare(
            a.on_samples, b.on_samples, len(a.images), resamples=args.bootstrap, seed=args.seed, done=bar.update
        )


def check_arguments(args: argparse.Namespace) -> None:
    """UserErrors that can be told before anything is read."""
    arguments.check_numbers(args)
    if args.per_class and not args.compare:
        raise UserError("--per-class is for --compare: without it, classes are always shown")
    if args.shard and args.merge:
        raise UserError("--shard and --merge both came: give --shard K/N until all are through, then --merge FILES")
    if args.shard and (args.per_image or args.per_class or args.show):
        raise UserError("--per-image, --per-class and --show are for the whole: give them with --merge")
    if args.shard and not args.output:
        raise UserError("--shard needs --output, a file for what the shard's images score: state-1.npz")
    arguments.check_outputs(args, ["output", "per_image"])


def of_scores(args: argparse.Namespace) -> dict[str, object]:
    """The arguments that decide what images score, rather than what is told of it."""
    return {name: value for name, value in vars(args).items() if name not in _OF_REPORT}


def run_shard(args: argparse.Namespace, shard: Shard) -> None:
    """Scores a shard of the images and writes what they score."""
    belongs = belongings(of_scores(args), {name: getattr(args, name, None) for name in arguments.INPUTS})
    with plain_files(args) as plain:
        settings = arguments.settings_of(plain)._replace(shard=shard)
        files, images, *_ = open_side_by_side(arguments.sides_of(plain), settings, allow_missing=args.allow_missing)
        announce_compilation()
        sides = [SideState.of(one, images, args.workers, True) for one in files]
    write_state(args.output, belongs, shard, files[0].listed, sides)
    print(f"{args.output}: what {len(images)} image(s) of shard {shard} score")


def scored(args: argparse.Namespace) -> MergedScores:
    """Scores of all images, now or by shards that are through."""
    if args.merge:
        return merge_states(args.merge, of_scores(args), arguments.settings_of(args))
    with plain_files(args) as plain:
        files, images, problems, notes = open_side_by_side(
            arguments.sides_of(plain), arguments.settings_of(plain), allow_missing=args.allow_missing
        )
        announce_compilation()
        return MergedScores([one.score(images, args.workers, True) for one in files], problems, notes)


def run(args: argparse.Namespace) -> None:
    check_arguments(args)
    if args.shard:
        run_shard(args, shard_of(args.shard))
        return
    scores, problems, notes = scored(args)
    images = scores[0].images
    values = scores[0].whole()
    check_shown(args.show, list(values.means))
    remarks = remarks_on(values, scores[0].share_ignored)
    print_lines(remarks)
    settings = {name: value for name, value in vars(args).items() if name not in ("shard", "merge")}
    content = {"task": args.task, "images": len(images), "settings": settings, "mismatches": problems}
    content["remarks"] = [*notes, *remarks]
    content["metrics"] = values
    if not (args.show and args.compare):
        print(report(values, args.show))
    if args.compare:
        comparisons = compared(*scores, args)
        print(f"\nA: {args.pred}\nB: {args.compare}")
        print(comparison_report(comparisons, args.show, args.per_class))
        content["comparison"] = {
            name: {part: one._asdict() for part, one in entry._asdict().items()} for name, entry in comparisons.items()
        }
    print(f"\n{len(images)} image(s), {len(problems)} mismatch(es)")
    if args.per_image:
        write_text(args.per_image, per_image_csv(scores))
    if args.output:
        write_text(args.output, json_text(content))


def _add_common(parser: argparse.ArgumentParser, task: str) -> None:
    arguments.add_files(parser)
    parser.add_argument("--metrics", nargs="+", choices=METRICS[task], default=list(DEFAULT_METRICS[task]))
    parser.add_argument("--output", metavar="JSON", help="all metrics, settings and mismatches")
    parser.add_argument("--per-image", metavar="CSV", help="a row for each image, worst first (of two: most lost)")
    parser.add_argument("--per-class", action="store_true", help="with --compare: the classes' differences, too")
    parser.add_argument("--show", nargs="+", metavar="NAME", help="print these metrics only, e.g. AP AP90 Boundary-AP")
    parser.add_argument("--images", metavar="DIR", help="folder of the images, for formats that don't say their sizes")
    add_formats(parser)
    parser.add_argument("--shard", metavar="K/N", help="score the K-th of N parts of the images alone, K from 1")
    parser.add_argument("--merge", nargs="+", metavar="STATE", help="score what shards wrote, see docs/scale.md")
    arguments.add_running(parser)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    semantic, instance, panoptic = [tasks.add_parser(task) for task in METRICS]
    for task, one in zip(METRICS, (semantic, instance, panoptic)):
        _add_common(one, task)
    for one in (instance, panoptic):
        one.add_argument(
            "--classes", metavar="FILE", help="of annotations in other formats: a class in each line, in order"
        )
    arguments.add_semantic(semantic)
    arguments.add_panoptic(panoptic)
    args = parser.parse_args()
    arguments.finish(args)
    return args


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    with interrupts_told("nothing was written"), one_line_errors(), arguments.errors_of_images_listed():
        run(args)


if __name__ == "__main__":
    main()
