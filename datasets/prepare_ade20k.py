#!/usr/bin/env python3
"""Makes the label images of ADE20K (150 classes) that the data sets ade20k_sem_seg_{train,val} read.

The annotations number the classes from 1 and mark ignored pixels 0. Training wants classes from 0 and 255
for ignored pixels, so 0 becomes 255 and every other value is lowered by one:

    ADEChallengeData2016/
      annotations/{training,validation}/*.png               read
      annotations_detectron2/{training,validation}/*.png    written

Files that are there already are kept, so an interrupted run continues where it stopped.
"""

import argparse
from pathlib import Path

import label_files
import numpy as np

from pnm.formats.label_png import read_label_png


def convert(names: tuple[Path, Path]) -> None:
    """Reads the first file, writes the second."""
    source, target = names
    labels = read_label_png(source)
    if labels.dtype != np.uint8:
        raise ValueError(
            f"{source} has {labels.dtype} pixels, expected 8 bits: this is not the 150-class version "
            "(ADEChallengeData2016)"
        )
    label_files.save_png(labels - np.uint8(1), target)


def find_jobs(annotations: Path, output: Path, force: bool) -> list[tuple[Path, Path]]:
    """(source, target) of the label images that are to be converted."""
    sources = sorted(path for split in ("training", "validation") for path in annotations.glob(f"{split}/*.png"))
    if not sources:
        raise FileNotFoundError(
            f"no label images in {annotations}/training or …/validation: unpack ADEChallengeData2016.zip, and pass its "
            "folder as --root or set DETECTRON2_DATASETS to the folder above it"
        )
    jobs = [(source, output / source.relative_to(annotations)) for source in sources]
    return jobs if force else [job for job in jobs if not job[1].exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_root = label_files.datasets_root() / "ADEChallengeData2016"
    parser.add_argument(
        "--root",
        type=Path,
        default=default_root,
        metavar="DIR",
        help="the data set's folder (default: $DETECTRON2_DATASETS/ADEChallengeData2016, now %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: annotations_detectron2 in --root)"
    )
    label_files.add_work_options(parser)
    args = parser.parse_args()
    output = args.output or args.root / "annotations_detectron2"
    jobs = find_jobs(args.root / "annotations", output, args.force)
    label_files.convert_all(convert, jobs, args.workers, "label images")
    print(f"{len(jobs)} label images written to {output}; what was there is kept")


if __name__ == "__main__":
    label_files.run(main)
