"""From the command line to a run: checked arguments, data sets, logger and seed."""

import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import detectron2
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from pnm.errors import EXIT_USER_ERROR, UserError, listed
from pnm.formats.atomic_files import check_folder_writable
from pnm.usable_cores import usable_cores

from .checkpoint import SafeCheckpointer
from .config import load_config
from .config_text import check_config_text
from .data.checks import check_data, take_from_data
from .data.shapes import register_shapes
from .data.user_data import register_user_data

logger = logging.getLogger(__name__)


def engine_name() -> str:
    """Which Detectron2 is running, with its version."""
    embedded = Path(detectron2.__file__).resolve().parents[1].name == "embedded"
    kind = "embedded engine" if embedded else "Detectron2"
    return f"{kind} {detectron2.__version__}"


def _devices(cfg: CfgNode) -> str:
    if not cfg.MODEL.DEVICE.startswith("cuda"):
        return f"CPU, {usable_cores()} cores, {torch.get_num_threads()} threads a process"
    names = {torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())}
    return f"{torch.cuda.device_count()} x {', '.join(sorted(names))}, CUDA {torch.version.cuda}"


def check_device(cfg: CfgNode) -> None:
    """Raises UserError if the config wants a GPU that torch doesn't see."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE is cuda, but torch sees no GPU; add: MODEL.DEVICE cpu")
    if cfg.SOLVER.AMP.ENABLED and not cfg.MODEL.DEVICE.startswith(("cuda", "cpu")):
        raise UserError(f"SOLVER.AMP.ENABLED is not for {cfg.MODEL.DEVICE}; add: SOLVER.AMP.ENABLED False")


def check_processes(num_gpus: int) -> None:
    """Raises UserError if more processes are asked for than there are GPUs (CPU cores where there is no GPU)."""
    gpus = torch.cuda.device_count()
    present, what = (gpus, "GPU(s)") if gpus else (usable_cores(), "CPU core(s) and no GPU")
    if not 1 <= num_gpus <= present:
        raise UserError(f"--num-gpus is {num_gpus}, but this machine has {present} {what}")


def _share_seed(cfg: CfgNode, resume: bool) -> None:
    """A run without a seed draws one, the same in all processes, so that it can be repeated; one that goes on has its
    own again, from the config that was written beside its checkpoints."""
    saved = Path(cfg.OUTPUT_DIR) / "config.yaml"
    if cfg.SEED < 0 and resume and saved.is_file():
        check_config_text(saved)
        seed = (yaml.safe_load(saved.read_text("utf-8")) or {}).get("SEED")
        cfg.SEED = seed if type(seed) is int else cfg.SEED
    if cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() % 2**31


def check_new_run(output_dir: str) -> None:
    """Raises UserError if the folder has checkpoints, which a run that begins anew would overwrite."""
    there = sorted(
        path.name for path in Path(output_dir).glob("*") if path.name == "last_checkpoint" or _is_saved(path)
    )
    if there:
        raise UserError(
            f"OUTPUT_DIR {output_dir} holds a run already ({listed(there, 3)}); add --resume to go on with it, or "
            "choose another OUTPUT_DIR"
        )


def _is_saved(path: Path) -> bool:
    return path.name.startswith("model_") and path.suffix == ".pth"


def setup_run(args) -> CfgNode:
    """Config, data sets, logger and seed of a run, from the launcher's arguments.

    Raises:
        UserError: any argument, key or path that cannot be.
    """
    cfg = load_config(args.config_file, args.opts)
    check_device(cfg)
    check_folder_writable(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    if not (args.eval_only or args.resume or args.check):
        check_new_run(cfg.OUTPUT_DIR)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="pnm")
    register_user_data(cfg)
    take_from_data(cfg, train=not args.eval_only)
    _share_seed(cfg, args.resume)
    cfg.freeze()
    logger.info("%s (%s)", engine_name(), Path(detectron2.__file__).parent)
    logger.info("torch %s on %s; %d process(es)", torch.__version__, _devices(cfg), comm.get_world_size())
    logger.info("seed %d", cfg.SEED)
    default_setup(cfg, args)
    if comm.is_main_process():
        check_data(cfg, train=not args.eval_only)
    if args.resume:
        use_last_checkpoint(cfg)
    return cfg


@contextmanager
def exits_told() -> Iterator[None]:
    """Ends this process, too, where one of those that it starts has told an error that the user can mend."""
    try:
        yield
    except torch.multiprocessing.ProcessExitedException as error:
        if error.exit_code != EXIT_USER_ERROR:
            raise
        sys.exit(EXIT_USER_ERROR)  # that process has already told why


def leave_together(status: int = 0) -> None:
    """Ends a process that was spawned when all have done their work; one that leaves earlier may abort, and so may one
    now and then while Python takes itself apart and torch's threads are there.

    Args:
        status: of the exit; of a process that was not spawned, other than 0 ends it, too.
    """
    comm.synchronize()
    if comm.get_world_size() > 1 and multiprocessing.parent_process() is not None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if status:
        sys.exit(status)


def use_last_checkpoint(cfg: CfgNode) -> None:
    """Where no ``MODEL.WEIGHTS`` are set, sets them to the last checkpoint of the run that goes on, if there is one.

    It would be loaded anyway; this way no network downloads the ImageNet weights of its encoder first.
    """
    last = SafeCheckpointer(torch.nn.Module(), cfg.OUTPUT_DIR).get_checkpoint_file()
    if last and not cfg.MODEL.WEIGHTS:
        cfg.defrost()
        cfg.MODEL.WEIGHTS = last
        cfg.freeze()


def register_builtin_data() -> None:
    """Data sets that come with the project, beside Detectron2's own."""
    register_shapes()
