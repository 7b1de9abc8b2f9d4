#!/usr/bin/env python
"""Makes the offline weight maps of registered data sets, for training with PNM.SOURCE offline.

python tools/precompute_weights.py --dataset cityscapes_fine_sem_seg_train --dry-run
python tools/precompute_weights.py --dataset cityscapes_fine_sem_seg_train ade20k_sem_seg_train
python tools/precompute_weights.py --dataset my_train --config-file my.yaml --locality 21 --output my_weights
python tools/precompute_weights.py --dataset my_train --verify
python tools/precompute_weights.py --dataset my_train --shard 1/8    # to 8/8, on any machines; then --merge 8

May be interrupted, or killed, at any moment: the same command goes on. Data sets of semantic labels (label PNGs) and of
COCO panoptic PNGs qualify; where a data set has both, as Panoptic FPN wants, the semantic labels are taken, or what
--labels says: maps of panoptic PNGs go with PNM.LABELS panoptic. Predictions of tools/pseudo_labels.py are labels, too:

python tools/precompute_weights.py --dataset photos --output maps --register "[{'name': 'photos', 'type': 'semantic',
  'images': 'photos', 'labels': 'photos_labels', 'classes': 'classes.txt'}]"
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.usable_cores import usable_cores
from pnm.errors import interrupts_told, one_line_errors
from pnm.projects.launcher.config_files import find_config_file

EXIT_FINDINGS = 1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, nargs="+", metavar="NAME", help="registered data sets")
    parser.add_argument("--locality", type=int, default=35, metavar="D", help="side of the window in px (default: 35)")
    parser.add_argument(
        "--border", choices=("valid", "zero"), default="valid", help="what windows count beyond the image's edge"
    )
    parser.add_argument(
        "--labels", choices=("semantic", "panoptic"), help="label files to take where a data set has both kinds"
    )
    parser.add_argument(
        "--ignore-label",
        type=int,
        metavar="VALUE",
        help="label of weight 0 (default: the data set's own, else 255; panoptic: 0)",
    )
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help="threads (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="ROOT", help="maps go to ROOT/NAME (default: $DETECTRON2_DATASETS/pnm_weights)"
    )
    parser.add_argument("--register", metavar="LIST", help="your data sets, as DATASETS.REGISTER takes them")
    parser.add_argument("--config-file", default="", metavar="FILE", help="config whose DATASETS.REGISTER is used")
    parser.add_argument("--shard", metavar="K/N", help="the K-th of N parts of the label files alone, K from 1")
    parser.add_argument("--merge", type=int, metavar="N", help="put together what N shards made, see docs/scale.md")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="say how many, how large and how long, and write nothing")
    mode.add_argument("--verify", action="store_true", help="check all maps and label files; exit status 1 on findings")
    mode.add_argument("--overwrite", action="store_true", help="replace maps, of other parameters, too")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    told = "maps made so far are kept; run the same command again to go on"
    with interrupts_told(told), one_line_errors():
        if args.config_file:
            args.config_file = find_config_file(args.config_file)
        from pnm.projects.launcher.weight_jobs import run  # takes seconds

        well = run(args)
    sys.exit(0 if well else EXIT_FINDINGS)


if __name__ == "__main__":
    main()
