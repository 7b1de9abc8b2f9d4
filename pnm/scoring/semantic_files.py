"""Semantic predictions of any model in files, beside their ground truth.

What doesn't fit is listed, the rest is scored.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pnm.errors import UserError
from pnm.formats import semantic_maps
from pnm.metrics.exact_sums import LabelPair, pair_labels
from pnm.metrics.semantic_metrics import SemanticMetrics
from pnm.scoring.scores import (
    ImageFault,
    ImagesState,
    Scores,
    for_each_image,
    missing_lines,
    summed_scores,
    summed_state,
)
from pnm.shards import WHOLE, Shard


class SemanticFiles:
    """Semantic predictions (a folder of label PNGs, or ``sem_seg_predictions.json``) and a folder of label PNGs.

    Args:
        cityscapes: ground truth and predicted PNGs hold Cityscapes' label ids, unless named ``*labelTrainIds``.
        pred_train_ids: with ``cityscapes``, predicted PNGs hold train ids whatever their name.
        category_ids: that masks of a JSON have, in the order of the classes; 0..K - 1 by default.
        shard: of whose images alone the files are looked at.

    Raises:
        FileNotFoundError, UserError: a path that holds no such files.
    """

    task = "semantic"

    def __init__(
        self,
        pred: str | Path,
        gt: str | Path,
        metric: SemanticMetrics,
        *,
        cityscapes: bool = False,
        pred_train_ids: bool = False,
        category_ids: Sequence[int] | None = None,
        shard: Shard = WHOLE,
    ):
        self.metric, self._cityscapes, self._pred_train_ids = metric, cityscapes, pred_train_ids
        self._category_ids = range(metric.num_classes) if category_ids is None else list(category_ids)
        if len(self._category_ids) != metric.num_classes:
            raise UserError(
                f"{len(self._category_ids)} category ids came for {metric.num_classes} classes: give one for each"
            )
        self._pred, self._truth = semantic_maps.paired_files(pred, gt, label_ids=cityscapes)
        self.remarks: list[str] = []
        self.listed, self.faults = list(self._truth), list[ImageFault]()
        own = shard.part([*enumerate(self.listed)])
        self.images = [name for place, name in own if name in self._pred and self._fits(place, name)]
        self.problems = missing_lines(self._truth, self._pred, str(pred)) + [fault.line for fault in self.faults]

    def _fits(self, place: int, name: str) -> bool:
        sizes = [semantic_maps.source_size(source) for source in (self._pred[name], self._truth[name])]
        strange = semantic_maps.unknown_categories(self._pred[name], self._category_ids)
        if sizes[0] != sizes[1]:
            wrong = " and ".join("{} x {}".format(*size) for size in sizes)
            line = f"image {name}: prediction and ground truth are {wrong}, expected one size"
            self.faults.append(ImageFault(place, line))
        if strange:
            line = f"image {name}: predicted categories {strange[:5]}, which the data set doesn't have"
            self.faults.append(ImageFault(place, line))
        return sizes[0] == sizes[1] and not strange

    def score(self, images: Sequence[str], workers: int = 1, progress: bool = False) -> Scores:
        return summed_scores(self.metric, [self.state(images, workers, progress).part()])

    def state(self, images: Sequence[str], workers: int = 1, progress: bool = False) -> ImagesState:
        rows = for_each_image(self._statistics, images, workers, progress)
        state = summed_state(self.metric, {"class_names": self.metric.class_names}, images, images, rows)
        pixels = [math.prod(semantic_maps.source_size(self._truth[name])) for name in images]
        state.arrays["counted"] = state.arrays["statistics"][:, self.metric.rows.index("truth")].sum(axis=1)
        state.arrays["pixels"] = np.array(pixels, np.int64)
        return state

    def _maps(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) predicted and true labels."""
        source, file = self._pred[name], self._truth[name]
        pred, truth = semantic_maps.read_labels(source, self._category_ids), semantic_maps.read_labels(file, [])
        if self._cityscapes:
            truth = semantic_maps.train_ids(file, truth, truth=True)
            if isinstance(source, Path) and not self._pred_train_ids:
                pred = semantic_maps.train_ids(source, pred, truth=False)
        return pred, truth

    def _statistics(self, name: str) -> np.ndarray:
        pred, truth = self._maps(name)
        try:
            return self.metric.image_statistics(pred, truth)
        except UserError as error:
            raise UserError(f"{self._truth[name]}: {error}") from None

    def read(self, name: str) -> LabelPair:
        """Truth and prediction of an image, classes alone.

        Raises:
            UserError: a damaged file, or a true label that is neither a class nor ignored.
        """
        try:
            return pair_labels(*self._maps(name), self.metric.num_classes, self.metric.ignore_label)
        except UserError as error:
            raise UserError(f"{self._truth[name]}: {error}") from None

    def image_key(self, name: str) -> str:
        """What the image is called, for :class:`pnm.formats.image_files.ImageFiles`."""
        return name
