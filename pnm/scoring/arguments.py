"""Arguments that the programs that score result files have in common."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pnm.errors import UserError, print_lines
from pnm.formats.atomic_files import check_writable
from pnm.scoring.opening import CITYSCAPES_RATIO, COCO_RATIO, ScoringSettings
from pnm.usable_cores import usable_cores


def add_files(parser: argparse.ArgumentParser) -> None:
    """Predictions, ground truth, and how wide a boundary is."""
    parser.add_argument("--pred", required=True, help="prediction: folder or JSON")
    parser.add_argument("--gt", required=True, help="ground truth: folder or JSON")
    parser.add_argument("--compare", metavar="OTHER", help="another prediction, B; --pred is A")
    parser.add_argument("--cityscapes", action="store_true", help="Cityscapes' files, and boundary ratio 0.005")
    parser.add_argument("--boundary-ratio", type=float, metavar="R", help="boundary width / diagonal (default: 0.02)")
    parser.add_argument("--boundary-px", type=int, metavar="D", help="boundary width in pixels instead")


def add_running(parser: argparse.ArgumentParser) -> None:
    """The bootstrap, what doesn't fit, and threads."""
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples of images (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    parser.add_argument("--allow-missing", action="store_true", help="score what fits, list the rest")
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="threads (default: %(default)s)"
    )


def add_semantic(parser: Any) -> None:
    """Classes and labels of semantic maps; to a parser or a group of its arguments."""
    parser.add_argument("--classes", metavar="N|FILE", help="number of classes, or a file with a name in each line")
    parser.add_argument("--ignore-label", type=int, default=255, metavar="V", help="default: 255; -1: none")
    parser.add_argument("--category-ids", type=int, nargs="+", metavar="ID", help="of a JSON's masks, in class order")
    parser.add_argument("--pred-train-ids", action="store_true", help="with --cityscapes: --pred holds train ids")
    parser.add_argument("--f-score-px", type=float, nargs="+", default=[1, 2, 3], metavar="T", help="tolerances")
    parser.add_argument(
        "--f-score-absent", action="store_true", help="a class without contour scores 1, as in the literature"
    )


def add_panoptic(parser: Any) -> None:
    """Folders of panoptic PNGs; to a parser or a group of its arguments."""
    parser.add_argument("--pred-folder", help="PNGs (default: --pred without .json, else panoptic/ beside it)")
    parser.add_argument("--compare-folder", help="PNGs of --compare")
    parser.add_argument("--gt-folder", help="PNGs (default: --gt without .json)")


def finish(args: argparse.Namespace) -> None:
    """Puts defaults that depend on other arguments in their place."""
    if args.boundary_ratio is None:
        args.boundary_ratio = CITYSCAPES_RATIO if args.cityscapes else COCO_RATIO
    if hasattr(args, "f_score_px"):
        args.f_score_px = [int(t) if t >= 1 and t == int(t) else t for t in args.f_score_px]


def settings_of(args: argparse.Namespace) -> ScoringSettings:
    """What the arguments say of scoring; ``task`` and ``metrics`` are among them."""
    names = [name for name in ScoringSettings._fields if name != "shard" and hasattr(args, name)]
    return ScoringSettings(**{name: getattr(args, name) for name in names})


def sides_of(args: argparse.Namespace) -> list[tuple[str, str | None]]:
    """Path and folder of PNGs of the predictions: A, and B if there is one."""
    sides = [(args.pred, getattr(args, "pred_folder", None))]
    return sides + ([(args.compare, getattr(args, "compare_folder", None))] if args.compare else [])


def check_numbers(args: argparse.Namespace) -> None:
    """A UserError unless workers, resamples and seed make sense."""
    if args.workers < 1 or args.bootstrap < 1 or args.seed < 0:
        raise UserError("--workers and --bootstrap need a positive number, and --seed one from 0")


# Arguments that name what is read.
INPUTS = (
    "pred",
    "gt",
    "compare",
    "images",
    "pred_folder",
    "compare_folder",
    "gt_folder",
    "classes",
    "map",
    "image_info",
)


def check_outputs(args: argparse.Namespace, outputs: list[str]) -> None:
    """UserErrors for outputs, by the names of their arguments, that can't be written or would overwrite an input."""
    inputs = [Path(path) for path in (getattr(args, name, None) for name in INPUTS) if path is not None]
    paths = [Path(path) for path in (getattr(args, name) for name in outputs) if path is not None]
    for n, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in (*inputs, *paths[n + 1 :])]:
            raise UserError(f"{path} is named twice, and would be overwritten: name another file for the output")
        inside = next((one for one in inputs if one.is_dir() and one.resolve() in path.resolve().parents), None)
        if path.exists() and not path.is_dir() and (inside is not None or not path.is_file()):
            where = f"one of the files in {inside}" if inside is not None else "no plain file"
            raise UserError(f"{path} is {where}, and would be overwritten: name another file for the output")
        check_writable(path)


@contextmanager
def errors_of_images_listed() -> Iterator[None]:
    """Lists errors of many images before the one line that counts them."""
    try:
        yield
    except UserError as error:
        *lines, last = str(error).splitlines() or [""]
        if not lines:
            raise
        print_lines([*lines, last])
        raise UserError(f"{len(lines) + 1} images could not be scored, see above; mend their files") from None
