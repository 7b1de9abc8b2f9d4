"""Data set wrappers between a list of dicts and a DataLoader."""

import copy
import itertools
import logging
import pickle
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils import data
from torch.utils.data import Sampler

__all__ = ["AspectRatioGroupedDataset", "DatasetFromList", "MapDataset", "ToIterableDataset"]

logger = logging.getLogger(__name__)


class _PickledList:
    """A read-only list kept as one byte tensor, which worker processes share instead of copying.

    A plain list of dicts is copied page by page as workers touch reference counts.
    """

    def __init__(self, items: list):
        blobs = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = torch.tensor([len(blob) for blob in blobs], dtype=torch.int64).cumsum(0)
        self._bytes = torch.from_numpy(np.frombuffer(bytearray(b"".join(blobs)), dtype=np.uint8))
        logger.info("Packed %d data set entries into %.2f MiB", len(blobs), len(self._bytes) / 2**20)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int):
        index = range(len(self))[index]
        start = int(self._ends[index - 1]) if index else 0
        return pickle.loads(memoryview(self._bytes[start : int(self._ends[index])].numpy()))


class DatasetFromList(data.Dataset):
    """A list as a map-style data set.

    Args:
        lst: the elements.
        copy: hand out deep copies, so that callers may edit them (packed elements are fresh anyhow).
        serialize: keep the elements pickled in shared memory; a callable makes the storage from the list.
    """

    def __init__(self, lst: list, copy: bool = True, serialize: bool | Callable = True):
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(f"serialize must be a bool or a function from list to storage, got {serialize!r}")
        self._copies = copy and serialize is False
        pack = _PickledList if serialize is True else (serialize or (lambda items: items))
        self._lst = pack(lst) if len(lst) else lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int):
        item = self._lst[idx]
        return copy.deepcopy(item) if self._copies else item


class MapDataset(data.Dataset):
    """Applies ``map_func`` to a data set, map-style or iterable. Elements mapped to None are skipped.

    In a map-style data set another element, chosen at random, takes the place of a skipped one.
    """

    def __new__(cls, dataset, map_func):
        iterable = isinstance(dataset, data.IterableDataset)
        return _MapIterable(dataset, map_func) if iterable else super().__new__(cls)

    def __init__(self, dataset, map_func: Callable):
        self._dataset, self._map_func = dataset, map_func
        self._rng = random.Random(42)
        self._rejected: set[int] = set()

    def __getnewargs__(self):
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int):
        current = int(idx)
        for attempt in itertools.count(1):
            mapped = self._map_func(self._dataset[current])
            if mapped is not None:
                self._rejected.discard(current)
                return mapped
            self._rejected.add(current)
            if attempt >= 3:
                logger.warning("The mapper has refused %d elements in a row in place of element %d", attempt, idx)
            left = [i for i in range(len(self)) if i not in self._rejected]
            if not left:
                raise ValueError("the mapper returned None for every element of the data set")
            current = self._rng.sample(left, k=1)[0]


class _MapIterable(data.IterableDataset):
    def __init__(self, dataset, map_func: Callable):
        self._dataset, self._map_func = dataset, map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        return (mapped for mapped in map(self._map_func, self._dataset) if mapped is not None)


class ToIterableDataset(data.IterableDataset):
    """Runs ``sampler`` over a map-style ``dataset`` inside each worker process.

    With ``shard_sampler`` each of W workers keeps its share: chunks of ``shard_chunk_size`` indices go to
    worker 0, 1, …, W−1, 0, … Turn it off for samplers that divide themselves.
    """

    def __init__(self, dataset: data.Dataset, sampler: Sampler, shard_sampler: bool = True, shard_chunk_size: int = 1):
        if isinstance(dataset, data.IterableDataset) or not isinstance(sampler, Sampler):
            raise TypeError(
                "ToIterableDataset wants a map-style data set and a torch Sampler, "
                f"got {type(dataset).__name__} and {type(sampler).__name__}"
            )
        self.dataset, self.sampler = dataset, sampler
        self.shard_sampler, self.shard_chunk_size = shard_sampler, shard_chunk_size

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator:
        worker = data.get_worker_info()
        shared = self.shard_sampler and worker is not None and worker.num_workers > 1
        for position, index in enumerate(self.sampler):
            if not shared or position // self.shard_chunk_size % worker.num_workers == worker.id:
                yield self.dataset[index]


class AspectRatioGroupedDataset(data.IterableDataset):
    """Batches of ``batch_size`` dicts that are all wider than tall, or all not: less padding.

    The elements of ``dataset`` are dicts with "width" and "height".
    """

    def __init__(self, dataset, batch_size: int):
        self.dataset, self.batch_size = dataset, batch_size
        # Kept across epochs, so that what is left over at the end of one is used in the next.
        self._waiting: dict[bool, list] = {True: [], False: []}

    def __iter__(self) -> Iterator[list]:
        for element in self.dataset:
            is_wide = element["width"] > element["height"]
            self._waiting[is_wide].append(element)
            if len(self._waiting[is_wide]) == self.batch_size:
                # Emptied before the yield: a consumer that stops here must not meet the batch again.
                batch, self._waiting[is_wide] = self._waiting[is_wide], []
                yield batch
