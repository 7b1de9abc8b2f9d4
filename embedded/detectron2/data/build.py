"""From data set names to loaders."""

import itertools
import logging
import operator
from collections import Counter
from collections.abc import Callable

import torch
from detectron2.config import configurable
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import log_first_n
from tabulate import tabulate
from termcolor import colored
from torch.utils import data as torchdata

from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper
from .detection_utils import check_metadata_consistency
from .samplers import InferenceSampler, RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "print_instances_class_histogram",
]

logger = logging.getLogger(__name__)


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """The entries with at least one annotation that is not a crowd."""
    kept = [entry for entry in dataset_dicts if any(not obj.get("iscrowd", 0) for obj in entry["annotations"])]
    removed = len(dataset_dicts) - len(kept)
    logger.info("Removed %d images without usable annotations; %d images are left", removed, len(kept))
    return kept


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Logs a table of how many instances (crowds aside) each category has.

    Raises: ValueError for a category id outside [0, len(class_names)).
    """
    objects = (obj for entry in dataset_dicts for obj in entry["annotations"] if not obj.get("iscrowd", 0))
    count = Counter(obj["category_id"] for obj in objects)
    alien = [category for category in count if not 0 <= category < len(class_names)]
    if alien:
        raise ValueError(
            f"annotations have category ids {sorted(alien)[:5]}, but the data set has {len(class_names)} categories "
            "(ids from 0): give it thing_classes that cover them"
        )
    cells = [(name if len(name) <= 13 else f"{name[:11]}..", count[i]) for i, name in enumerate(class_names)]
    if len(class_names) > 1:
        cells.append(("total", sum(count.values())))
    per_row = min(3, len(class_names))
    rows = [itertools.chain(*cells[i : i + per_row]) for i in range(0, len(cells), per_row)]
    headers = ["category", "#instances"] * per_row
    table = tabulate(rows, headers=headers, tablefmt="pipe", numalign="left", stralign="center")
    message = f"Distribution of instances among all {len(class_names)} categories:\n{colored(table, 'cyan')}"
    log_first_n(logging.INFO, message, key="message")


def get_detection_dataset_dicts(
    names,
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files=None,
    check_consistency: bool = True,
):
    """Loads one or several registered data sets as one list of entries.

    Args:
        names: a name or a list of names.
        filter_empty: leave out images that have annotations but none that is usable (empty, or crowds only).
        check_consistency: data sets used together must have equal thing_classes.

    Raises: KeyError for an unregistered name, ValueError where nothing is left.
    """
    if min_keypoints or proposal_files:
        raise ImportError("key points and stored proposals are outside the embedded engine: install Detectron2")
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("no data set is named: set DATASETS.TRAIN or DATASETS.TEST")
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], torchdata.Dataset):
        return loaded[0] if len(loaded) == 1 else torchdata.ConcatDataset(loaded)
    empty = [name for name, entries in zip(names, loaded, strict=True) if not len(entries)]
    if empty:
        raise ValueError(f"data set {', '.join(empty)} has no images: check its annotation file and folders")

    entries = list(itertools.chain(*loaded))
    if "annotations" in entries[0]:
        if filter_empty:
            entries = filter_images_with_only_crowd_annotations(entries)
        class_names = MetadataCatalog.get(names[0]).get("thing_classes")
        if check_consistency and class_names is not None:
            check_metadata_consistency("thing_classes", names)
            print_instances_class_histogram(entries, class_names)
    if not entries:
        raise ValueError(
            f"no image of {', '.join(names)} has a usable annotation: check the annotations, or set "
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS False to train without"
        )
    return entries


def build_batch_data_loader(
    dataset,
    sampler,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int | None = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    **kwargs,
):
    """An iterable of batches (lists of elements, unless ``collate_fn`` makes something else of them).

    Args:
        dataset: map-style, with a ``sampler``; or iterable, with ``sampler`` None.
        total_batch_size: over all processes; or give ``single_gpu_batch_size``, that of one.
        aspect_ratio_grouping: see :class:`AspectRatioGroupedDataset`; incomplete batches wait.
    """
    batch_size = _local_batch_size(total_batch_size, single_gpu_batch_size)
    logger.info("Batches of %d images per process", batch_size)
    if _check_sampler(dataset, sampler):
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    options = dict(
        num_workers=num_workers,
        worker_init_fn=worker_init_reset_seed,
        prefetch_factor=prefetch_factor if num_workers else None,
        persistent_workers=persistent_workers,
        pin_memory=pin_memory,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
        **kwargs,
    )
    if not aspect_ratio_grouping:
        collate_fn = collate_fn or trivial_batch_collator
        return torchdata.DataLoader(
            dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate_fn, **options
        )
    if not drop_last:
        raise ValueError("aspect_ratio_grouping cannot give incomplete batches: use drop_last=True")
    # The loader yields single elements; batches form behind it.
    singles = torchdata.DataLoader(dataset, collate_fn=operator.itemgetter(0), **options)
    grouped = AspectRatioGroupedDataset(singles, batch_size)
    return grouped if collate_fn is None else MapDataset(grouped, collate_fn)


def _local_batch_size(total: int | None, single: int | None) -> int:
    if total and single:
        raise ValueError("give total_batch_size or single_gpu_batch_size, not both")
    if single:
        return single
    processes = get_world_size()
    if not total or total < 0 or total % processes:
        raise ValueError(
            f"a total batch of {total} images cannot be divided among {processes} process(es): make "
            f"SOLVER.IMS_PER_BATCH a positive multiple of {processes}"
        )
    return total // processes


def _check_sampler(dataset, sampler) -> bool:
    """Whether the data set is map-style, which needs a sampler; TypeError for a sampler where none can be used."""
    is_map_style = not isinstance(dataset, torchdata.IterableDataset)
    if is_map_style != isinstance(sampler, torchdata.Sampler):
        wanted = "a torch Sampler" if is_map_style else "no sampler"
        raise TypeError(f"a data set of type {type(dataset).__name__} wants {wanted}, got {sampler!r}")
    return is_map_style


def _mapped(dataset, mapper: Callable | None):
    dataset = DatasetFromList(dataset, copy=False) if isinstance(dataset, list) else dataset
    return dataset if mapper is None else MapDataset(dataset, mapper)


def _training_sampler(cfg, dataset):
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info("Training sampler: %s", name)
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if name == "RandomSubsetTrainingSampler":
        return RandomSubsetTrainingSampler(len(dataset), cfg.DATALOADER.RANDOM_SUBSET_RATIO)
    raise ValueError(
        f"DATALOADER.SAMPLER_TRAIN is {name!r}; the embedded engine has TrainingSampler, RepeatFactorTrainingSampler "
        "and RandomSubsetTrainingSampler"
    )


def _refuse_outside(cfg) -> None:
    if cfg.MODEL.get("KEYPOINT_ON", False) or cfg.MODEL.get("LOAD_PROPOSALS", False):
        raise ImportError(
            "MODEL.KEYPOINT_ON and MODEL.LOAD_PROPOSALS are outside the embedded engine: install Detectron2"
        )


def _train_loader_from_config(cfg, mapper=None, *, dataset=None, sampler=None) -> dict:
    _refuse_outside(cfg)
    if dataset is None:
        dataset = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    mapper = DatasetMapper(cfg, True) if mapper is None else mapper
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = _training_sampler(cfg, dataset)
    return dict(
        dataset=dataset,
        sampler=sampler,
        mapper=mapper,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset, *, mapper, sampler=None, total_batch_size, aspect_ratio_grouping=True, num_workers=0, collate_fn=None, **kw
):
    """An endless loader for training; call it with explicit arguments or as ``(cfg, mapper=…)``.

    Args:
        dataset: list of entries, or a torch data set.
        mapper: entry → model input; None leaves elements as they are. From a config: ``DatasetMapper(cfg, True)``.
        sampler: default is a :class:`TrainingSampler`; None for an iterable data set.
        total_batch_size: over all processes.

    Yields: lists of mapped elements (see :func:`build_batch_data_loader`).
    """
    dataset = _mapped(dataset, mapper)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = TrainingSampler(len(dataset))
    kw.update(aspect_ratio_grouping=aspect_ratio_grouping, num_workers=num_workers, collate_fn=collate_fn)
    return build_batch_data_loader(dataset, sampler, total_batch_size, **kw)


def _test_loader_from_config(cfg, dataset_name, mapper=None) -> dict:
    _refuse_outside(cfg)
    return dict(
        dataset=get_detection_dataset_dicts(dataset_name, filter_empty=False),
        mapper=DatasetMapper(cfg, False) if mapper is None else mapper,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset, *, mapper, sampler=None, batch_size: int = 1, num_workers: int = 0, collate_fn: Callable | None = None
) -> torchdata.DataLoader:
    """A loader that visits each element once over all processes; also callable as ``(cfg, name, mapper=…)``.

    Yields: lists of ``batch_size`` mapped elements (the last may be shorter).
    """
    dataset = _mapped(dataset, mapper)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = InferenceSampler(len(dataset))
    _check_sampler(dataset, sampler)
    return torchdata.DataLoader(
        dataset,
        sampler=sampler,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )


def trivial_batch_collator(batch: list) -> list:
    """Leaves a batch the list that it is."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Gives each worker process its own seed, derived from torch's."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
