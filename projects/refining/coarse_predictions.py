"""The coarse predictions that a refiner starts from: result files named in the config, image by image."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES
from pnm.errors import UserError
from pnm.formats.semantic_maps import image_name
from pnm.predictions import Key, Objects, Partition, PredictionSet, open_predictions
from pnm.predictions.cityscapes_instances import CityscapesPredictions
from pnm.predictions.sem_seg_json import SemSegPredictions

from .model import refined_task

logger = logging.getLogger(__name__)

DATASET_NAME = "dataset_name"  # key of a dataset dict
_TRIED = 50  # training images that are looked at before training


class DatasetPredictions:
    """Predictions of the images of one registered data set, categories as its dataset dicts have them.

    Raises:
        UserError: files of another task, or unreadable; two predictions of one image.
    """

    def __init__(self, path: str, dataset_name: str, task: str):
        self._name, self._task = dataset_name, task
        self._set: PredictionSet = open_predictions(path, task=task)
        self._by_name: dict[str, Key] = {}
        for key in self._set.keys:
            if isinstance(key, str) and self._by_name.setdefault(image_name(key), key) != key:
                raise UserError(f"{path}: {key} and {self._by_name[image_name(key)]} are of images of one name")
        self._to_contiguous = _contiguous(dataset_name, self._set)

    def _key(self, entry: Mapping[str, Any]) -> Key | None:
        for key in (entry.get("image_id"), entry["file_name"]):
            if key in self._set:
                return key
        return self._by_name.get(image_name(entry["file_name"]))

    def __len__(self) -> int:
        return len(self._set)

    @property
    def path(self) -> Path:
        return self._set.path

    def has(self, entry: Mapping[str, Any]) -> bool:
        return self._key(entry) is not None

    def of(self, entry: Mapping[str, Any]) -> Objects | Partition | None:
        """The prediction of a dataset dict; None if there is none.

        Raises:
            UserError: damaged, or of a category that the data set doesn't have.
        """
        key = self._key(entry)
        if key is None:
            return None
        prediction = self._set.read(key)
        strange = sorted(set(prediction.categories) - set(self._to_contiguous))
        if strange:
            raise UserError(
                f"{self._set.path}: {entry['file_name']} has categories {strange[:5]}, data set {self._name} has "
                f"{sorted(self._to_contiguous)[:5]}, ...: predictions and data set must have the same ids"
            )
        categories = tuple(self._to_contiguous[category] for category in prediction.categories)
        return replace(prediction, categories=categories)


def _contiguous(dataset_name: str, predictions: PredictionSet) -> dict[int, int]:
    """{category id in result files: in dataset dicts}; stuff of panoptic data as ~id."""
    metadata = MetadataCatalog.get(dataset_name)
    things = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id", None) or {}
    if predictions.task == "panoptic":
        return {**{category: ~k for category, k in stuff.items()}, **things}
    if isinstance(predictions, CityscapesPredictions):
        label_ids = {name: label_id for label_id, name in CITYSCAPES_INSTANCE_CLASSES.items()}
        return {label_ids[name]: k for k, name in enumerate(metadata.thing_classes) if name in label_ids}
    # Label PNGs have the labels that a network predicts, as those of the ground truth do.
    mapping = things if predictions.task == "instance" else stuff if isinstance(predictions, SemSegPredictions) else {}
    names = metadata.get("thing_classes" if predictions.task == "instance" else "stuff_classes", None) or []
    return dict(mapping) or {k: k for k in range(len(names))}


class CoarsePredictions:
    """``coarse(dataset dict)``: its prediction, or None if the files have none of that image."""

    def __init__(self, paths: Sequence[str], dataset_names: Sequence[str], task: str, key: str):
        """
        Args:
            key: that the paths come from, for messages.

        Raises:
            UserError: not as many files as data sets.
        """
        if len(paths) != len(dataset_names):
            raise UserError(
                f"{key} names {len(paths)} result file(s) for {len(dataset_names)} data set(s), "
                f"{', '.join(dataset_names)}: name one for each"
            )
        self._task = task
        self._of = {name: DatasetPredictions(p, name, task) for p, name in zip(paths, dataset_names, strict=True)}

    def __call__(self, entry: Mapping[str, Any]) -> Objects | Partition | None:
        return self._of[entry[DATASET_NAME]].of(entry)

    def report(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Logs how many images have predictions.

        Raises:
            UserError: none has.
        """
        covered = Counter(entry[DATASET_NAME] for entry in entries if self._of[entry[DATASET_NAME]].has(entry))
        for name, total in Counter(entry[DATASET_NAME] for entry in entries).items():
            path = self._of[name].path
            if not covered[name]:
                raise UserError(
                    f"{path} has predictions of none of the {total} images of {name}; is it of another data set?"
                )
            log = logger.warning if covered[name] < total else logger.info
            other = len(self._of[name]) - covered[name]
            more = f"; {other} are of other images" if other else ""
            log("%s: predictions for %d of %d images, from %s%s", name, covered[name], total, path, more)


def coarse_predictions(cfg: CfgNode, is_train: bool) -> CoarsePredictions | None:
    """What ``DATASETS.PREDICTIONS_TRAIN`` or ``_TEST`` name, or None if that is empty."""
    part = "TRAIN" if is_train else "TEST"
    paths, names = cfg.DATASETS[f"PREDICTIONS_{part}"], cfg.DATASETS[part]
    task = refined_task(cfg)
    if not paths or task is None:
        return None
    return CoarsePredictions(paths, names, task, f"DATASETS.PREDICTIONS_{part}")


def check_test_predictions(cfg: CfgNode) -> None:
    """A UserError if a refiner is to be evaluated and there is nothing, or nothing readable, that it could refine."""
    if refined_task(cfg) is not None and cfg.DATASETS.TEST and coarse_predictions(cfg, is_train=False) is None:
        raise UserError(
            "nothing to refine: name the result files of DATASETS.TEST in DATASETS.PREDICTIONS_TEST, or add: "
            "DATASETS.TEST '()'"
        )


def check_learnable(mapper: Callable[[dict], dict | None], entries: Sequence[dict]) -> None:
    """A UserError if none of some dataset dicts, spread over all, gives anything to learn from."""
    state = np.random.get_state()  # noqa: NPY002 - which the mapper draws from, as Detectron2's do
    tried = [entries[k] for k in np.linspace(0, len(entries) - 1, min(_TRIED, len(entries))).astype(int)]
    is_learnable = any(mapper(entry) is not None for entry in tried)
    np.random.set_state(state)  # noqa: NPY002
    if not is_learnable:
        raise UserError(
            f"none of {len(tried)} training images has a coarse mask that fits a true one of its class, or its own "
            "boundary: check that predictions and data sets belong together, or lower the IoU that is asked for "
            "(the refiner's MATCH_IOU)"
        )


def tagged_dataset(names: Sequence[str], filter_empty: bool) -> list[dict]:
    """Dataset dicts of several data sets that say which one they are of."""
    return [
        {**entry, DATASET_NAME: name}
        for name in names
        for entry in get_detection_dataset_dicts([name], filter_empty=filter_empty)
    ]
