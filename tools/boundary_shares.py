#!/usr/bin/env python
"""Says how much of each class lies within a few pixels of a boundary: where sharper boundaries can gain, and where not.

python tools/boundary_shares.py --labels labels/val --classes names.txt
python tools/boundary_shares.py --labels cityscapes/gtFine/val --cityscapes --output shares.json

Labels are a folder of label PNGs. A pixel counts as near if the nearest pixel of another label (void, too) is at most
as many pixels away, from centre to centre. Shares are percentages in what is printed and 0..1 in files.
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.cityscapes_classes import CITYSCAPES_CLASSES
from pnm.compiling import announce_compilation
from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import check_writable, write_text
from pnm.formats.class_names import read_class_names
from pnm.formats.label_png import read_label_png
from pnm.formats.semantic_maps import label_files, train_ids
from pnm.interior_offsets.boundary_shares import BoundaryShares
from pnm.scoring.scores import for_each_image, json_text
from pnm.usable_cores import usable_cores


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", required=True, type=Path, metavar="DIR", help="label PNGs")
    parser.add_argument(
        "--classes",
        metavar="N|FILE",
        help="needed without --cityscapes: number of classes, or a file with a name in each line",
    )
    parser.add_argument("--cityscapes", action="store_true", help="Cityscapes' files and classes")
    parser.add_argument("--ignore-label", type=int, default=255, metavar="V", help="default: 255; -1: none")
    parser.add_argument(
        "--widths", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="W", help="px (default: 1 to 5)"
    )
    parser.add_argument("--output", metavar="JSON", help="shares and numbers of pixels")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="threads (default: %(default)s)"
    )
    return parser.parse_args()


def percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.1f}"


def run(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise UserError(f"--workers is {args.workers}, expected a positive number")
    if args.output:
        check_writable(args.output)
    names = list(CITYSCAPES_CLASSES.values()) if args.cityscapes else read_class_names(args.classes)
    shares = BoundaryShares(len(names), args.widths, None if args.ignore_label < 0 else args.ignore_label)
    files = label_files(args.labels, label_ids=args.cityscapes)
    announce_compilation()

    def count(name: str):
        labels = read_label_png(files[name])
        if args.cityscapes:
            labels = train_ids(files[name], labels, truth=True)
        try:
            return shares.counts(labels)
        except UserError as error:
            raise UserError(f"{files[name]}: {error}") from None

    for counts in for_each_image(count, list(files), args.workers, True):
        shares.add_counts(counts)
    by_class, of_all, total = shares.by_class(), shares.of_all(), int(shares.pixels.sum())
    rows = [
        [name, *map(percent, by_class[:, k]), percent(int(shares.pixels[k]) / total if total else float("nan"))]
        for k, name in enumerate(names)
    ]
    rows.append(["all", *map(percent, of_all), percent(1.0)])
    headers = ("class", *(f"{width} px" for width in shares.widths_px), "of all pixels")
    align = ("left", *["right"] * (len(headers) - 1))
    print(tabulate(rows, headers, colalign=align, disable_numparse=True))
    print(f"\n{len(files)} image(s); % of a class's pixels that are at most so far from another label")
    if args.output:
        content = {
            "widths_px": shares.widths_px,
            "images": len(files),
            "classes": {
                name: {"pixels": int(shares.pixels[k]), "shares": by_class[:, k].tolist()}
                for k, name in enumerate(names)
            },
            "all": of_all.tolist(),
        }
        write_text(args.output, json_text(content))


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
