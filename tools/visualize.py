#!/usr/bin/env python
"""Draws a page of images, ground truth and predictions from the result files that an evaluation left.

python tools/visualize.py --config-file configs/quickstart/mask_rcnn_R_18_FPN.yaml
python tools/visualize.py --config-file ... --dataset my_val --num 8 --min-score 0.7 --output page.png
python tools/visualize.py --config-file ... --refined output/bpr/inference/my_val --pixel-weights
python tools/visualize.py --config-file ... --refined output/segfix/inference/my_val --offsets offsets/my_val
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import interrupts_told, one_line_errors
from pnm.projects.launcher.config_files import find_config_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of the evaluation")
    parser.add_argument("--dataset", help="registered data set (default: the first of DATASETS.TEST)")
    parser.add_argument("--predictions", type=Path, help="folder of result files (default: the evaluation's)")
    parser.add_argument("--refined", type=Path, metavar="DIR", help="folder of a refiner's result files, drawn beside")
    parser.add_argument("--pixel-weights", action="store_true", help="draw the null model's weights, too")
    parser.add_argument("--offsets", type=Path, metavar="DIR", help="SegFix's stored offsets, drawn in colours")
    parser.add_argument("--output", type=Path, help="picture to write (default: predictions.png in OUTPUT_DIR)")
    parser.add_argument("--num", type=int, default=6, help="how many images, spread over the data set (default: 6)")
    parser.add_argument("--min-score", type=float, default=0.5, help="draw detections from this score (default: 0.5)")
    parser.add_argument("--scale", type=float, default=1.5, help="enlargement of the images (default: 1.5)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")
    args = parser.parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        args.config_file = find_config_file(args.config_file)
        from pnm.projects.launcher.result_pages import draw_results  # takes seconds

        draw_results(args)


if __name__ == "__main__":
    main()
