#!/usr/bin/env python
"""Says what is in a data set before anything is trained on it, and draws what a person should look at.

python tools/check.py annotations.json --images photos --output check.jpg
python tools/check.py labelme_folder --output check.jpg

Any format that tools/convert.py reads; train_net.py --check does the same with the data sets of a config.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file of a clone
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pnm.annotations.annotation_set import TASKS
from pnm.annotations.arguments import add_source_arguments, named_source
from pnm.annotations.checking import check_annotations
from pnm.annotations.staging import named_annotations
from pnm.errors import interrupts_told, one_line_errors
from pnm.formats.atomic_files import check_writable


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source_arguments(parser)
    parser.add_argument("--task", choices=TASKS, help="as which the annotations are read (default: the format's own)")
    parser.add_argument(
        "--output", type=Path, default=Path("check.jpg"), metavar="PICTURE", help="(default: check.jpg)"
    )
    parser.add_argument("--samples", type=int, default=10, metavar="N", help="images drawn whole (default: 10)")
    parser.add_argument("--each", type=int, default=10, metavar="N", help="doubts of each kind drawn (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the images drawn (default: 0)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with interrupts_told("nothing was written"), one_line_errors():
        check_writable(args.output)
        annotations = named_annotations(named_source(args, args.task), args.format, args.map)
        print(check_annotations(annotations, args.output, samples=args.samples, each=args.each, seed=args.seed))


if __name__ == "__main__":
    main()
