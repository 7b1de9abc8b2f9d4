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


class ImagesState(NamedTuple):
    """All that is known of some images once they are scored: what a file can hold, and what others' can be added to.

    Attributes:
        about: what the metric measures beside its settings, such as its classes, as JSON has it.
        keys: of the images, numbers or texts.
        names: of the images, as :attr:`Scores.images` has them.
        arrays: by name; what they are depends on the task.
    """

    about: dict[str, Any]
    keys: list[Any]
    names: list[str]
    arrays: dict[str, np.ndarray]

    def part(self, places: np.ndarray | None = None) -> "ImagesPart":
        """These images as a part, or the whole, of a data set."""
        whole = np.arange(len(self.keys)) if places is None else places
        return ImagesPart(self.keys, self.names, whole, self.arrays.__getitem__)


class ImagesPart(NamedTuple):
    """Some of the images of a data set.

    Attributes:
        keys, names: as of :class:`ImagesState`.
        places: (I,) int64, where the images are among all that are scored.
        load: gives an array of the state by its name, perhaps from a file.
    """

    keys: list[Any]
    names: list[str]
    places: np.ndarray
    load: Callable[[str], np.ndarray]


class ImageFault(NamedTuple):
    """What doesn't fit in one image: its place in the ground truth's list, and a line."""

    place: int
    line: str


class ResultFiles(Protocol):
    """A prediction beside its ground truth.

    Attributes:
        task: "semantic", "instance" or "panoptic".
        problems: a line for each thing that doesn't fit, those of ``faults`` last.
        faults: what doesn't fit in single images.
        remarks: lines on what is as it may be.
        listed: all images of the ground truth, in its order.
        images: those that can be scored; of a shard, its own.
    """

    task: str
    problems: list[str]
    faults: list[ImageFault]
    remarks: list[str]
    listed: list[Any]
    images: list[Any]

    def score(self, images: Sequence[Any], workers: int, progress: bool) -> Scores:
        """Scores some of ``images``, ``workers`` at a time; the result doesn't depend on their number.

        Raises:
            UserError: one or more files are damaged or inconsistent; the message has a line for each of them.
        """

    def state(self, images: Sequence[Any], workers: int, progress: bool) -> ImagesState:
        """As :meth:`score`, to be put together with other images."""

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


def summed_scores(metric: Any, parts: Sequence[ImagesPart]) -> Scores:
    """Scores of a metric whose statistics add up, given those of each image; no image lacks in the parts' places.

    Statistics are loaded part by part whenever they are needed, so that no more than one part need be in memory. They
    are whole numbers: how images are split changes no bit.

    Args:
        parts: with "statistics" (I, R, K), what the metric's ``image_statistics`` gave, and, where pixels may be
            ignored, "counted" and "pixels" (I,), how many count and how many there are; all int64.
    """
    order = np.argsort(np.concatenate([np.empty(0, np.int64), *(part.places for part in parts)]))
    names = [name for part in parts for name in part.names]

    def on_samples(multiplicities: np.ndarray) -> MetricValues:
        sums = np.zeros((len(multiplicities), *metric.statistics.shape), np.int64)
        for part in parts:
            sums += np.tensordot(multiplicities[:, part.places], part.load("statistics"), 1)
        return metric.compute_many(sums)

    def each_image() -> MetricValues:
        values = [metric.compute_many(part.load("statistics")) for part in parts]
        return values[0].like(lambda name: np.concatenate([one[name] for one in values])[order])

    counted, pixels = (sum(int(part.load(name).sum()) for part in parts) for name in ("counted", "pixels"))
    share_ignored = 1 - counted / pixels if pixels else 0.0
    return Scores([names[n] for n in order], list(metric.class_names), on_samples, each_image, share_ignored)


def summed_state(
    metric: Any, about: Mapping[str, Any], keys: Sequence[Any], names: Sequence[Any], rows: Sequence[np.ndarray]
) -> ImagesState:
    """What :func:`summed_scores` needs of images whose statistics (R, K) are ``rows``; no pixel of them is ignored."""
    statistics = np.stack(rows) if len(rows) else np.zeros((0, *metric.statistics.shape), np.int64)
    none = np.zeros(len(keys), np.int64)
    arrays = {"statistics": statistics, "counted": none, "pixels": none}
    return ImagesState(dict(about), list(keys), [*map(str, names)], arrays)


def json_text(content: Mapping[str, Any]) -> str:
    """Strict JSON: nan, which it doesn't have, becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
