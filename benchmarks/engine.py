#!/usr/bin/env python
"""Speed of the embedded engine against real Detectron2: training and inference of the same config, data included.

python benchmarks/engine.py --detectron2 /path/to/clone
python benchmarks/engine.py --detectron2 /path/to/clone --config-file configs/quickstart/panoptic_fpn_R_18.yaml

Three runs of the same model, weights and data are compared: Detectron2 as its DefaultTrainer steps it on CPUs (its
SimpleTrainer in float32, as its mixed precision is for GPUs, and the optimizer as torch makes it), Detectron2 in this
project's trainer with all that this brings, and the embedded engine in the same. That losses are equal is tested in
tests/parity. Each round has a process for each run; the table gives medians over rounds. The data are those of
datasets/make_shapes.py.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median as middle
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MODELS = ("mask_rcnn_R_18_FPN_PNM", "panoptic_fpn_R_18_PNM", "semantic_fpn_R_18_PNM")
MEASURES = ("training, iterations/s", "inference, images/s")
ALONE, HERE, EMBEDDED = RUNS = ("Detectron2 alone", "Detectron2 here", "embedded")


def measure(run: str, args: argparse.Namespace) -> dict[str, float]:
    """One run's figures; it begins with the weights of the first one."""
    warnings.filterwarnings("ignore")
    import pnm  # noqa: F401  (makes detectron2 importable)
    import torch
    from detectron2.engine import SimpleTrainer
    from detectron2.modeling import build_model
    from detectron2.utils.env import seed_all_rng

    from pnm.projects.launcher.config import load_config
    from pnm.projects.launcher.run_setup import register_builtin_data
    from pnm.projects.launcher.solver import optimizer_from_config
    from pnm.projects.launcher.trainer import Trainer

    register_builtin_data()
    cfg = load_config(args.config_file[0], args.opts)
    seed_all_rng(0)
    if run == ALONE:
        model = build_model(cfg)
        trainer = SimpleTrainer(model, Trainer.build_train_loader(cfg), optimizer_from_config(cfg, model))
    else:
        trainer = Trainer(cfg)
        model = trainer.model
    if args.weights.exists():
        model.load_state_dict(torch.load(args.weights, weights_only=True))
    else:
        torch.save(model.state_dict(), args.weights)
    # Inference comes first, so that all have the same objects to draw.
    test_loader = Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
    batches = [batch for batch, _ in zip(test_loader, range(args.images))]
    speed = images_per_second(model.eval(), batches)
    model.train()
    return dict(zip(MEASURES, (iterations_per_second(trainer, args.iterations), speed), strict=True))


def images_per_second(model: Any, batches: list) -> float:
    """Batches of one image; the first fifth is a warm-up that is not timed."""
    import torch

    with torch.no_grad():
        for batch in batches[: max(1, len(batches) // 5)]:
            model(batch)
        start = time.perf_counter()
        for batch in batches:
            model(batch)
    return len(batches) / (time.perf_counter() - start)


def iterations_per_second(trainer: Any, iterations: int) -> float:
    """After a fifth of as many as a warm-up."""
    from detectron2.utils.events import EventStorage

    warm_up = max(1, iterations // 5)
    with EventStorage(0) as trainer.storage:
        for k in range(warm_up + iterations):
            if k == warm_up:
                start = time.perf_counter()
            trainer.iter = k
            trainer.run_step()
    return iterations / (time.perf_counter() - start)


def in_new_process(run: str, args: argparse.Namespace, config: str, weights: str) -> dict[str, float]:
    path = os.pathsep.join([args.detectron2, str(ROOT)] if run != EMBEDDED else [str(ROOT)])
    command = [sys.executable, __file__, "--run", run, "--config-file", config, "--iterations", str(args.iterations)]
    command += ["--images", str(args.images), "--weights", weights, *args.opts]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{run} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace, config: str) -> None:
    """Prints the table of one config."""
    rounds: dict[str, list[dict]] = {run: [] for run in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(args.rounds):
            # The order alternates, so that a machine that slows down favours none.
            for run in RUNS[:: -1 if k % 2 else 1]:
                rounds[run].append(in_new_process(run, args, config, f"{folder}/weights.pth"))
    print(f"\n{config}, {args.rounds} rounds of {args.iterations} iterations and {args.images} images")
    for name in MEASURES:
        print(f"  {name}: " + ", ".join(f"{run} {middle(row[name] for row in rounds[run]):.2f}" for run in RUNS))
        for run in (ALONE, HERE):
            ratios = [ours[name] / other[name] for other, ours in zip(rounds[run], rounds[EMBEDDED], strict=True)]
            print(f"    embedded / {run}: {middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} by round)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectron2", metavar="CLONE", help="a clone of Detectron2")
    parser.add_argument(
        "--config-file", action="append", help="may be repeated (default: the three quickstart configs)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs="*", help="config overrides: KEY VALUE ...")
    args = parser.parse_args()
    if args.run:
        print(json.dumps(measure(args.run, args)))
        return
    if not args.detectron2 or not (Path(args.detectron2) / "detectron2/__init__.py").is_file():
        parser.error("--detectron2 must be a clone of https://github.com/facebookresearch/detectron2")
    args.detectron2 = str(Path(args.detectron2).resolve())
    for config in args.config_file or [f"configs/quickstart/{name}.yaml" for name in MODELS]:
        compare(args, config)


if __name__ == "__main__":
    main()
