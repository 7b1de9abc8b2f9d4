#!/usr/bin/env python
"""Refiners that need no training beside each other, on real masks that none of them has seen.

python benchmarks/universal.py --data DATASETS --strength 0.1 0.3 --output universal.json

DATASETS (or PNM_REAL_DATA) is a folder as DETECTRON2_DATASETS names it; used is what is there of real DeepLabV3+
predictions (predictions/voc_deeplabv3plus) and of COCO, CamVid, Cityscapes and ADE20K, whose true masks are made
coarse in the ways of coarsening.py, perfect ones among them. Boundary IoU is that of Cheng et al. at 0.5 % of the
image's diagonal; ignored pixels don't count. Objects are cut out with a margin of half their longer side, at least
64 px. Each refiner of REFINERS, and the project's own at each --strength, gets the same masks; who is not installed is
left out with a word.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from classical_refiners import DEEPLAB_CRF, dense_crf, grabcut, guided_filter, has_dense_crf
from null_model import processor
from refining_groups import Refiner, Row, groups, measure
from tabulate import tabulate

import pnm
from pnm.errors import UserError
from pnm.formats.atomic_files import check_writable, write_text
from pnm.object_refinement.trained_weights import DEFAULT_WEIGHTS

ERRORS_BELOW = 95.0  # a group of lower coarse IoU has errors
REFINERS: dict[str, Refiner] = {
    "GrabCut": grabcut,
    "guided filter": guided_filter,
    "guided filter, 4 px": partial(guided_filter, radius_px=4),
    "dense CRF": dense_crf,
    "dense CRF of DeepLab": partial(dense_crf, settings=DEEPLAB_CRF),
}
IS_INSTALLED: dict[str, Callable[[], bool]] = {"dense CRF": has_dense_crf, "dense CRF of DeepLab": has_dense_crf}


def universal(weights: str, **options: float) -> Refiner:
    """The project's own."""
    refiner = pnm.Refiner(weights, **options)
    return lambda image, mask: np.asarray(refiner(np.ascontiguousarray(image), mask), np.bool_)


def named_refiners(names: list[str], strengths: list[float], weights: str) -> dict[str, Refiner]:
    """Refiners by name; those that aren't installed are named and left out."""
    there = {name: REFINERS[name] for name in names if IS_INSTALLED.get(name, lambda: True)()}
    for name in sorted(set(names) - set(there)):
        print(f"{name} is not installed and left out")
    own = {f"universal, {strength:g}": universal(weights, strength=strength) for strength in strengths}
    return there | (own or {"universal": universal(weights)})


def table(headers: list[str], lines: list[list]) -> str:
    """Numbers to the right, as they are written."""
    return tabulate(lines, headers, disable_numparse=True, colalign=("left", *("right",) * (len(headers) - 1)))


def group_table(results: dict[str, list[Row]]) -> str:
    """A line for each group: gain in Boundary IoU and, in brackets, share of objects that lose over 0.5 IoU."""
    lines = []
    for rows in zip(*results.values()):
        first = rows[0]
        cells = [f"{row.boundary_iou_gain:+.1f} ({row.loses_iou:.0f})" for row in rows]
        lines.append([first.group, first.objects, f"{first.iou:.1f}", f"{first.boundary_iou:.1f}", *cells])
    return table(["group", "masks", "IoU", "Boundary IoU", *results], lines)


def _mean(rows: list[Row], column: str) -> str:
    return f"{statistics.mean(getattr(row, column) for row in rows):+.1f}" if rows else "—"


def summary_table(results: dict[str, list[Row]]) -> str:
    """A line for each refiner: means over groups, the worst of them, and time. Gains are those in Boundary IoU."""
    lines = []
    for name, rows in results.items():
        wrong = [row for row in rows if row.iou < ERRORS_BELOW]
        perfect = [row for row in rows if row.group.endswith("/perfect")]
        voc = [row for row in rows if row.group == "voc"]
        gains = [_mean(kind, "boundary_iou_gain") for kind in (rows, wrong, perfect)]
        least = f"{min(row.boundary_iou_gain for row in wrong):+.1f}" if wrong else "—"
        ms = 1000 * sum(row.seconds for row in rows) / sum(row.objects for row in rows)
        most = max(row.loses_iou for row in rows)
        lines.append(
            [name, *gains, least, _mean(rows, "iou_gain"), f"{most:.0f}", _mean(voc, "lenient_gain"), f"{ms:.0f}"]
        )
    under = f"IoU < {ERRORS_BELOW:g}"
    means = ["refiner", "all groups", under, "perfect", f"least, {under}", "gain in IoU"]
    return table([*means, "most that lose (%)", "voc, void free", "ms a mask"], lines)


def parsed_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    data = os.environ.get("PNM_REAL_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data), metavar="DATASETS")
    parser.add_argument("--refiners", nargs="*", choices=REFINERS, default=list(REFINERS), metavar="NAME")
    parser.add_argument("--strength", nargs="*", type=float, default=[], metavar="S", help="of the universal refiner")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, metavar="NAME|FILE", help="of the universal refiner")
    parser.add_argument("--groups", nargs="*", default=[""], metavar="TEXT", help="only groups whose names have one")
    parser.add_argument("--quick", action="store_true", help="12 objects of each data set")
    parser.add_argument("--output", type=Path, metavar="JSON", help="all numbers, those of the tables among them")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give the folder of the data sets: --data, or PNM_REAL_DATA in the environment")
    return args


def run(args: argparse.Namespace) -> None:
    if args.output:
        check_writable(args.output)
    refiners = named_refiners(args.refiners, args.strength, args.weights)
    cases = groups(args.data, args.quick)
    cases = {group: members for group, members in cases.items() if any(text in group for text in args.groups)}
    if not refiners or not cases:
        raise UserError("there is no refiner or no group to measure: give other --refiners or --groups")
    results = {name: measure(refiner, cases, name) for name, refiner in refiners.items()}
    print(f"{processor()}\n\n{group_table(results)}\n\n{summary_table(results)}")
    if args.output:
        rows = {name: [row._asdict() for row in group_rows] for name, group_rows in results.items()}
        content = {"processor": processor(), "quick": args.quick, "refiners": rows}
        write_text(args.output, json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args = parsed_args(parser)
    try:
        run(args)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
