#!/usr/bin/env python
"""Time and peak memory of multi-scale and flip testing, by the number of scales.

python benchmarks/multi_scale_testing.py
python benchmarks/multi_scale_testing.py --size 1024 2048 --classes 150 --threads 2

The quick start's Semantic FPN (ResNet-18) with random weights predicts an image of noise. Scales are factors on its
shortest edge, of which the largest (1.25) is in every run, so that more passes are all that changes; "plain" is the
model alone at that scale. Time (the median of rounds after one that warms up) and memory (the peak above what the
process has with the model built and the image made; Linux) are of a process each.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prn import cells_of  # before torch: it limits the threads

from null_model import processor
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
FACTORS = {1: (1.25,), 2: (0.75, 1.25), 6: (0.5, 0.625, 0.75, 0.875, 1.0, 1.25)}


def prepared(size: tuple[int, int], classes: int, scales: int, flip: bool | None, threads: int) -> Callable[[], Any]:
    """A prediction to be made; ``flip`` None is the model alone."""
    sys.path.insert(0, str(ROOT))
    import pnm  # noqa: F401
    import torch
    from detectron2.modeling import build_model
    from pnm.projects.launcher.config import load_config
    from pnm.projects.semantic_networks.multi_scale_testing import SemanticSegmentorWithTTA, resized

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    settings = ["MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", str(classes)]
    model = build_model(load_config(str(ROOT / "configs/quickstart/semantic_fpn_R_18.yaml"), settings)).eval()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    inputs = {"image": image, "height": size[0], "width": size[1]}
    edges = [round(factor * min(size)) for factor in FACTORS[scales]]
    if flip is not None:
        augmented = SemanticSegmentorWithTTA(model, edges, 2 * max(size), flip)
        return lambda: augmented([inputs])

    def plain() -> list[dict]:
        with torch.no_grad():
            return model([{**inputs, "image": resized(image, edges[-1], 2 * max(size))}])

    return plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[512, 1024], metavar=("H", "W"))
    parser.add_argument("--classes", type=int, default=19, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = parser.parse_args()
    rows = []
    for scales, flip in [(1, None), *((count, flip) for flip in (False, True) for count in FACTORS)]:
        arguments = (tuple(options.size), options.classes, scales, flip, options.threads)
        cells = cells_of(prepared, *arguments, rounds=options.rounds)
        name = "plain" if flip is None else f"{scales} scale(s){' + flip' if flip else ''}"
        rows.append([name, scales * (2 if flip else 1), *cells])
    height, width = options.size
    output_mib = height * width * options.classes * 4 / 2**20
    print(f"{processor()}, {options.threads} thread(s) of {os.cpu_count()} cores")
    print(f"{height} x {width}, {options.classes} classes: an output takes {output_mib:.0f} MiB")
    print(tabulate(rows, ["", "passes", "ms an image", "peak MiB"]))


if __name__ == "__main__":
    main()
