"""Samplers that divide one stream of indices among processes."""

import logging
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import torch
from detectron2.utils import comm
from torch.utils.data import Sampler

logger = logging.getLogger(__name__)


class _EndlessSampler(Sampler):
    """An endless stream of epochs, the same in every process, of which process r of W takes every W-th from r."""

    def __init__(self, shuffle: bool, seed: int | None):
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            indices = self._get_epoch_indices(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        raise NotImplementedError


class TrainingSampler(_EndlessSampler):
    """Shuffles ``range(size)`` epoch after epoch, without end.

    ``seed`` must be the same in all processes; None draws one and shares it.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        if not isinstance(size, int):
            raise TypeError(f"size must be an int, got {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"the data set to sample from is empty (size {size})")
        self._size = size
        super().__init__(shuffle, seed)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """A :class:`TrainingSampler` over a random part, ``subset_ratio`` in (0, 1], of the data set."""

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ):
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        kept = int(size * subset_ratio)
        if not 0 < subset_ratio <= 1 or kept == 0:
            raise ValueError(f"subset_ratio {subset_ratio} of {size} images: it must lie in (0, 1] and keep one image")
        seed = comm.shared_random_seed() if seed_subset is None else seed_subset
        generator = torch.Generator().manual_seed(int(seed))
        self._indexes_subset = torch.randperm(size, generator=generator)[:kept]
        logger.info("Training on a random subset of %d of %d images", kept, size)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        return self._indexes_subset


class RepeatFactorTrainingSampler(_EndlessSampler):
    """Shows image i ``repeat_factors[i]`` times per epoch; fractions are rounded at random in each epoch."""

    def __init__(self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None):
        super().__init__(shuffle, seed)
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Repeat factors of the LVIS paper (appendix B.2): per image, that of its rarest category.

        A category in a fraction f of the images has factor max(1, √(``repeat_thresh`` / f)), or without the root.
        """
        categories = [{obj["category_id"] for obj in entry["annotations"]} for entry in dataset_dicts]
        images_with = Counter(category for present in categories for category in present)
        factor = {}
        for category in sorted(images_with):
            frequency = images_with[category] / len(dataset_dicts)
            ratio = repeat_thresh / frequency
            factor[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
            logger.info("Category %s: frequency %.2f, repeated %.2f times", category, frequency, factor[category])
        per_image = [max((factor[category] for category in present), default=1.0) for present in categories]
        return torch.tensor(per_image, dtype=torch.float32)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        extra = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        return torch.repeat_interleave(self._int_part.long() + extra)


class InferenceSampler(Sampler):
    """Gives each process a contiguous share of ``range(size)``; the shares differ in length by at most one."""

    def __init__(self, size: int):
        if size <= 0:
            raise ValueError(f"the data set to run on is empty (size {size})")
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        share, longer = divmod(total_size, world_size)
        start = rank * share + min(rank, longer)
        return range(start, start + share + (rank < longer))

    def __iter__(self) -> Iterator[int]:
        return iter(self._local_indices)

    def __len__(self) -> int:
        return len(self._local_indices)
