"""A trained model for images without annotations: weights that are there, classes from the config, samples ahead."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from pnm.errors import UserError
from pnm.read_ahead import read_ahead

from .checkpoint import SafeCheckpointer
from .main import as_tested

_AHEAD = 2  # images that are read while the model looks at another


def check_weights_file(weights: str, use: str) -> None:
    """A UserError unless ``MODEL.WEIGHTS`` names a file, or an address, which is seen to when it is loaded.

    Args:
        use: what they are needed for, as a sentence has it: "labels are made by a trained model".
    """
    if not weights:
        raise UserError(f"{use}; add: MODEL.WEIGHTS path/to/model_final.pth")
    if "://" not in weights and not Path(weights.partition("?")[0]).is_file():
        raise UserError(f"MODEL.WEIGHTS {weights} does not exist; check the path")


def check_apart(images: Path, output: Path, what: str) -> None:
    """A UserError if one folder is the other or lies in it: ``what`` is written would be taken for images."""
    one, other = images.resolve(), output.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UserError(
            f"--output {output} and --images {images} lie one in the other, and {what} would be taken for images: "
            "choose an output folder beside the images'"
        )


def trained_model(cfg: CfgNode) -> tuple[CfgNode, torch.nn.Module]:
    """The model with its weights, in eval mode and augmented as ``TEST.AUG`` says, and the config of its mapper.

    Raises:
        CheckpointError: the weights cannot be had or don't fit.
    """
    model = build_model(cfg).eval()
    SafeCheckpointer(model, strict=not cfg.TEST.ALLOW_PARTIAL_WEIGHTS).load(cfg.MODEL.WEIGHTS)
    return as_tested(cfg, model)


def mapped_ahead(mapper: Callable[[Path], dict], images: Sequence[Path]) -> Iterator[dict | UserError]:
    """The sample of each image, or why it cannot be read; in other threads, while those before are looked at."""

    def read(image: Path) -> dict | UserError:
        try:
            return mapper(image)
        except UserError as error:
            return error

    return read_ahead(read, images, _AHEAD)
