"""A run of the launcher, in one process or in many."""

import argparse
import logging
import os

import torch
import torch.distributed as dist
from detectron2.engine import launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from pnm.compiling import announce_compilation
from pnm.errors import UserError, one_line_errors

from .checkpoint import SafeCheckpointer
from .cpu_training import share_cores
from .data.overview import overview
from .run_setup import check_processes, exits_told, leave_together, register_builtin_data, setup_run
from .trained_models import as_tested
from .trainer import Trainer

logger = logging.getLogger(__name__)


def evaluate(cfg, resume: bool) -> dict:
    """Evaluates ``MODEL.WEIGHTS`` (or, resuming, the last checkpoint) on ``DATASETS.TEST``, as ``TEST.AUG`` says."""
    model = Trainer.build_model(cfg)
    checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, strict=not cfg.TEST.ALLOW_PARTIAL_WEIGHTS)
    if not cfg.MODEL.WEIGHTS:
        raise UserError("--eval-only needs weights; add: MODEL.WEIGHTS path/to/model.pth")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    results = Trainer.test(*as_tested(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def run(args) -> dict | None:
    """One process of a run."""
    with one_line_errors():
        register_builtin_data()
        cfg = setup_run(args)
        if args.check:
            if comm.is_main_process():
                print(overview(cfg), flush=True)
            return None
        if args.eval_only:
            return evaluate(cfg, args.resume)
        if cfg.TEST.AUG.ENABLED:
            logger.info("TEST.AUG is for --eval-only: evaluations of this training make one plain pass an image")
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()


def run_in_group(args) -> dict | None:
    """A process that the launcher started."""
    share_cores()
    results = run(args)
    leave_together()
    return results


def run_under_torchrun(args) -> dict | None:
    """A process that torchrun started: the group is described by the environment."""
    local_rank, on_gpu = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        return run_in_group(args)
    finally:
        dist.destroy_process_group()


def start(args: argparse.Namespace) -> None:
    """Starts the processes of a run, or joins those that torchrun has started."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        run_under_torchrun(args)
        return
    with one_line_errors():
        check_processes(args.num_gpus)
    announce_compilation()
    with exits_told():
        launch(run_in_group, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args,))
