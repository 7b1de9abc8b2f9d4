#!/usr/bin/env python
"""Predicts your own pictures with a trained model: a folder of images, one image, a list of them, or a video.

python tools/predict.py --config-file configs/quickstart/mask_rcnn_R_18_FPN_PNM.yaml --images photos \\
    --output predicted MODEL.WEIGHTS output/quickstart/mask_rcnn_pnm/model_final.pth

No annotations are needed. The output folder has result files that refine, evaluate and report take:
coco_instances_results.json of instances, labels/*.png and names.txt of classes, predictions.json and panoptic/*.png of
segments; images.json lists the images with their ids; overlays/*.jpg show what was predicted. Result files hold all
that the model gives; --min-score is for overlays and for annotations to correct (--format labelme, yolo, cvat, ...).

Refined in the same pass, by one refiner or several, each with its own overrides:

python tools/predict.py --config-file mask_rcnn.yaml --images photos --output predicted MODEL.WEIGHTS mask_rcnn.pth \\
    --refine bpr.yaml MODEL.WEIGHTS bpr.pth

Images may have 8 or 16 bits and any number of channels: 16 bits become v / 257, or with --stretch 2 98 what lies
between these percentiles of each image; --bands 4 3 2 says which channels are red, green and blue. Of a GeoTIFF,
geotiff/*.tif lies where the image does. Of a video, overlays.mp4 shows every frame, or every n-th (--every).

A run that has ended early goes on with --resume, as if it had not been interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.annotations.known_formats import writable_format
from pnm.errors import interrupts_told, one_line_errors
from pnm.formats.folders import check_apart
from pnm.pictures.picture_files import PictureFiles
from pnm.pictures.pictures import Toning
from pnm.pictures.video import Video, is_video
from pnm.predictions.result_folder import check_place
from pnm.projects.launcher.config_files import find_config_file

REFINE = "--refine"
_TASKS = ("instance", "semantic", "panoptic")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config that the model was trained with")
    parser.add_argument(
        "--images",
        required=True,
        type=Path,
        metavar="DIR|FILE",
        help="folder, searched with its folders; an image; a *.txt with a path in each line; a video",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument("--task", choices=_TASKS, help="what to keep of a model that predicts several (default: all)")
    parser.add_argument(
        "--min-score", type=float, default=0.5, metavar="S", help="of objects in overlays and annotations (0.5)"
    )
    parser.add_argument("--format", metavar="FORMAT", help="annotations to correct, too: labelme, yolo, cvat, ...")
    parser.add_argument(
        "--overlays", action=argparse.BooleanOptionalAction, default=True, help="draw predictions over the images"
    )
    reading = parser.add_argument_group("reading")
    reading.add_argument("--bands", type=int, nargs=3, metavar="N", help="channels, from 1, of red, green and blue")
    reading.add_argument(
        "--stretch", type=float, nargs=2, metavar="P", help="percentiles of each image that become black and white"
    )
    reading.add_argument("--every", type=int, default=1, metavar="N", help="of a video, every n-th frame (default: 1)")
    reading.add_argument("--keep-frames", action="store_true", help="of a video, the frames as frames/*.png, too")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    again.add_argument("--overwrite", action="store_true", help="replace the run in the output folder")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    return parser


def _refiner_parser() -> argparse.ArgumentParser:
    """Of what follows a --refine."""
    parser = argparse.ArgumentParser(prog=f"... {REFINE}", usage=f"{REFINE} FILE MODEL.WEIGHTS FILE [KEY VALUE ...]")
    parser.add_argument("config_file", metavar="FILE", help="config of a refiner")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="its overrides: MODEL.WEIGHTS FILE ...")
    return parser


def parse_args(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; ``refiners`` are what follows each --refine, with ``config_file``, ``opts`` and ``offsets``."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == REFINE:
            parts.append([])
        else:
            parts[-1].append(word)
    parser = _parser()
    args = parser.parse_args(parts[0])
    unsaid = {"offsets": None, "universal": None, "backend": None}
    args.refiners = [_refiner_parser().parse_args(part, argparse.Namespace(**unsaid)) for part in parts[1:]]
    if args.every < 1:
        parser.error(f"--every is {args.every}, expected 1 or more")
    if not 0 <= args.min_score <= 1:
        parser.error(f"--min-score is {args.min_score:g}, expected 0 to 1")
    args.bands, args.stretch = (pair and tuple(pair) for pair in (args.bands, args.stretch))
    return args


def find_pictures(args: argparse.Namespace) -> None:
    """Adds ``video`` or ``files``, the other being None; a UserError if there are none, or the output may not be."""
    args.video = args.files = None
    toning = Toning(args.bands, args.stretch)
    if not is_video(args.images):
        args.files = PictureFiles(args.images)
    check_apart(args.images, args.output, "predictions")
    check_place(args.output, resume=args.resume, overwrite=args.overwrite)
    if args.format is not None:
        writable_format(args.format)
    if args.files is None:
        args.video = Video(args.images)
    else:
        args.files.check_headers(toning)


def main() -> None:
    args = parse_args(sys.argv[1:])
    kept = "what was predicted is kept; run the same command with --resume to go on"
    with interrupts_told(kept), one_line_errors():
        for part in (args, *args.refiners):
            part.config_file = find_config_file(part.config_file)
        find_pictures(args)
        from pnm.projects.launcher.predicting.run import run  # takes seconds

        run(args)


if __name__ == "__main__":
    main()
