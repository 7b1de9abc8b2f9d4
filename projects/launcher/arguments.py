"""The launcher's arguments, read and checked before anything heavy is imported."""

import argparse
from collections.abc import Sequence

from pnm.errors import UserError

from .config_files import find_config_file

_EXAMPLES = """Trains and evaluates every system of this project, on any number of GPUs and machines.

python train_net.py --config-file configs/quickstart/mask_rcnn_R_18_FPN.yaml
python train_net.py --config-file ... --num-gpus 8 --resume
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
torchrun --nproc-per-node 8 train_net.py --config-file ...

Where the project is installed, `pnm train` stands for `python train_net.py`, and configs/ needs not be there.
"""


def parser() -> argparse.ArgumentParser:
    """The launcher's options, which are Detectron2's."""
    options = argparse.ArgumentParser(description=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--config-file", default="", metavar="FILE", help="YAML, also by its name among the project's configs"
    )
    options.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    options.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    options.add_argument("--check", action="store_true", help="read all data sets, say what is in them, and end")
    options.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    options.add_argument("--num-machines", type=int, default=1, metavar="N", help="how many machines (default: 1)")
    options.add_argument("--machine-rank", type=int, default=0, metavar="N", help="which of them this is, from 0")
    options.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where processes meet; of several machines, tcp://HOST:PORT of the first (default: a free port here)",
    )
    options.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides")
    return options


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a run; argparse tells unknown ones.

    Raises:
        UserError: a config file that isn't there, overrides that are no pairs, machines that can't meet.
    """
    args = parser().parse_args(arguments)
    args.config_file = find_config_file(args.config_file) if args.config_file else ""
    if len(args.opts) % 2:
        raise UserError(f"overrides are KEY VALUE pairs, got an odd number: {' '.join(args.opts)}")
    if args.num_machines > 1 and args.dist_url == "auto":
        raise UserError("several machines need --dist-url tcp://HOST:PORT, a free port of the first, given on each")
    return args
