#!/usr/bin/env python
"""Where an iteration of training on a CPU goes, and what each of the launcher's means brings.

python benchmarks/training_step.py
python benchmarks/training_step.py --config-file configs/quickstart/segformer_B0.yaml --iterations 20

Ways: float32 in torch's ordinary memory format, updates parameter by parameter; the same in channels-last format; with
convolutions and matrix products in bfloat16; both; and with updates in one pass, which is what the launcher does with
``SOLVER.AMP.ENABLED``. Times are medians over iterations after a fifth as many of warm-up, in one process with no
worker for data. Each way has a process of its own. The data are those of datasets/make_shapes.py.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WAYS = {
    "float32": set(),
    "channels last": {"channels_last"},
    "bfloat16": {"bfloat16"},
    "both": {"channels_last", "bfloat16"},
    "both, updates in one pass": {"channels_last", "bfloat16", "fused"},
}
MODELS = ("mask_rcnn_R_18_FPN_PNM", "panoptic_fpn_R_18_PNM", "semantic_fpn_R_18_PNM")
PARTS = ("data", "forward", "backward", "update", "all")


def measure(config: str, means: set[str], iterations: int, opts: list[str]) -> dict[str, float]:
    """Milliseconds of each part."""
    warnings.filterwarnings("ignore")
    import pnm  # noqa: F401  (makes detectron2 importable)
    import torch
    from detectron2.utils.env import seed_all_rng
    from detectron2.utils.events import EventStorage

    from pnm.projects.launcher.config import load_config
    from pnm.projects.launcher.run_setup import register_builtin_data
    from pnm.projects.launcher.solver import optimizer_from_config
    from pnm.projects.launcher.trainer import Trainer

    register_builtin_data()
    amp = str("bfloat16" in means)
    cfg = load_config(config, ["DATALOADER.NUM_WORKERS", "0", "SOLVER.AMP.ENABLED", amp, *opts])
    seed_all_rng(0)
    trainer = Trainer(cfg)
    model, batches = trainer.model, iter(trainer.data_loader)
    model.to(memory_format=torch.channels_last if "channels_last" in means else torch.contiguous_format)
    optimizer = trainer.optimizer if "fused" in means else optimizer_from_config(cfg, model)
    times = defaultdict(list)
    with EventStorage(0):
        for _ in range(iterations + iterations // 5):
            stamps = [time.perf_counter()]
            batch = next(batches)
            stamps.append(time.perf_counter())
            loss = sum(model(batch).values())
            stamps.append(time.perf_counter())
            optimizer.zero_grad()
            loss.backward()
            stamps.append(time.perf_counter())
            optimizer.step()
            stamps.append(time.perf_counter())
            for name, begin, end in zip(PARTS, (*stamps[:-1], stamps[0]), (*stamps[1:], stamps[-1]), strict=True):
                times[name].append(1e3 * (end - begin))
    return {name: median(values[-iterations:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", action="append", help="may be repeated (default: the three quickstart models)")
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs="*", help="config overrides: KEY VALUE ...")
    args = parser.parse_args()
    configs = args.config_file or [f"configs/quickstart/{name}.yaml" for name in MODELS]
    if args.way:
        print(json.dumps(measure(configs[0], WAYS[args.way], args.iterations, args.opts)))
        return
    for config in configs:
        print(f"{config}, milliseconds\n" + f"{'':26s}" + "".join(f"{name:>10s}" for name in PARTS))
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--config-file", config, *args.opts]
            done = subprocess.run(
                [*command, "--iterations", str(args.iterations)], cwd=ROOT, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{config}, {way}, failed:\n{done.stderr[-500:]}")
            parts = json.loads(done.stdout.splitlines()[-1])
            print(f"{way:26s}" + "".join(f"{parts[name]:10.1f}" for name in PARTS), flush=True)


if __name__ == "__main__":
    main()
