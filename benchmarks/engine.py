#!/usr/bin/env python
"""Speed of the embedded engine against real Detectron2: training and inference of the same config, data included.

python benchmarks/engine.py --detectron2 /path/to/clone
python benchmarks/engine.py --detectron2 /path/to/clone --config-file configs/quickstart/panoptic_fpn_R_18.yaml

Each round runs both engines, each in a process of its own; the table gives medians over rounds. The data are those of
datasets/make_shapes.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MEASURES = ("training, iterations/s", "inference, images/s")


def measure(config: str, iterations: int, images: int, overrides: list[str]) -> dict[str, float]:
    """One engine's figures; the first fifth of the steps is a warm-up that is not timed."""
    warnings.filterwarnings("ignore")
    import pnm  # noqa: F401  (makes detectron2 importable)
    import torch
    from detectron2.utils.env import seed_all_rng
    from detectron2.utils.events import EventStorage

    from pnm.projects.launcher.config import load_config
    from pnm.projects.launcher.run_setup import register_builtin_data
    from pnm.projects.launcher.trainer import Trainer

    register_builtin_data()
    cfg = load_config(config, overrides)
    seed_all_rng(0)
    trainer = Trainer(cfg)
    warm_up = max(1, iterations // 5)
    with EventStorage(0) as trainer.storage:
        for k in range(warm_up + iterations):
            if k == warm_up:
                start = time.perf_counter()
            trainer.iter = k
            trainer.run_step()
    figures = [iterations / (time.perf_counter() - start)]
    model = trainer.model.eval()
    batches = []
    for batch in Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]):
        batches.append(batch)
        if len(batches) == images:
            break
    with torch.no_grad():
        for batch in batches[: max(1, len(batches) // 5)]:
            model(batch)
        start = time.perf_counter()
        for batch in batches:
            model(batch)
    figures.append(len(batches) / (time.perf_counter() - start))
    return dict(zip(MEASURES, figures, strict=True))


def run_engine(clone: str, args: argparse.Namespace, config: str) -> dict[str, float]:
    """Measures in a new process; an empty ``clone`` means the embedded engine."""
    path = os.pathsep.join(filter(None, [clone, str(ROOT)]))
    command = [sys.executable, __file__, "--child", "--config-file", config, "--iterations", str(args.iterations)]
    command += ["--images", str(args.images), *args.opts]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{clone or 'embedded engine'} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace, config: str) -> None:
    """Prints the table of one config."""
    rounds: dict[str, list[dict]] = {"Detectron2": [], "embedded": []}
    clones = {"Detectron2": args.detectron2, "embedded": ""}
    for k in range(args.rounds):
        # The order alternates, so that a machine that slows down favours neither.
        for engine in sorted(rounds, reverse=bool(k % 2)):
            rounds[engine].append(run_engine(clones[engine], args, config))
    print(f"\n{config}, {args.rounds} rounds of {args.iterations} iterations and {args.images} images")
    for name in MEASURES:
        real, ours = (statistics.median(row[name] for row in rounds[engine]) for engine in rounds)
        ratios = [o[name] / r[name] for r, o in zip(rounds["Detectron2"], rounds["embedded"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"  {name:24s} Detectron2 {real:7.2f}   embedded {ours:7.2f}   ratio {ours / real:.3f} ({spread} by round)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectron2", metavar="CLONE", help="a clone of Detectron2")
    parser.add_argument(
        "--config-file", action="append", help="may be repeated (default: the three quickstart configs)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs="*", help="config overrides: KEY VALUE ...")
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.config_file[0], args.iterations, args.images, args.opts)))
        return
    if not args.detectron2 or not (Path(args.detectron2) / "detectron2/__init__.py").is_file():
        parser.error("--detectron2 must be a clone of https://github.com/facebookresearch/detectron2")
    args.detectron2 = str(Path(args.detectron2).resolve())
    for config in args.config_file or sorted(map(str, Path("configs/quickstart").glob("*_R_18*.yaml"))):
        compare(args, config)


if __name__ == "__main__":
    main()
