#!/usr/bin/env python
"""Draws what PRN takes, predicts and makes of it, image by image: the paper's Fig. 4.

python tools/visualize_prn.py --config-file configs/quickstart/prn.yaml --images photos --predictions results.json \\
    --output page.png MODEL.WEIGHTS output/quickstart/prn/model_final.pth

Colours: of offsets, the hue is their direction; of boxes, red is the height and blue the width that each pixel says; a
segment has one colour before and after if it keeps its id. Classes have colours of their own.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import UserError, interrupts_told, one_line_errors
from pnm.formats.atomic_files import atomic_file, check_writable
from pnm.formats.image_files import ImageFiles, check_no_image
from pnm.predictions import open_predictions
from pnm.projects.launcher.config_files import find_config_file
from pnm.tools.picture_pages import check_positive, draw_page, picture_format


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config that PRN was trained with")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of the images")
    parser.add_argument("--predictions", required=True, type=Path, metavar="JSON", help="panoptic result file")
    parser.add_argument("--png-folder", type=Path, metavar="DIR", help="its PNGs (default: beside it)")
    parser.add_argument("--output", required=True, type=Path, metavar="PICTURE")
    parser.add_argument("--num", type=int, default=4, metavar="N", help="images, spread over all (default: 4)")
    parser.add_argument("--width", type=int, default=200, metavar="PX", help="of a picture (default: 200)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    check_positive(num=args.num, width=args.width)
    output_format = picture_format(args.output)
    check_no_image(args.output, args.images)
    check_writable(args.output)
    config = find_config_file(args.config_file)
    options = {"png_folder": args.png_folder} if args.png_folder else {}
    predictions, images = open_predictions(args.predictions, task="panoptic", **options), ImageFiles(args.images)
    keys = [
        predictions.keys[k] for k in np.linspace(0, len(predictions) - 1, min(args.num, len(predictions))).astype(int)
    ]
    # Takes seconds: not before the arguments are known to be right.
    from pnm.projects.dataset_mappers.reading import read_image
    from pnm.projects.launcher.refiner_loading import load_refiner
    from pnm.projects.prn.pictures import pictures_of

    refiner = load_refiner(config, overrides=args.opts)
    rows = []
    for key in keys:
        image = read_image(str(images.path(key)), "RGB")
        rows.append({"image": image, **pictures_of(refiner, image, predictions.read(key))})
    if not rows:
        raise UserError(f"{args.predictions} has no image")
    with atomic_file(args.output) as file:
        draw_page(rows, args.width).save(file, format=output_format)
    print(f"{args.output}: {len(rows)} image(s)")


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        run(args)


if __name__ == "__main__":
    main()
