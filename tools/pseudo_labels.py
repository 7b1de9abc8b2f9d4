#!/usr/bin/env python
"""Labels images with a trained semantic model: its predictions as label PNGs, to train another model on.

python tools/pseudo_labels.py --config-file configs/quickstart/semantic_fpn_R_18.yaml --images photos \\
    --output photos_labels MODEL.WEIGHTS output/quickstart/semantic_fpn/model_final.pth

The images need no annotations. Of each of them, photos/town/a.jpg, the class of every pixel is written to
photos_labels/town/a.png, in the image's own size: 8 bits up to 255 classes, 16 bits for more. Then

  DATASETS.REGISTER "[{'name': 'photos', 'type': 'semantic', 'images': 'photos', 'labels': 'photos_labels',
                       'classes': 'classes.txt'}]" DATASETS.TRAIN "('photos',)"

makes them a data set to train on, whose loss MODEL.PNM weights (of more than 255 classes it wants an ignore_label that
is none of them).

With TEST.AUG.ENABLED True predictions are averaged over scales and mirror images, as --eval-only does it.

A run that has ended early goes on with --resume: PNGs that are there are kept, and their images not looked at. They
must be the same model's, which nobody checks.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.errors import interrupts_told, one_line_errors
from pnm.projects.launcher.config_files import find_config_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config that the model was trained with")
    parser.add_argument(
        "--images", required=True, type=Path, metavar="DIR", help="folder of the images, searched with its folders"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the label PNGs")
    parser.add_argument("--resume", action="store_true", help="keep label PNGs that are there, and make the others")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with interrupts_told("labels made so far are kept; run the same command with --resume to go on"), one_line_errors():
        args.config_file = find_config_file(args.config_file)
        from pnm.projects.launcher.pseudo_labelling import run  # takes seconds

        run(args)


if __name__ == "__main__":
    main()
