"""Training on several data sets at once, each with a fixed share of every batch."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import Sampler

from pnm.errors import UserError

KEY = "DATALOADER.DATASET_SHARES"


def check_shares(cfg: CfgNode) -> None:
    """A UserError unless ``DATASET_SHARES`` fits the data sets, the batch and the sampler."""
    shares, names, total = cfg.DATALOADER.DATASET_SHARES, cfg.DATASETS.TRAIN, cfg.SOLVER.IMS_PER_BATCH
    if not shares:
        return
    if len(shares) != len(names) or not all(type(share) is int and share > 0 for share in shares):
        raise UserError(
            f"{KEY} is {tuple(shares)}, expected a positive number for each of DATASETS.TRAIN: {', '.join(names)}"
        )
    if total % sum(shares):
        raise UserError(f"SOLVER.IMS_PER_BATCH is {total}, expected a multiple of {sum(shares)}, the sum of {KEY}")
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler" or cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        raise UserError(
            f"{KEY} decides which images a batch has: leave DATALOADER.SAMPLER_TRAIN away, and set "
            "DATALOADER.ASPECT_RATIO_GROUPING False"
        )


class SharedBatchSampler(Sampler):
    """Indices of one process, endless: every batch of all processes has its share of each data set.

    Each data set is shuffled anew whenever it is through, whatever the sizes of the others. The images of a batch are
    in the order of the data sets, and the processes take turns, so that each gets its part of every share.

    Args:
        sizes: images of each data set, which follow one another in the list of entries.
        shares: of each data set in a batch; ``batch_size`` is a multiple of their sum.
        batch_size: of all processes together.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[int], batch_size: int, seed: int):
        times = batch_size // sum(shares)
        self.sizes, self.counts, self.seed = tuple(sizes), [share * times for share in shares], seed
        self.rank, self.processes = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return islice(self._all(), self.rank, None, self.processes)

    def _all(self) -> Iterator[int]:
        streams = [self._shuffled(number) for number in range(len(self.sizes))]
        while True:
            for stream, count in zip(streams, self.counts, strict=True):
                yield from islice(stream, count)

    def _shuffled(self, number: int) -> Iterator[int]:
        generator, first = torch.Generator().manual_seed(self.seed + number), sum(self.sizes[:number])
        while True:
            yield from (first + torch.randperm(self.sizes[number], generator=generator)).tolist()
