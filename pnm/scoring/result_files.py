"""Predictions of any model in files, beside their ground truth: what doesn't fit is listed, the rest is scored."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from pnm.errors import UserError
from pnm.formats import semantic_maps
from pnm.formats.coco_instances import read_coco_ground_truth, read_coco_results
from pnm.formats.coco_panoptic import quality_of, read_annotations
from pnm.formats.label_png import png_size, read_panoptic_png
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.semantic_metrics import SemanticMetrics


class Scores(NamedTuple):
    """What a prediction scores.

    Attributes:
        images: I names, in the order of ``on_samples``.
        class_names: in the order of the report.
        on_samples: (B, I) multiplicities of the images -> (B,) values of each metric in 0..1, nan where undefined.
        each_image: -> (I,) values of each metric, of each image alone.
    """

    images: list[str]
    class_names: list[str]
    on_samples: Callable[[np.ndarray], dict[str, np.ndarray]]
    each_image: Callable[[], dict[str, np.ndarray]]

    def whole(self) -> dict[str, float]:
        """The metrics of the whole data set."""
        every = np.ones((1, len(self.images)), np.int64)
        return {name: float(value[0]) for name, value in self.on_samples(every).items()}


class ResultFiles(Protocol):
    """A prediction beside its ground truth.

    Attributes:
        problems: a line for each thing that doesn't fit.
        remarks: lines on what is as it may be.
        images: those that can be scored.
    """

    problems: list[str]
    remarks: list[str]
    images: list[Any]

    def score(self, images: Sequence[Any], workers: int, progress: bool) -> Scores:
        """Scores some of ``images``, ``workers`` at a time; the result doesn't depend on their number.

        Raises:
            UserError: one or more files are damaged or inconsistent; the message has a line for each of them.
        """


def for_each_image(work: Callable[[Any], Any], images: Sequence[Any], workers: int, progress: bool) -> list:
    """Results of ``work`` in the order of ``images``, in threads; UserErrors are gathered into one with a line each."""
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1")

    def attempt(image: Any) -> Any:
        try:
            return work(image)
        except UserError as error:
            return error

    pool = ThreadPoolExecutor(workers)
    try:
        results = list(tqdm(pool.map(attempt, images), total=len(images), unit="image", disable=not progress))
    finally:
        pool.shutdown(cancel_futures=True)
    errors = [str(result) for result in results if isinstance(result, UserError)]
    if errors:
        raise UserError("\n".join(errors))
    return results


def missing_lines(truth: Iterable, pred: Iterable, what: str) -> list[str]:
    """A line for each image that only one of both has; ``what`` names the prediction."""
    in_truth, in_pred = dict.fromkeys(truth), dict.fromkeys(pred)
    lines = [f"image {name}: in the ground truth, but not in {what}" for name in in_truth if name not in in_pred]
    return lines + [f"image {name}: in {what}, but not in the ground truth" for name in in_pred if name not in in_truth]


def _sums(metric: Any, statistics: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    return lambda multiplicities: metric.compute_many(np.tensordot(multiplicities, statistics, 1))


def _stacked_scores(metric: Any, images: Sequence[Any], rows: list[np.ndarray]) -> Scores:
    statistics = np.stack(rows) if rows else np.zeros((0, *metric.statistics.shape), np.int64)
    names = list(metric.class_names)
    return Scores([*map(str, images)], names, _sums(metric, statistics), lambda: metric.compute_many(statistics))


class SemanticFiles:
    """Semantic predictions (a folder of label PNGs, or ``sem_seg_predictions.json``) and a folder of label PNGs.

    Args:
        cityscapes: ground truth and predicted PNGs hold Cityscapes' label ids, unless named ``*labelTrainIds``.
        pred_train_ids: with ``cityscapes``, predicted PNGs hold train ids whatever their name.
        category_ids: that masks of a JSON have, in the order of the classes; 0..K - 1 by default.

    Raises:
        FileNotFoundError, UserError: a path that holds no such files.
    """

    def __init__(
        self,
        pred: str | Path,
        gt: str | Path,
        metric: SemanticMetrics,
        *,
        cityscapes: bool = False,
        pred_train_ids: bool = False,
        category_ids: Sequence[int] | None = None,
    ):
        self._metric, self._cityscapes, self._pred_train_ids = metric, cityscapes, pred_train_ids
        self._category_ids = range(metric.num_classes) if category_ids is None else list(category_ids)
        if len(self._category_ids) != metric.num_classes:
            raise UserError(
                f"{len(self._category_ids)} category ids came for {metric.num_classes} classes: give one for each"
            )
        self._truth = semantic_maps.label_files(gt, label_ids=cityscapes)
        self._pred = semantic_maps.prediction_sources(pred)
        self.problems = missing_lines(self._truth, self._pred, str(pred))
        self.remarks: list[str] = []
        self.images = [name for name in self._truth if name in self._pred and self._fits(name)]

    def _fits(self, name: str) -> bool:
        sizes = [semantic_maps.source_size(source) for source in (self._pred[name], self._truth[name])]
        strange = semantic_maps.unknown_categories(self._pred[name], self._category_ids)
        if sizes[0] != sizes[1]:
            wrong = " and ".join("{} x {}".format(*size) for size in sizes)
            self.problems.append(f"image {name}: prediction and ground truth are {wrong}, expected one size")
        if strange:
            self.problems.append(f"image {name}: predicted categories {strange[:5]}, which the data set doesn't have")
        return sizes[0] == sizes[1] and not strange

    def score(self, images: Sequence[str], workers: int = 1, progress: bool = False) -> Scores:
        return _stacked_scores(self._metric, images, for_each_image(self._statistics, images, workers, progress))

    def _statistics(self, name: str) -> np.ndarray:
        source, file = self._pred[name], self._truth[name]
        pred, truth = semantic_maps.read_labels(source, self._category_ids), semantic_maps.read_labels(file, [])
        if self._cityscapes:
            truth = semantic_maps.train_ids(file, truth, truth=True)
            if isinstance(source, Path) and not self._pred_train_ids:
                pred = semantic_maps.train_ids(source, pred, truth=False)
        try:
            return self._metric.image_statistics(pred, truth)
        except UserError as error:
            raise UserError(f"{file}: {error}") from None


class InstanceFiles:
    """COCO results and ground truth. An image without detections is remarked on; all else that doesn't fit is listed.

    Raises:
        FileNotFoundError, UserError: as the readers of :mod:`pnm.formats.coco_instances` do.
    """

    def __init__(self, pred: str | Path, gt: str | Path, **options: Any):
        self._options = options
        self._truth = read_coco_ground_truth(gt)
        self._results = read_coco_results(pred, self._truth)
        without = f"{self._results.path}: no detections for "
        self.problems = [line for line in self._results.problems if not line.startswith(without)]
        self.remarks = [line for line in self._results.problems if line.startswith(without)]
        self.images = list(self._truth.images)

    def score(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> Scores:
        categories = self._truth.categories
        names = list(categories.values())
        if len(set(names)) < len(names):
            names = [f"{name} ({category})" for category, name in categories.items()]
        metric = InstanceMetrics(list(categories), class_names=names, **self._options)

        def add(image: Any) -> None:
            height, width, _ = self._truth.images[image]
            metric.update(image, height, width, self._truth.annotations[image], self._results.by_image[image])

        for_each_image(add, images, workers, progress)
        named = [self._truth.images[image].file_name or str(image) for image in metric.image_ids]
        return Scores(named, names, metric.compute_many, metric.per_image)


class PanopticFiles:
    """COCO panoptic JSONs and their folders of PNGs.

    Args:
        pred_folder, gt_folder: of the PNGs; by default :func:`panoptic_folder` of the JSONs.
        options: of :class:`pnm.metrics.panoptic_quality.PanopticQuality`.

    Raises:
        FileNotFoundError, UserError: a path that holds no such files.
    """

    def __init__(
        self,
        pred: str | Path,
        gt: str | Path,
        pred_folder: str | Path | None = None,
        gt_folder: str | Path | None = None,
        *,
        boundary_ratio: float | None = None,
        boundary_px: int | None = None,
    ):
        self._folders = Path(pred_folder or panoptic_folder(pred)), Path(gt_folder or panoptic_folder(gt))
        content, self._truth = read_annotations(Path(gt))
        _, self._pred = read_annotations(Path(pred))
        self.quality_of = quality_of(content, gt, boundary_ratio, boundary_px)
        self.problems = missing_lines(self._truth, self._pred, str(pred))
        self.remarks: list[str] = []
        self.images = [image for image in self._truth if image in self._pred and self._fits(image)]

    def _files(self, image: Any) -> tuple[Path, Path]:
        names = self._pred[image]["file_name"], self._truth[image]["file_name"]
        return self._folders[0] / names[0], self._folders[1] / names[1]

    def _fits(self, image: Any) -> bool:
        found = [f"{file} is missing" for file in self._files(image) if not file.is_file()]
        if not found:
            sizes = [_png_size(file) for file in self._files(image)]
            if sizes[0] != sizes[1]:
                wrong = " and ".join("{} x {}".format(*size) for size in sizes)
                found.append(f"prediction and ground truth are {wrong}, expected one size")
        for side, annotations in (("prediction", self._pred), ("ground truth", self._truth)):
            categories = [segment["category_id"] for segment in annotations[image]["segments_info"]]
            strange = [category for category in categories if category not in list(self.quality_of.isthing)]
            if strange:
                found.append(f"{side} has categories {strange[:5]}, which the data set doesn't have")
        self.problems += [f"image {image}: {line}" for line in found]
        return not found

    def score(self, images: Sequence[Any], workers: int = 1, progress: bool = False) -> Scores:
        rows = for_each_image(self._statistics, images, workers, progress)
        return _stacked_scores(self.quality_of, [self._truth[image]["file_name"] for image in images], rows)

    def _statistics(self, image: Any) -> np.ndarray:
        pred, truth = [read_panoptic_png(file) for file in self._files(image)]
        segments = [annotations[image]["segments_info"] for annotations in (self._truth, self._pred)]
        try:
            return self.quality_of.image_statistics(truth, segments[0], pred, segments[1])
        except UserError as error:
            raise UserError(f"image {image}: {error}") from None


def _png_size(file: Path) -> tuple[int, int]:
    with file.open("rb") as opened:
        return png_size(opened.read(64), file)


def panoptic_folder(json_file: str | Path) -> Path:
    """The PNGs of a panoptic JSON: the folder of its name without ".json", else ``panoptic`` beside it (Detectron2).

    Raises:
        FileNotFoundError: there is neither.
    """
    path = Path(json_file)
    for folder in (path.with_suffix(""), path.parent / "panoptic"):
        if folder.is_dir():
            return folder
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected a COCO panoptic JSON")
    raise FileNotFoundError(f"{path} has no folder of PNGs, {path.with_suffix('')} or {path.parent / 'panoptic'}")


def json_text(content: Mapping[str, Any]) -> str:
    """Strict JSON: nan, which it doesn't have, becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
