"""What most runs have in common: command line, set-up, and a predictor for single images."""

import argparse
import os
import sys
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng, setup_environment
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from .default_trainer import DefaultTrainer, create_ddp_model, default_writers

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]

_EXAMPLES = """
one machine:     {0} --config-file FILE --num-gpus 8
other settings:  {0} --config-file FILE MODEL.WEIGHTS model.pth SOLVER.BASE_LR 0.001
two machines:    {0} --num-machines 2 --machine-rank 0 --dist-url tcp://HOST0:PORT ...   (and rank 1 on the other)
"""


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The command line of a training script; ``epilog`` replaces the examples below its help."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog if epilog is not None else _EXAMPLES.format(sys.argv[0]),
    )
    # a fixed port per user, so that a process left over from an earlier run is noticed
    user = os.getuid() if hasattr(os, "getuid") else 1
    local_address = f"tcp://127.0.0.1:{49152 + hash(user) % 16384}"
    flags: dict[str, dict[str, Any]] = {
        "--config-file": {"default": "", "metavar": "FILE", "help": "YAML file with settings"},
        "--resume": {"action": "store_true", "help": "continue from the last checkpoint in OUTPUT_DIR, if any"},
        "--eval-only": {"action": "store_true", "help": "evaluate without training"},
        "--num-gpus": {"type": int, "default": 1, "help": "processes per machine; GPUs, where there are any"},
        "--num-machines": {"type": int, "default": 1, "help": "machines in the run"},
        "--machine-rank": {"type": int, "default": 0, "help": "index of this machine, from 0"},
        "--dist-url": {"default": local_address, "help": "where all processes meet; on several machines, machine 0"},
        "opts": {"nargs": argparse.REMAINDER, "default": None, "help": "KEY VALUE pairs that override settings"},
    }
    for name, options in flags.items():
        parser.add_argument(name, **options)
    return parser


def _prepare_output(folder: str) -> None:
    """Makes the folder; ValueError if nothing can be written there."""
    try:
        PathManager.mkdirs(folder)
    except OSError as error:
        raise ValueError(f"OUTPUT_DIR {folder} cannot be made: {error}. Choose another one") from error
    if "://" not in folder and not os.access(folder, os.W_OK):
        raise ValueError(f"OUTPUT_DIR {folder} is not writable. Choose another one, or change its permissions")


def _set_float32_precision(precision: str) -> None:
    if precision and torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def default_setup(cfg: CfgNode, args: Any) -> None:
    """Loggers, random seeds and library settings of this process; saves the config as ``OUTPUT_DIR/config.yaml``.

    Args:
        args: the parsed command line (:func:`default_argument_parser`); only logged, but for ``eval_only``.

    Raises:
        ValueError: OUTPUT_DIR cannot be written.
    """
    folder, rank, main = cfg.OUTPUT_DIR, comm.get_rank(), comm.is_main_process()
    if folder and main:
        _prepare_output(folder)
    setup_logger(folder, distributed_rank=rank, name="fvcore")
    logger = setup_logger(folder, distributed_rank=rank)
    logger.info("process %d of %d\n%s", rank, comm.get_world_size(), collect_env_info())
    logger.info("command line: %s", args)
    if folder and main:
        saved = os.path.join(folder, "config.yaml")
        with PathManager.open(saved, "w") as file:
            file.write(cfg.dump())
        logger.info("settings, saved to %s:\n%s", saved, cfg.dump())

    setup_environment()
    seed_all_rng(cfg.SEED + rank if cfg.SEED >= 0 else None)  # processes must not draw the same images
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    _set_float32_precision(cfg.FLOAT32_PRECISION)


class DefaultPredictor:
    """Predicts on single images with the weights in ``MODEL.WEIGHTS``, resized as ``INPUT.*_TEST`` say.

    Attributes:
        model: in eval mode.
        metadata: of the first test data set, if the config names one.
    """

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg.clone()  # models may change theirs
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is {self.input_format!r}; expected RGB or BGR")
        self.model = build_model(self.cfg).eval()
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        shortest = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """The model's output for one image.

        Args:
            original_image: (H, W, 3) in BGR order, as OpenCV reads it.
        """
        if not isinstance(original_image, np.ndarray) or original_image.ndim != 3:
            raise ValueError(f"expected an image of shape (H, W, 3), got {type(original_image).__name__}; was it read?")
        image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
        resized = self.aug.get_transform(image).apply_image(image)
        pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1), dtype=np.float32))
        height, width = image.shape[:2]
        (prediction,) = self.model([{"image": pixels, "height": height, "width": width}])
        return prediction
