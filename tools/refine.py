#!/usr/bin/env python
"""Refines the predictions of any segmentation model with a trained refiner; no ground truth is needed.

python tools/refine.py --config-file configs/quickstart/bpr_instance.yaml --images photos --predictions results.json \\
    --output refined.json MODEL.WEIGHTS output/quickstart/bpr_instance/model_final.pth
python tools/refine.py --config-file ... --image photo.jpg --mask photo_mask.png --output refined.png MODEL.WEIGHTS ...

Predictions may be COCO results JSON, COCO panoptic JSON with PNGs, a folder of label PNGs, Detectron2's
sem_seg_predictions.json or a folder of Cityscapes' *_pred.txt. The output has the same format, ids, scores and order.
A run that was killed goes on where it was when the same command is given again.
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
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config that the refiner was trained with")
    many = parser.add_argument_group("result files")
    many.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, searched with its folders")
    many.add_argument("--predictions", type=Path, metavar="FILE|DIR", help="coarse predictions")
    many.add_argument(
        "--image-info", type=Path, metavar="JSON", help="COCO annotations or image info: ids to file names"
    )
    many.add_argument("--png-folder", type=Path, metavar="DIR", help="PNGs of a panoptic JSON (default: beside it)")
    many.add_argument("--keep-missing", action="store_true", help="predictions without an image stay as they are")
    many.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes, one for each GPU (default: 1)")
    one = parser.add_argument_group("one image")
    one.add_argument("--image", type=Path, metavar="FILE")
    one.add_argument("--mask", type=Path, metavar="PNG", help="binary mask, or label map of a semantic refiner")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE|DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: MODEL.WEIGHTS FILE ...")
    args = parser.parse_args()
    one_mask = args.image and args.mask and not (args.images or args.predictions)
    if not one_mask and not (args.images and args.predictions and not (args.image or args.mask)):
        parser.error("give --images and --predictions, or --image and --mask")
    kept = "nothing was written" if one_mask else "what was refined is kept; run the same command again to go on"
    with interrupts_told(kept):
        with one_line_errors():
            args.config_file = find_config_file(args.config_file)
        # Takes seconds: not before the arguments are known to be right.
        from pnm.projects.launcher.refining_files import start

        start(args)


if __name__ == "__main__":
    main()
