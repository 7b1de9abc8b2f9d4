"""Result files, or one mask, refined with trained networks: what ``tools/refine.py`` does, its arguments being read."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from pnm.compiling import announce_compilation
from pnm.errors import UserError, exit_status, message_of, one_line_errors, print_lines
from pnm.formats.image_files import ImageFiles
from pnm.interior_offsets.stored import StoredOffsets
from pnm.network_backends.choice import check_backend
from pnm.predictions.coco_panoptic import PanopticPredictions
from pnm.predictions.detail_report import DetailReport
from pnm.predictions.offset_refiner import OffsetRefiner
from pnm.predictions.one_mask import check_one_output, refine_one
from pnm.predictions.prediction_set import PredictionSet
from pnm.predictions.refinement import (
    Chain,
    Step,
    chained_fingerprint,
    common_task,
    image_names,
    opened,
    own_keys,
    refine_each,
    with_image,
)
from pnm.predictions.refinement_details import Detailed
from pnm.predictions.run_ending import Refined, end_run, merge_shards
from pnm.predictions.universal_refiner import UniversalSettings, UniversalStep

from ..dataset_mappers.reading import read_image
from ..refining import TrainedRefiner
from ..refining.model import ImageStore
from .config import load_config
from .refiner_loading import checked_refiner_class, load_refiner, refiner_fingerprint, weights_digest
from .run_setup import check_device, check_processes, exits_told, leave_together


def read_rgb(image_file: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    return read_image(str(image_file), "RGB")


@dataclass(frozen=True)
class NetworkStep:
    """A trained refiner as a step, see :class:`pnm.predictions.refinement.Step`."""

    refiner: TrainedRefiner
    fingerprint: str

    read = staticmethod(read_rgb)

    def refine(self, image: np.ndarray, prediction: Any) -> Any:
        return self.refiner.refine(image, prediction)

    def refine_detailed(self, image: np.ndarray, prediction: Any) -> Detailed:
        """As :meth:`refine`, with confidences where the model says them."""
        return self.refiner.refine_detailed(image, prediction)

    def check(self, predictions: PredictionSet) -> None:
        """A UserError if the model doesn't know a category of the predictions, and has to."""
        if self.refiner.model.relists_segments and isinstance(predictions, PanopticPredictions):
            self.refiner.check_categories(predictions.category_ids)


def _config(named: argparse.Namespace) -> CfgNode:
    """The config of a refiner of the command line, with what options say of it; see :class:`Part` for errors."""
    cfg = load_config(named.config_file, named.opts)
    if not named.backend:
        return cfg
    check_backend(named.backend, "--backend", cfg.MODEL.DEVICE)
    key = checked_refiner_class(cfg).backend_key
    if not key and named.backend != "torch":
        name = cfg.MODEL.META_ARCHITECTURE
        raise UserError(f"--backend is {named.backend}, but {name} runs on torch alone: leave it out")
    return load_config(named.config_file, [*named.opts, key, named.backend]) if key else cfg


class Part:
    """One refiner of the command line: a config and weights, stored offsets, or both; or the universal refiner.

    Args:
        runs: whether it is to refine, and its device must be there.

    Attributes:
        broken: how many images :meth:`step` found that can't be read, of this process's share.

    Raises:
        UserError: a config that cannot be used, or is of no refiner.
    """

    def __init__(self, named: argparse.Namespace, *, runs: bool = True):
        self.folder: Path | None = named.offsets
        self.universal: UniversalSettings | None = named.universal
        self.cfg = _config(named) if named.config_file else None
        self.task, self.relists_segments, self.broken = None, False, 0
        if self.cfg is not None:
            if runs:
                check_device(self.cfg)
            kind = checked_refiner_class(self.cfg)
            self.task = None if kind.refines_any_task else kind.task_of(self.cfg)
            self.relists_segments = kind.relists_segments

    def fingerprint(self) -> str:
        """That of the step, of whose network only the file of weights is looked at unless it keeps offsets."""
        if self.cfg is None or self.universal is not None or self.folder is not None:
            return self.step([]).fingerprint
        return refiner_fingerprint(self.cfg)

    def step(self, image_files: Sequence[Path]) -> Step:
        """The refiner, loaded. Where it keeps what it makes of images, that is made first.

        All processes call it, and each makes its share.
        """
        if self.universal is not None:
            return UniversalStep(self.universal)
        if self.cfg is None:
            assert self.folder is not None
            return OffsetRefiner(StoredOffsets(self.folder))
        refiner = load_refiner(self.cfg)
        if self.folder is None:
            return NetworkStep(refiner, refiner_fingerprint(self.cfg))
        weights = weights_digest(self.cfg)
        if comm.is_main_process():  # which makes the folder
            refiner.model.image_store(self.cfg, self.folder, weights)
        comm.synchronize()
        self.broken = _fill(refiner.model.image_store(self.cfg, self.folder, weights), refiner, image_files)
        comm.synchronize()
        return refiner.model.image_store(self.cfg, self.folder, weights).step()


def _fill(store: ImageStore, refiner: TrainedRefiner, image_files: Sequence[Path]) -> int:
    """Makes this process's share of what isn't in the store, and tells images that can't be read; their number."""
    mine = image_files[comm.get_rank() :: comm.get_world_size()]
    broken = []
    for path in tqdm(mine, desc="offsets", unit="image", disable=not comm.is_main_process(), dynamic_ncols=True):
        try:
            image = None if store.has(path) else read_rgb(path)
        except (UserError, OSError) as error:
            broken.append(message_of(error))
            continue
        if image is not None:
            store.make(path, refiner.image_tensor(image, image.shape[:2]))
    print_lines(broken)
    return len(broken)


def refine_in_group(args: argparse.Namespace) -> None:
    """One process of a run over result files, or over a shard of them."""
    status = 0
    with one_line_errors():
        setup_logger(distributed_rank=comm.get_rank(), name="pnm")
        parts = [Part(named) for named in args.parts]
        images = ImageFiles(args.images, args.image_info)
        predictions = opened(args, images, common_task(parts))
        report = DetailReport(args.details, args.details_in_results)
        report.check(predictions)
        present = with_image(args, predictions, images)
        keys = own_keys(args, predictions, present)
        paths = [images.path(key) for key in keys] if any(part.folder for part in parts) else []
        chain = Chain([part.step(paths) for part in parts])
        for step in chain.steps:
            if isinstance(step, NetworkStep):
                step.check(predictions)
        if comm.is_main_process():
            print(f"{args.predictions}: {len(predictions)} images, {predictions.FORMAT}")
        fingerprint = report.fingerprint(chain.fingerprint)
        with predictions.writer(args.output, fingerprint, overwrite=args.overwrite, shard=args.shard) as writer:
            report.check_done(writer.done)
            comm.synchronize()  # all know what is done before anyone adds to it
            mine = keys[comm.get_rank() :: comm.get_world_size()]
            own = refine_each(chain, predictions, images, mine, writer, progress=comm.is_main_process(), report=report)
            everything = comm.gather(own)  # when all are through
            if comm.is_main_process():
                status = exit_status(partial(end_run, args, writer, keys, reduce(Refined.plus, everything)))
    leave_together(status)


def merge_files(args: argparse.Namespace) -> None:
    """Makes the output of a run whose shards are through, in one process and without a GPU."""
    with one_line_errors():
        parts = [Part(named, runs=False) for named in args.parts]
        images = ImageFiles(args.images, args.image_info)
        predictions = opened(args, images, common_task(parts))
        report = DetailReport(args.details, args.details_in_results)
        report.check(predictions)
        fingerprint = report.fingerprint(chained_fingerprint([part.fingerprint() for part in parts]))
        merge_shards(args, predictions, with_image(args, predictions, images), report, fingerprint)


def make_offsets(args: argparse.Namespace) -> None:
    """One process of a run that stores offsets of all images of a folder."""
    with one_line_errors():
        setup_logger(distributed_rank=comm.get_rank(), name="pnm")
        names = image_names(args.images)
        part = Part(args.parts[0])
        part.step([args.images / name for name in names])
        broken = sum(comm.gather(part.broken))
        end = partial(_tell_offsets, part, len(names), broken)
        status = exit_status(end) if comm.is_main_process() else 0
    leave_together(status)


def _tell_offsets(part: Part, images: int, broken: int) -> None:
    """Says of how many images there are offsets; a UserError if some could not be read."""
    print(f"{part.folder}: offsets of {images - broken} images")
    if broken:
        raise UserError(
            f"{broken} of {images} images could not be read, see above; the others are done. Mend or remove them and "
            "run the same command again"
        )


def refine_mask(args: argparse.Namespace) -> None:
    """One image and one mask or label map, a PNG."""
    with one_line_errors():
        check_one_output(args)
        parts = [Part(named) for named in args.parts]
        if any(part.relists_segments for part in parts):
            raise UserError(
                f"--mask is for refiners of masks; this one changes classes, which {args.mask} doesn't have: it takes "
                "panoptic result files, a JSON and its PNGs (--images, --predictions)"
            )
        task = common_task(parts)
        refine_one(args, Chain([part.step([args.image]) for part in parts]), task)


def start(args: argparse.Namespace) -> None:
    """Refines what the arguments say, in one process or in several."""
    announce_compilation()
    if args.image:
        refine_mask(args)
        return
    if args.merge is not None:
        merge_files(args)
        return
    with one_line_errors():
        check_processes(args.num_gpus)
    work = refine_in_group if args.predictions else make_offsets
    with exits_told():
        launch(work, args.num_gpus, dist_url="auto", args=(args,))
