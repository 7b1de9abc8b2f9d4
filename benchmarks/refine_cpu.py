#!/usr/bin/env python
"""Refiners on a CPU: time of their networks on every backend, and quality against time of boundary patches.

python benchmarks/refine_cpu.py --rounds 5
python benchmarks/refine_cpu.py --networks patch_unet --weights model_final.pth --predictions results.json

The first table is of 16 patches of BPR's networks and of one window of 256 x 256 of the universal refiner's (weights
are random, as times don't depend on them), each way relative to eager torch in float32 as networks are trained. Each
round runs everyone once; times are medians over rounds, on one thread. Who is not installed is left out with a word.

With --predictions, coarse masks in COCO's format of the quick start's scenes (datasets/README.md), and --weights of
configs/quickstart/bpr_instance.yaml, the second table is of whole calls of that refiner: patches, seconds and mask AP
by NMS threshold, order of ties and precision. With --light it is of a cascade instead, see patch_cascade.py:

python benchmarks/refine_cpu.py --networks --weights heavy.pth --heavy universal --predictions results.json \
  --light patch_unet light.pth
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pnm
import torch
from null_model import processor
from patch_cascade import HEADERS as CASCADE_HEADERS
from patch_cascade import cascade_curve
from refined_scenes import CONFIG, Scenes, average_precision, changed_share
from tabulate import tabulate
from torch import nn

from pnm.boundary_patches.extraction import TIES
from pnm.errors import UserError
from pnm.network_backends.backends import check_backend, compiled
from pnm.network_backends.precision import has_bfloat16
from pnm.object_refinement.network import ARCHITECTURES, STRIDE, RefinementNetwork
from pnm.object_refinement.prediction import with_fast_evidence
from pnm.projects.bpr import build_network

PATCHES = 16
INPUT_SIZES = {"fcn_resnet50": 256}  # others 128
THRESHOLDS = (0.1, 0.25, 0.4, 0.55)
# Which OpenVINO had not compiled in bfloat16 after a minute on a CPU with AVX-512 bfloat16 and no AMX.
WITHOUT_OPENVINO_BFLOAT16 = tuple(ARCHITECTURES)
Run = Callable[[torch.Tensor], torch.Tensor]


def example_of(name: str) -> tuple[nn.Module, torch.Tensor, int]:
    """A network with random weights, what it takes, and the stride of its sides (0: they are fixed)."""
    torch.manual_seed(0)
    if name in ARCHITECTURES:
        return RefinementNetwork(ARCHITECTURES[name]).eval(), torch.randn(1, 4, 256, 256), STRIDE
    side = INPUT_SIZES.get(name, 128)
    return build_network(name, pretrained=False).eval(), torch.randn(PATCHES, 4, side, side), 0


def channels_last(network: nn.Module) -> Run:
    """What BPR runs on while it is trained."""
    import copy

    other = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda x: other(x.contiguous(memory_format=torch.channels_last))


def ways_of(name: str, network: nn.Module, x: torch.Tensor, stride: int) -> dict[str, Run]:
    ways: dict[str, Run] = {"eager": network, "channels last": channels_last(network)}
    two = torch.cat([x, x])[:2]
    for backend in ("torch", "openvino", "onnxruntime"):
        try:
            check_backend(backend)
        except UserError as error:
            print(f"{name}: {error}")
            continue
        with_bfloat16 = backend != "onnxruntime" and has_bfloat16()
        if backend == "openvino" and name in WITHOUT_OPENVINO_BFLOAT16:
            with_bfloat16 = False
        for bfloat16 in (False, True)[: 1 + with_bfloat16]:
            label = f"{backend} {'bfloat16' if bfloat16 else 'float32'}"
            used = with_fast_evidence(network) if name in ARCHITECTURES and backend == "torch" else network
            run = compiled(used, two, backend=backend, bfloat16=bfloat16, stride=stride)
            given = x.contiguous(memory_format=torch.channels_last) if used is not network else x  # as windows are
            ways[label] = partial(lambda run, given, _: run(given), run, given)
    return ways


@torch.no_grad()
def time_network(name: str, rounds: int) -> list[list[Any]]:
    network, x, stride = example_of(name)
    ways = ways_of(name, network, x, stride)
    expected = network(x)
    scale = float(expected.abs().max())
    differences = {way: float((run(x) - expected).abs().max()) / scale for way, run in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for k in range(rounds):
        for way in [*ways][k % len(ways) :] + [*ways][: k % len(ways)]:
            start = time.perf_counter()
            ways[way](x)
            seconds[way].append(time.perf_counter() - start)
    ms = {way: 1000 * statistics.median(times) for way, times in seconds.items()}
    return [[name, way, ms[way], f"{ms['eager'] / ms[way]:.2f}x", differences[way]] for way in ways]


def curve(scenes: Scenes, weights: Path) -> list[list[Any]]:
    rows: list[list[Any]] = []
    coarse = [row for k in scenes.images for row in scenes.rows[k]]
    rows.append(["coarse", "", "", 0, 0.0, average_precision(scenes.truth, coarse), ""])
    for threshold in THRESHOLDS:
        for ties in TIES:
            reference = None
            for precision in ("float32", "bfloat16"):
                words = ["MODEL.BPR.NMS_THRESHOLD_TEST", str(threshold), "MODEL.BPR.TIES", ties]
                refiner = pnm.load_refiner(CONFIG, str(weights), [*words, "MODEL.BPR.PRECISION_TEST", precision])
                results, seconds, patches = scenes.refined(refiner)
                share = changed_share(scenes, reference, results) if reference else ""
                reference = reference or results
                score = average_precision(scenes.truth, results)
                rows.append([threshold, ties, precision, patches / len(scenes.images), seconds, score, share])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["fcn_hrnet_w18s", "fcn_resnet50", "patch_unet", *ARCHITECTURES]
    parser.add_argument("--networks", nargs="*", default=names, help="of the first table (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("datasets/shapes"), help="the quick start's scenes")
    parser.add_argument("--predictions", type=Path, metavar="JSON", help="coarse masks of its validation images")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=f"of {CONFIG}")
    parser.add_argument("--light", nargs=2, metavar=("NAME", "FILE"), help="a light network, and its weights")
    parser.add_argument("--heavy", metavar="NAME", default="patch_unet", help="the network of --weights, with --light")
    args = parser.parse_args()
    if bool(args.predictions) != bool(args.weights):
        parser.error("--predictions and --weights belong together")
    if args.light and not args.predictions:
        parser.error("--light needs --predictions and --weights of the heavy network")
    torch.set_num_threads(1)
    flags = [name for name, has in getattr(torch.cpu, "get_capabilities", dict)().items() if has is True]
    known = ", ".join(name for name in flags if name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{processor()} ({known}), one thread, torch {torch.__version__}{load}")
    rows = [row for name in args.networks for row in time_network(name, args.rounds)]
    if rows:
        print(tabulate(rows, ["network", "on", "ms", "times", "difference"], floatfmt=("", "", ".1f", "", ".1e")))
    if args.light:
        rows = cascade_curve(Scenes(args.data, args.predictions), (args.heavy, args.weights), args.light, args.rounds)
        print(tabulate(rows, CASCADE_HEADERS, floatfmt=("", "", ".2f", ".1f", ".1f", ".1f", ".2f", ".2f")))
    elif args.predictions:
        headers = ["threshold", "ties", "precision", "patches an image", "s", "AP", "% of pixels changed by bfloat16"]
        table = curve(Scenes(args.data, args.predictions), args.weights)
        print(tabulate(table, headers, floatfmt=("", "", "", ".1f", ".1f", ".2f", ".3f")))


if __name__ == "__main__":
    main()
