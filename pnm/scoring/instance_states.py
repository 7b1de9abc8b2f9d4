"""Instance metrics of a part of a data set as arrays, and the scores of all parts put together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.metrics.instance_records import ImageRecords
from pnm.metrics.joined_records import no_records
from pnm.scoring.scores import ImagesPart, ImagesState, Scores

_OF_DETECTION = ("image", "column", "score", "rank")
_OF_PAIR = ("gt_image", "gt_column", "positives", "f_sums")  # of an image and a class
_MATCHES = ("found", "excused")


def instance_state(metric: InstanceMetrics, names: Sequence[str]) -> ImagesState:
    """The state of a metric's images, whose ``names`` are in the order of its ids."""
    keys, records = metric.records()
    arrays = {name: getattr(records, name) for name in (*_OF_DETECTION, *_OF_PAIR)}
    for side in _MATCHES:
        arrays |= {f"{side} {kind}": bits for kind, bits in getattr(records, side).items()}
    about = {"category_ids": metric.category_ids, "class_names": list(metric.class_names)}
    return ImagesState(about, keys, list(names), arrays)


def instance_scores(metric: InstanceMetrics, parts: Sequence[ImagesPart]) -> Scores:
    """Scores of images of several states, for which ``metric`` is an empty one of the same settings.

    Raises:
        UserError: arrays that such a metric doesn't make.
    """
    names: dict[Any, str] = {}
    for part in parts:
        metric.add_records(part.keys, _records(metric, part))
        names |= dict(zip(part.keys, part.names, strict=True))
    return Scores([names[key] for key in metric.image_ids], metric.class_names, metric.compute_many, metric.per_image)


def _records(metric: InstanceMetrics, part: ImagesPart) -> ImageRecords:
    kinds = [kind for kind in metric.settings.metrics if kind != "af"]
    arrays = {name: part.load(name) for name in (*_OF_DETECTION, *_OF_PAIR)}
    matches = [{kind: part.load(f"{side} {kind}") for kind in kinds} for side in _MATCHES]
    records = ImageRecords(**arrays, found=matches[0], excused=matches[1])
    _check(metric, records, len(part.keys))
    return records


def _check(metric: InstanceMetrics, records: ImageRecords, images: int) -> None:
    """A UserError unless kernels can take the records: their places lead to images and classes, lengths agree."""
    classes, sums = len(metric.category_ids), no_records(metric.settings).f_sums.shape[1:]
    detections, pairs = len(records.image), len(records.gt_image)
    columns = [(records.image, images), (records.column, classes)]
    pair_columns = [(records.gt_image, images), (records.gt_column, classes)]
    well = all(column.shape == (detections,) and _below(column, most) for column, most in columns)
    well &= all(column.shape == (pairs,) and _below(column, most) for column, most in pair_columns)
    well &= records.score.shape == records.rank.shape == (detections,)
    well &= records.score.dtype == np.float64 and bool(np.isfinite(records.score).all())
    well &= records.rank.dtype == np.int64 and bool((records.rank >= 0).all())
    bits = [*records.found.values(), *records.excused.values()]
    well &= all(one.shape == (detections,) and one.dtype == np.uint64 for one in bits)
    well &= records.positives.shape == (pairs, len(metric.area_suffixes)) and records.positives.dtype == np.int64
    well &= records.f_sums.shape == (pairs, *sums) and records.f_sums.dtype == np.int64
    if not well:
        raise UserError("its arrays aren't those of instance metrics")


def _below(column: np.ndarray, most: int) -> bool:
    """Whether int64 numbers are in 0..``most`` - 1."""
    return column.dtype == np.int64 and (not column.size or 0 <= int(column.min()) <= int(column.max()) < most)
