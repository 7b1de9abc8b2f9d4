"""A semantic model's predictions as label PNGs: what ``tools/pseudo_labels.py`` does once its arguments are read."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from pnm.errors import UserError, listed, print_lines
from pnm.formats.atomic_files import check_folder_writable, write_bytes
from pnm.formats.folders import check_apart, files_below, one_file_each, stem
from pnm.formats.label_png import encode_label_png
from pnm.predictions.refinement import image_names
from pnm.programs import program
from pnm.read_ahead import read_ahead

from ..refining import refiner_class
from .config import load_config
from .data.checks import take_from_data
from .data.mappers import build_mapper
from .data.user_data import register_user_data
from .run_setup import check_device, register_builtin_data
from .trained_models import MOST_CLASSES, check_weights_file, label_map, trained_model

_AHEAD = 2  # images that are read while the model looks at another


class Labelling(NamedTuple):
    """Images and the label PNGs to be made of them.

    Attributes:
        todo: the image of each PNG, in order.
        kept: how many others are there already.
    """

    todo: dict[Path, Path]
    kept: int


def labelling(images: Path, output: Path, resume: bool) -> Labelling:
    """What is to be done; the output folder is made.

    Raises:
        FileNotFoundError: there is no folder of images.
        UserError: it has no images, or two of one name; the output folder overlaps it, has files though this is no
            resumed run, or cannot be written to.
    """
    named = [(stem(name), images / name) for name in image_names(images)]
    image_of = {output / f"{name}.png": image for name, image in one_file_each(named, images, "image").items()}
    check_apart(images, output, "labels")
    present = files_below(output, "") if output.is_dir() else []
    if present and not resume:
        raise UserError(
            f"--output {output} is not empty ({listed(present, 3)}): choose another folder, or add --resume to keep "
            "the label PNGs in it and make the others"
        )
    check_folder_writable(output, "--output")
    todo = {label: image for label, image in image_of.items() if not label.is_file()}
    return Labelling(todo, len(image_of) - len(todo))


def check_semantic(cfg: CfgNode) -> None:
    """A UserError, which names it, if the config's model is no semantic segmentor."""
    name = cfg.MODEL.META_ARCHITECTURE
    if refiner_class(cfg) is not None:
        raise UserError(
            f"MODEL.META_ARCHITECTURE {name} is a refiner, which needs predictions to refine: make labels with a "
            f"semantic model, then run {' '.join(program('refine'))} on them"
        )
    architecture = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    if not (isinstance(architecture, type) and issubclass(architecture, SemanticSegmentor)):
        raise UserError(
            f"MODEL.META_ARCHITECTURE {name} is no semantic segmentor: give the config of a semantic model, such as "
            "SemanticSegmentor or SemanticNetwork"
        )


def checked_config(config_file: str, overrides: Sequence[str]) -> CfgNode:
    """The config of a trained semantic model; a UserError if it is of something else, or cannot be used."""
    cfg = load_config(config_file, overrides)
    check_semantic(cfg)
    check_weights_file(cfg.MODEL.WEIGHTS, "labels are made by a trained model")
    check_device(cfg)
    register_builtin_data()
    if cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == get_cfg().MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        register_user_data(cfg)  # which need not be there otherwise
        take_from_data(cfg)
    classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if classes > MOST_CLASSES:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {classes}, expected at most {MOST_CLASSES}: a label PNG can't tell "
            "more apart"
        )
    cfg.freeze()
    return cfg


def mapped_ahead(mapper: Callable[[dict], dict], images: Sequence[Path]) -> Iterator[dict | UserError]:
    """The sample of each image, or why it cannot be read; in other threads, while those before are looked at."""

    def read(image: Path) -> dict | UserError:
        try:
            return mapper({"file_name": str(image)})
        except UserError as error:
            return error

    return read_ahead(read, images, _AHEAD)


@torch.no_grad()
def _labels(model: torch.nn.Module, sample: dict[str, Any]) -> np.ndarray:
    (output,) = model([sample])
    return label_map(output["sem_seg"])


def write_labels(cfg: CfgNode, model: torch.nn.Module, todo: Mapping[Path, Path], kept: int) -> list[str]:
    """Writes all label PNGs, and returns what is wrong with images that cannot be read.

    Args:
        todo: the image of each PNG.
        kept: how many others are there, for the progress bar.

    Raises:
        WriteError: a PNG cannot be written.
    """
    samples = mapped_ahead(build_mapper(cfg, is_train=False), list(todo.values()))
    failures = []
    with tqdm(initial=kept, total=kept + len(todo), unit="image", dynamic_ncols=True) as bar:
        for label, sample in zip(todo, samples, strict=True):
            if isinstance(sample, UserError):
                failures.append(str(sample))
            else:
                write_bytes(label, encode_label_png(_labels(model, sample)))
            bar.update(1)
    return failures


def summary_line(output: Path, written: int, kept: int, seconds: float) -> str:
    """One line about what was done."""
    line = f"{output}: {written} label PNGs written, {kept} kept"
    return f"{line}; {seconds:.1f} s, {written / seconds:.1f} images/s" if written else line


def run(args: argparse.Namespace) -> None:
    """Labels all images that the arguments name. A UserError if some could not be read, with the others done."""
    job = labelling(args.images, args.output, args.resume)
    setup_logger(name="pnm")
    cfg = checked_config(args.config_file, args.opts)
    start, failures = time.perf_counter(), []
    if job.todo:
        cfg, model = trained_model(cfg)
        start = time.perf_counter()
        failures = write_labels(cfg, model, job.todo, job.kept)
    print(summary_line(args.output, len(job.todo) - len(failures), job.kept, time.perf_counter() - start))
    if failures:
        print_lines(failures)
        raise UserError(
            f"{len(failures)} of {len(job.todo) + job.kept} images of {args.images} could not be read, see above; mend "
            "or remove them and run the same command with --resume"
        )
