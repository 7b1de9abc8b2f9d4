#!/usr/bin/env python
"""Scores result files of any model, whole or image by image, alone or beside another prediction.

python tools/evaluate.py semantic --pred maps/ --gt labels/ --classes names.txt --output metrics.json
python tools/evaluate.py semantic --pred results/ --gt cityscapes/gtFine/val --cityscapes
python tools/evaluate.py instance --pred coco_instances_results.json --gt instances_val2017.json --per-image rows.csv
python tools/evaluate.py instance --pred results/ --gt cityscapes/gtFine/val --cityscapes
python tools/evaluate.py panoptic --pred predictions.json --gt panoptic_val2017.json --compare refined/predictions.json

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
from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.compiling import announce_compilation
from pnm.errors import UserError, interrupts_told, listed, one_line_errors, print_lines
from pnm.formats.atomic_files import check_writable, write_text
from pnm.formats.class_names import read_class_names
from pnm.metrics.instance_records import METRICS as INSTANCE_METRICS
from pnm.metrics.metric_values import MetricValues
from pnm.metrics.semantic_metrics import METRICS as SEMANTIC_METRICS
from pnm.metrics.semantic_metrics import SemanticMetrics
from pnm.scoring.cityscapes_instance_files import CityscapesInstanceFiles
from pnm.scoring.compare import Comparison, compare
from pnm.scoring.panoptic_files import PanopticFiles
from pnm.scoring.result_files import InstanceFiles, SemanticFiles
from pnm.scoring.scores import ResultFiles, Scores, json_text
from pnm.usable_cores import usable_cores

METRICS = {"semantic": SEMANTIC_METRICS, "instance": INSTANCE_METRICS, "panoptic": ("PQ", "Boundary-PQ")}
DEFAULT_METRICS = {**METRICS, "instance": ("segm", "boundary", "af")}
COCO_RATIO, CITYSCAPES_RATIO = 0.02, 0.005
BOUNDARY_F = "Boundary-F-"
MUCH_IGNORED = 0.3  # of the pixels; a tenth is usual on Cityscapes


def class_names(classes: str | None, cityscapes: bool) -> list[str]:
    """Names of --classes N, --classes names.txt (one a line) or --cityscapes."""
    return list(CITYSCAPES_CLASSES.values()) if classes is None and cityscapes else read_class_names(classes)


def opened(args: argparse.Namespace, pred: str, folder: str | None) -> ResultFiles:
    """A prediction beside the ground truth, as the command line says; ``folder`` has a panoptic one's PNGs."""
    boundary = {"boundary_ratio": None if args.boundary_px else args.boundary_ratio, "boundary_px": args.boundary_px}
    if args.task == "instance":
        kind = CityscapesInstanceFiles if args.cityscapes and Path(pred).suffix != ".json" else InstanceFiles
        return kind(pred, args.gt, metrics=args.metrics, **{**boundary, "boundary_ratio": args.boundary_ratio})
    if args.task == "panoptic":
        boundary = boundary if "Boundary-PQ" in args.metrics else {}
        return PanopticFiles(pred, args.gt, folder, args.gt_folder, **boundary)
    names = class_names(args.classes, args.cityscapes)
    ignored = None if args.ignore_label < 0 else args.ignore_label
    metric = SemanticMetrics(
        len(names),
        class_names=names,
        ignore_label=ignored,
        metrics=args.metrics,
        f_score_px=args.f_score_px,
        f_score_absent=args.f_score_absent,
        **boundary,
    )
    kinds = {"cityscapes": args.cityscapes, "pred_train_ids": args.pred_train_ids, "category_ids": args.category_ids}
    return SemanticFiles(pred, args.gt, metric, **kinds)


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
    if args.workers < 1 or args.bootstrap < 1 or args.seed < 0:
        raise UserError("--workers and --bootstrap need a positive number, and --seed one from 0")
    if args.per_class and not args.compare:
        raise UserError("--per-class is for --compare: without it, classes are always shown")
    paths = [getattr(args, name) for name in ("output", "per_image", "pred", "gt", "compare")]
    for n, path in enumerate(paths[:2]):
        if path is not None:
            others = [other for other in paths[n + 1 :] if other is not None]
            if Path(path).resolve() in [Path(other).resolve() for other in others]:
                raise UserError(f"{path} is named twice, and would be overwritten: name another file for the output")
            check_writable(path)


def run(args: argparse.Namespace) -> None:
    check_arguments(args)
    files = [opened(args, args.pred, getattr(args, "pred_folder", None))]
    if args.compare:
        files.append(opened(args, args.compare, getattr(args, "compare_folder", None)))
    problems = list(dict.fromkeys(line for one in files for line in one.problems))
    print_lines(problems)
    print_lines(list(dict.fromkeys(line for one in files for line in one.remarks)))
    if problems and not args.allow_missing:
        raise UserError(
            f"{len(problems)} mismatch(es) between prediction and ground truth, see above; mend them, or score the "
            "rest with --allow-missing"
        )
    common = set(files[-1].images)
    images = [image for image in files[0].images if image in common]
    if not images:
        raise UserError(f"{args.pred} and {args.gt} have no image in common: nothing to score")
    announce_compilation()
    scores = [one.score(images, args.workers, True) for one in files]
    values = scores[0].whole()
    check_shown(args.show, list(values.means))
    remarks = remarks_on(values, scores[0].share_ignored)
    print_lines(remarks)
    content = {"task": args.task, "images": len(images), "settings": vars(args), "mismatches": problems}
    content["remarks"] = remarks
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
    parser.add_argument("--pred", required=True, help="prediction: folder or JSON")
    parser.add_argument("--gt", required=True, help="ground truth: folder or JSON")
    parser.add_argument("--metrics", nargs="+", choices=METRICS[task], default=list(DEFAULT_METRICS[task]))
    parser.add_argument("--cityscapes", action="store_true", help="Cityscapes' files, and boundary ratio 0.005")
    parser.add_argument("--boundary-ratio", type=float, metavar="R", help="boundary width / diagonal (default: 0.02)")
    parser.add_argument("--boundary-px", type=int, metavar="D", help="boundary width in pixels instead")
    parser.add_argument("--output", metavar="JSON", help="all metrics, settings and mismatches")
    parser.add_argument("--per-image", metavar="CSV", help="a row for each image, worst first (of two: most lost)")
    parser.add_argument("--compare", metavar="OTHER", help="another prediction, B; --pred is A")
    parser.add_argument("--per-class", action="store_true", help="with --compare: the classes' differences, too")
    parser.add_argument("--show", nargs="+", metavar="NAME", help="print these metrics only, e.g. AP AP90 Boundary-AP")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples of images (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    parser.add_argument("--allow-missing", action="store_true", help="score what fits, list the rest")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="threads (default: %(default)s)"
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    semantic, instance, panoptic = [tasks.add_parser(task) for task in METRICS]
    for task, one in zip(METRICS, (semantic, instance, panoptic)):
        _add_common(one, task)
    semantic.add_argument("--classes", metavar="N|FILE", help="number of classes, or a file with a name in each line")
    semantic.add_argument("--ignore-label", type=int, default=255, metavar="V", help="default: 255; -1: none")
    semantic.add_argument("--category-ids", type=int, nargs="+", metavar="ID", help="of a JSON's masks, in class order")
    semantic.add_argument("--pred-train-ids", action="store_true", help="with --cityscapes: --pred holds train ids")
    semantic.add_argument("--f-score-px", type=float, nargs="+", default=[1, 2, 3], metavar="T", help="tolerances")
    semantic.add_argument(
        "--f-score-absent", action="store_true", help="a class without contour scores 1, as in the literature"
    )
    panoptic.add_argument("--pred-folder", help="PNGs (default: --pred without .json, else panoptic/ beside it)")
    panoptic.add_argument("--compare-folder", help="PNGs of --compare")
    panoptic.add_argument("--gt-folder", help="PNGs (default: --gt without .json)")
    args = parser.parse_args()
    if args.boundary_ratio is None:
        args.boundary_ratio = CITYSCAPES_RATIO if args.cityscapes else COCO_RATIO
    if args.task == "semantic":
        args.f_score_px = [int(t) if t >= 1 and t == int(t) else t for t in args.f_score_px]
    return args


def run_told(args: argparse.Namespace) -> None:
    """:func:`run`; errors of many images are listed before the one line that counts them."""
    try:
        run(args)
    except UserError as error:
        *lines, last = str(error).splitlines() or [""]
        if not lines:
            raise
        print_lines([*lines, last])
        raise UserError(f"{len(lines) + 1} images could not be scored, see above; mend their files") from None


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        run_told(args)


if __name__ == "__main__":
    main()
