"""Training batches that depend on the seed and the iteration alone, so that a run that goes on sees what it would have.

Detectron2's loader draws from generators whose states no checkpoint holds: those of its workers, of its sampler and of
its choice for images that give no sample. Here the order of the images is that of Detectron2's samplers, and all that
is drawn for the image at position p of a process's stream, whoever loads it, comes from (seed, process, p).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.engine import HookBase
from detectron2.utils import comm
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from pnm.errors import UserError

from .shared_batches import SharedBatchSampler

_MOST_TRIED = 1000  # images in the place of one that gives no sample
_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)  # EXIF


def _seed_of(*numbers: int) -> int:
    """32 bits that differ for different numbers, as far as 32 bits can."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - which Detectron2 draws from
    torch.manual_seed(seed)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seeds the global generators for a while, and leaves them as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


class SeedEachIteration(HookBase):
    """What a model draws in an iteration depends on the seed, the process and the iteration alone."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self) -> None:
        _seed_all(_seed_of(self.seed, comm.get_rank(), 1, self.trainer.iter))


class Samples(Dataset):
    """Sample of the image at a position of this process's stream; another's where the image gives none."""

    def __init__(self, entries: Sequence[dict], mapper: Callable[[dict], Any], seed: int, sizes: Sequence[int] = ()):
        """
        Args:
            sizes: of the data sets that follow one another in ``entries``, if an image is to be replaced by one of its
                own data set only.
        """
        self.entries, self.mapper, self.seed, self.rank = entries, mapper, seed, comm.get_rank()
        self.starts = np.cumsum([0, *(sizes or [len(entries)])])

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        position, index = place
        others = np.random.default_rng([self.seed, self.rank, position])
        part = np.searchsorted(self.starts, index, "right")
        first, end = (int(place) for place in self.starts[part - 1 : part + 1])
        with _drawing_from(_seed_of(self.seed, self.rank, 0, position)):
            for _ in range(_MOST_TRIED):
                sample = self.mapper(self.entries[index])
                if sample is not None:
                    return sample
                index = first + int(others.integers(end - first))
        raise UserError(
            f"{_MOST_TRIED} images in a row gave nothing to learn from: check that the data set has objects"
        )


class Batches(Sampler):
    """Batches of (position, index), endless, from the ``start``-th on.

    Args:
        indices: of this process, endless.
        is_wide: of each image, to batch images of like shape together, as Detectron2 does; None: as they come.
    """

    def __init__(self, indices: Sampler, batch_size: int, is_wide: Sequence[bool] | None = None):
        self.indices, self.batch_size, self.is_wide, self.start = indices, batch_size, is_wide, 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return islice(self._all(), self.start, None)

    def _all(self) -> Iterator[list[tuple[int, int]]]:
        waiting: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        for position, index in enumerate(self.indices):
            batch = waiting[self.is_wide[index] if self.is_wide is not None else True]
            batch.append((position, int(index)))
            if len(batch) == self.batch_size:
                yield list(batch)
                batch.clear()


def is_wide(entry: dict) -> bool:
    """Whether an image is wider than high; its file tells where its entry doesn't."""
    if "width" in entry and "height" in entry:
        return entry["width"] > entry["height"]
    try:
        with Image.open(entry["file_name"]) as image:  # reads no pixel
            width, height = image.size
            return (height > width) if image.getexif().get(_ORIENTATION) in _TURNED else (width > height)
    except (OSError, SyntaxError, ValueError):
        return False  # whoever reads the image tells why


def _sampler(cfg: CfgNode, entries: Sequence[dict], sizes: Sequence[int]) -> Sampler:
    name, loader = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER
    if loader.DATASET_SHARES:
        return SharedBatchSampler(sizes, loader.DATASET_SHARES, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED)
    if name == "TrainingSampler":
        return TrainingSampler(len(entries), seed=cfg.SEED)
    if name == "RandomSubsetTrainingSampler":
        ratio = loader.RANDOM_SUBSET_RATIO
        return RandomSubsetTrainingSampler(len(entries), ratio, seed_shuffle=cfg.SEED, seed_subset=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            entries, loader.REPEAT_THRESHOLD, sqrt=loader.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    raise UserError(
        f"DATALOADER.SAMPLER_TRAIN is {name!r}, expected TrainingSampler, RepeatFactorTrainingSampler or "
        "RandomSubsetTrainingSampler"
    )


def training_entries(cfg: CfgNode, names: Sequence[str]) -> list[dict]:
    """Dataset dicts of some data sets, as Detectron2's loader takes them."""
    options: dict[str, Any] = {"filter_empty": cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS}
    if cfg.MODEL.KEYPOINT_ON:
        options["min_keypoints"] = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    if cfg.MODEL.LOAD_PROPOSALS:
        options["proposal_files"] = cfg.DATASETS.PROPOSAL_FILES_TRAIN
    return get_detection_dataset_dicts(names, **options)


def build_train_loader(cfg: CfgNode, mapper: Callable[[dict], Any], parts: Sequence[Sequence[dict]]) -> DataLoader:
    """An endless loader of lists of samples, ``SOLVER.IMS_PER_BATCH`` over all processes; ``start_at`` moves it.

    Args:
        parts: dataset dicts of the data sets, each apart if ``DATALOADER.DATASET_SHARES`` gives them shares.

    Raises:
        UserError: no images, a batch that the processes cannot share evenly, an unknown sampler.
    """
    total, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if total < processes or total % processes:
        raise UserError(f"SOLVER.IMS_PER_BATCH is {total}, expected a multiple of the {processes} processes")
    entries, sizes = [entry for part in parts for entry in part], [len(part) for part in parts]
    if not all(sizes):
        raise UserError(f"data sets {', '.join(cfg.DATASETS.TRAIN)} have no image to train on")
    wide = [is_wide(entry) for entry in entries] if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
    return DataLoader(
        Samples(DatasetFromList(entries, copy=False), mapper, cfg.SEED, sizes),
        batch_sampler=Batches(_sampler(cfg, entries, sizes), total // processes, wide),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
        generator=torch.Generator(),  # whose draw, when loading begins, would else move the model's
    )


def _as_list(batch: list) -> list:
    return batch


def start_at(loader: DataLoader, iteration: int) -> None:
    """Has a loader of :func:`build_train_loader` begin with an iteration's batch; what came before isn't read."""
    batches = loader.batch_sampler
    assert isinstance(batches, Batches)
    batches.start = iteration
