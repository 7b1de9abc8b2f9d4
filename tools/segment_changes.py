#!/usr/bin/env python
"""Says which segments a panoptic refiner kept, inserted, deleted, re-classed, split and merged, and draws them.

python tools/segment_changes.py --before predictions.json --after refined.json --images images/val --output page.png
python tools/segment_changes.py --before predictions.json --after refined.json --gt panoptic_val2017.json

Both are COCO panoptic results of the same images, of any ids: segments are kept if their categories agree and IoU is
above 0.5. With ground truth it is counted, too, which of its segments were found or lost, and which false ones are gone
or new. The page shows the images with the most changes first.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tabulate import tabulate

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.compiling import announce_compilation
from pnm.errors import UserError, interrupts_told, listed, one_line_errors
from pnm.formats.atomic_files import atomic_file, check_writable, write_text
from pnm.formats.image_files import ImageFiles, Key, check_no_image
from pnm.predictions.panoptic_changes import CHANGES, COLUMNS, PanopticChanges
from pnm.predictions.segment_changes import SegmentChanges
from pnm.scoring.change_pages import ChangedImage, draw_page
from pnm.scoring.scores import for_each_image, json_text
from pnm.usable_cores import usable_cores

LEAST_WIDTH = 80  # px, for the titles


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, type=Path, metavar="JSON", help="results of the base model")
    parser.add_argument("--after", required=True, type=Path, metavar="JSON", help="refined results")
    for side in ("before", "after"):
        parser.add_argument(f"--{side}-folder", type=Path, metavar="DIR", help=f"PNGs of --{side}, if not beside it")
    parser.add_argument("--gt", type=Path, metavar="JSON", help="ground truth: counts what was found and lost, too")
    parser.add_argument("--gt-folder", type=Path, metavar="DIR", help="PNGs of --gt, if not beside it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images, for --output")
    parser.add_argument("--output", type=Path, metavar="PICTURE", help="page of the images with the most changes")
    parser.add_argument("--num", type=int, default=6, metavar="N", help="images on the page (default: %(default)s)")
    parser.add_argument("--width", type=int, default=480, metavar="PX", help="of its pictures (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="counts, in all and of each image")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="threads (default: %(default)s)"
    )
    return parser.parse_args()


def check_arguments(args: argparse.Namespace) -> None:
    """UserErrors that can be told before anything is read."""
    for name in ("workers", "num"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} is {getattr(args, name)}, expected a positive number")
    if args.width < LEAST_WIDTH:
        raise UserError(f"--width is {args.width}, expected at least {LEAST_WIDTH} px")
    if (args.output is None) != (args.images is None):
        raise UserError("--output and --images go together: give both for a page, or neither")
    if args.gt_folder and not args.gt:
        raise UserError("--gt-folder is for --gt, which is missing")
    if args.output and picture_format(args.output) is None:
        raise UserError(f"--output is {args.output}, expected the name of a picture, such as *.png or *.jpg")
    if args.output:
        check_no_image(args.output, args.images)
    inputs = [path.resolve() for path in (args.before, args.after, args.gt) if path]
    for path, others in ((args.json, [*inputs, args.output and args.output.resolve()]), (args.output, inputs)):
        if path and path.resolve() in others:
            raise UserError(f"{path} is named twice, and would be overwritten: name another file for the output")
        if path:
            check_writable(path)


def picture_format(path: Path) -> str | None:
    name = Image.registered_extensions().get(path.suffix.lower())
    return name if name in Image.SAVE else None


def images_of(changes: PanopticChanges, folder: Path) -> ImageFiles:
    """The images, all of which are there."""
    files = ImageFiles(folder, changes.image_info)
    missing = [image for image in changes.images if files.find(image) is None]
    if missing:
        raise UserError(f"{len(missing)} image(s) are not in {folder}: {listed(missing)}: check the folder")
    return files


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF tag says."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not a readable image: {error}") from None


def changed_ids(changes: SegmentChanges) -> dict[str, tuple[int, ...]]:
    """Ids to draw for the names of the changes: deleted ones of the base, others of what came of it."""
    return {
        "deleted": changes.deleted,
        "merged": tuple(changes.merged),
        "split": tuple(part for parts in changes.split.values() for part in parts),
        "re-classed": tuple(number for _, number in changes.reclassed),
        "inserted": changes.inserted,
    }


def row_of(changes: PanopticChanges, image: Key, counts: np.ndarray, path: Path) -> ChangedImage:
    base, of_image = changes.of_image(image)
    numbers = [f"{number} {kind}" for kind, number in zip(CHANGES, counts[:, 0].tolist()) if number]
    caption = f"{path.name}: {', '.join(numbers)}"
    return ChangedImage(caption, read_image(path), base.labels, of_image.refined.labels, changed_ids(of_image))


def tables(rows: tuple[str, ...], totals: np.ndarray, has_kinds: bool) -> str:
    """The changes and, with ground truth, what they were good for."""
    columns = COLUMNS if has_kinds else COLUMNS[:1]
    lines = [[name, *values[: len(columns)]] for name, values in zip(rows, totals.tolist())]
    parts = [("segments", lines[: len(CHANGES)]), ("beside the ground truth", lines[len(CHANGES) :])]
    return "\n\n".join(tabulate(part, (title, *columns)) for title, part in parts if part)


def run(args: argparse.Namespace) -> None:
    check_arguments(args)
    changes = PanopticChanges(
        args.before, args.after, args.before_folder, args.after_folder, gt=args.gt, gt_folder=args.gt_folder
    )
    files = images_of(changes, args.images) if args.output else None
    announce_compilation()
    counts = np.stack(for_each_image(changes.counts, changes.images, args.workers, True))
    totals = counts.sum(axis=0)
    print(tables(changes.rows, totals, bool(changes.isthing)))
    number = counts[:, 1 : len(CHANGES), 0].sum(axis=1)  # all but kept
    print(f"\n{len(changes.images)} image(s), {np.count_nonzero(number)} of them with changes")
    if args.json:
        content = {
            "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
            "images": len(changes.images),
            "counts": {
                name: dict(zip(COLUMNS if changes.isthing else COLUMNS[:1], row))
                for name, row in zip(changes.rows, totals.tolist())
            },
            "by_image": [
                {"image_id": image, **dict(zip(changes.rows, row))}
                for image, row in zip(changes.images, counts[..., 0].tolist())
            ],
        }
        write_text(args.json, json_text(content))
    if files:
        chosen = np.argsort(-number, kind="stable")[: args.num].tolist()
        shown = [changes.images[k] for k in chosen]
        page = draw_page([row_of(changes, i, counts[k], files.path(i)) for i, k in zip(shown, chosen)], args.width)
        with atomic_file(args.output) as file:
            page.save(file, format=picture_format(args.output))
        print(f"{args.output}: the {len(shown)} image(s) with the most changes")


def main() -> None:
    with interrupts_told("what was not written yet is not there; run it again"), one_line_errors():
        run(parse_args())


if __name__ == "__main__":
    main()
