#!/usr/bin/env python
"""Time and memory of the semantic networks of the PNM paper's tables, and of attention between pixels.

python benchmarks/semantic_networks.py                       # networks at 512 x 1024, one image
python benchmarks/semantic_networks.py --only attention      # blocks alone, beside the matrix of all pairs

A training step is a forward and a backward pass in single precision, without the optimizer's state, of random weights.
"matrix" is attention as it is written down, a softmax of the (H W) x (H W) products of all pixels, in plain torch; the
blocks see 512 channels at stride 8. Milliseconds (the median of rounds after one that warms up) and the peak of memory
above what the process has with the model built (Linux) are of a process each.
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
PARTS = ("networks", "attention")
NETWORKS = (
    "fcn_R_101",
    "nlnet_R_101",
    "ccnet_R_101",
    "pspnet_R_101",
    "deeplabv3_R_101",
    "ocrnet_HR_48",
    "ocrnet_HR_18",
)
BLOCKS = ("non-local", "non-local, matrix", "criss-cross twice")


def network(name: str, size: tuple[int, int], training: bool) -> Callable[[], Any]:
    """A training step, or a prediction."""
    sys.path.insert(0, str(ROOT))
    import pnm  # noqa: F401
    import torch
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage
    from pnm.projects.launcher.config import load_config

    torch.set_num_threads(1)
    encoder = ["MODEL.SEMANTIC_NETWORK.ENCODER", "tu-hrnet_w18"] if name == "ocrnet_HR_18" else []
    file = f"Cityscapes-SemanticSegmentation/{name.replace('HR_18', 'HR_48')}_40k.yaml"
    options = ["MODEL.DEVICE", "cpu", "MODEL.SEMANTIC_NETWORK.ENCODER_WEIGHTS", "", "MODEL.SEMANTIC_NETWORK.NORM", "BN"]
    model = build_model(load_config(str(ROOT / "configs" / file), [*options, *encoder]))
    model.train(training)
    # One value of the auxiliary or of PSPNet's pooled features would stop BatchNorm in a batch of one image.
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    inputs = [{"image": torch.randint(0, 256, (3, *size), dtype=torch.uint8), "sem_seg": torch.randint(0, 19, size)}]

    def step() -> None:
        with EventStorage(), torch.set_grad_enabled(training):
            found = model(inputs)
            if training:
                model.zero_grad(set_to_none=True)
                sum(found.values()).backward()

    return step


def block(name: str, size: tuple[int, int], training: bool) -> Callable[[], Any]:
    """A forward and a backward pass through a block, or a forward pass alone."""
    sys.path.insert(0, str(ROOT))
    import pnm  # noqa: F401
    import torch
    from pnm.projects.semantic_networks import attention

    def with_matrix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        weights = (query.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(dim=-1)
        return (value.flatten(2) @ weights.transpose(1, 2)).reshape(value.shape)

    torch.set_num_threads(1)
    if name == "non-local, matrix":
        attention.non_local_attention = with_matrix
    module = attention.CrissCrossBlock(512) if name == "criss-cross twice" else attention.NonLocalBlock(512)
    module.train(training)
    x = torch.randn(1, 512, size[0] // 8, size[1] // 8, requires_grad=training)

    def step() -> None:
        with torch.set_grad_enabled(training):
            out = module(x)
            if training:
                module.zero_grad(set_to_none=True)
                x.grad = None
                out.sum().backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--size", type=int, nargs=2, default=[512, 1024], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=1, help="0: one run, compilation included (default: %(default)s)")
    args = parser.parse_args()
    print(f"{processor()}, 1 thread of {os.cpu_count()}, {args.size[0]} x {args.size[1]}, one image")
    for part, make, names in (("networks", network, NETWORKS), ("attention", block, BLOCKS)):
        if part not in args.only:
            continue
        rows = []
        for name in names:
            cells = [cells_of(make, name, tuple(args.size), training, rounds=args.rounds) for training in (False, True)]
            rows.append([name, *cells[0], *cells[1]])
        headers = [part, "ms, prediction", "MiB", "ms, training step", "MiB"]
        print(f"\n{tabulate(rows, headers, tablefmt='github')}", flush=True)


if __name__ == "__main__":
    main()
