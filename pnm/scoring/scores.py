"""What a prediction in files scores: whole, image by image, and on resamples of the images."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from pnm.errors import UserError
from pnm.metrics.metric_values import MetricValues
from pnm.scoring.image_results import ImageResult


class Scores(NamedTuple):
    """What a prediction scores.

    Attributes:
        images: I names, in the order of ``on_samples``.
        class_names: in the order of the report.
        on_samples: (B, I) multiplicities of the images -> (B,) values of each metric in 0..1, nan where undefined.
        each_image: -> (I,) values of each metric, of each image alone.
        share_ignored: of the ground truth's pixels, where these have labels.
    """

    images: list[str]
    class_names: list[str]
    on_samples: Callable[[np.ndarray], MetricValues]
    each_image: Callable[[], MetricValues]
    share_ignored: float = 0.0

    def whole(self) -> MetricValues:
        """The metrics of the whole data set."""
        every = np.ones((1, len(self.images)), np.int64)
        return self.on_samples(every).map(lambda values: float(values[0]))


class ResultFiles(Protocol):
    """A prediction beside its ground truth.

    Attributes:
        task: "semantic", "instance" or "panoptic".
        problems: a line for each thing that doesn't fit.
        remarks: lines on what is as it may be.
        images: those that can be scored.
    """

    task: str
    problems: list[str]
    remarks: list[str]
    images: list[Any]

    def score(self, images: Sequence[Any], workers: int, progress: bool) -> Scores:
        """Scores some of ``images``, ``workers`` at a time; the result doesn't depend on their number.

        Raises:
            UserError: one or more files are damaged or inconsistent; the message has a line for each of them.
        """

    def read(self, image: Any) -> ImageResult:
        """Truth and prediction of one image.

        Raises:
            UserError: a damaged file.
        """

    def image_key(self, image: Any) -> int | str:
        """What the image is called, for :class:`pnm.formats.image_files.ImageFiles`."""


def for_each_image(
    work: Callable[[Any], Any],
    images: Sequence[Any],
    workers: int,
    progress: bool,
    what: str | None = None,
    unit: str = "image",
) -> list:
    """Results of ``work`` in the order of ``images``, in threads; UserErrors are gathered into one with a line each.

    ``progress`` shows a bar, which ``what`` stands before and which counts in ``unit``.
    """
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1")

    def attempt(image: Any) -> Any:
        try:
            return work(image)
        except UserError as error:
            return error

    pool = ThreadPoolExecutor(workers)
    try:
        results = list(tqdm(pool.map(attempt, images), total=len(images), desc=what, unit=unit, disable=not progress))
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


def _sums(metric: Any, statistics: np.ndarray) -> Callable[[np.ndarray], MetricValues]:
    return lambda multiplicities: metric.compute_many(np.tensordot(multiplicities, statistics, 1))


def stacked_scores(metric: Any, images: Sequence[Any], rows: Sequence[np.ndarray] | np.ndarray) -> Scores:
    """Scores of a metric whose statistics (R, K) add up, given those of each image."""
    statistics = np.stack(list(rows)) if len(rows) else np.zeros((0, *metric.statistics.shape), np.int64)
    names = list(metric.class_names)
    return Scores([*map(str, images)], names, _sums(metric, statistics), lambda: metric.compute_many(statistics))


def json_text(content: Mapping[str, Any]) -> str:
    """Strict JSON: nan, which it doesn't have, becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
