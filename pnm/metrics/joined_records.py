"""Records of images put together, whoever made them, and taken apart again."""

from collections.abc import Iterator, Sequence

import numpy as np

from pnm.metrics.average_precision import IOU_THRESHOLDS
from pnm.metrics.instance_records import ImageRecords, RecordSettings


def no_records(settings: RecordSettings) -> ImageRecords:
    """Records of no image."""
    whole, bits = np.empty(0, np.int64), np.empty(0, np.uint64)
    matches = {metric: bits for metric in settings.metrics if metric != "af"}
    positives = np.empty((0, len(settings.area_ranges)), np.int64)
    sums = np.empty((0, 2, len(IOU_THRESHOLDS)), np.int64)
    return ImageRecords(whole, whole, np.empty(0), whole, matches, matches, whole, whole, positives, sums)


def joined_records(parts: Sequence[ImageRecords], numbers: Sequence[np.ndarray]) -> ImageRecords:
    """Records of all images, sorted by their numbers.

    Args:
        parts: records of some images each, at least one part.
        numbers: (I,) int64 of each part, the numbers that its images have together.
    """
    image = np.concatenate([number[part.image] for number, part in zip(numbers, parts)])
    gt_image = np.concatenate([number[part.gt_image] for number, part in zip(numbers, parts)])
    order, gt_order = np.argsort(image, kind="stable"), np.argsort(gt_image, kind="stable")
    found, excused = [
        {metric: np.concatenate([side[metric] for side in sides])[order] for metric in sides[0]}
        for sides in ([part.found for part in parts], [part.excused for part in parts])
    ]
    return ImageRecords(
        image[order],
        np.concatenate([part.column for part in parts])[order],
        np.concatenate([part.score for part in parts])[order],
        np.concatenate([part.rank for part in parts])[order],
        found,
        excused,
        gt_image[gt_order],
        np.concatenate([part.gt_column for part in parts])[gt_order],
        np.concatenate([part.positives for part in parts])[gt_order],
        np.concatenate([part.f_sums for part in parts])[gt_order],
    )


def records_of_each_image(records: ImageRecords, images: int) -> Iterator[ImageRecords]:
    """The records of images 0..``images`` - 1, each as the only one there is."""
    edges = np.searchsorted(records.image, np.arange(images + 1))
    gt_edges = np.searchsorted(records.gt_image, np.arange(images + 1))
    for n in range(images):
        rows, gt_rows = slice(edges[n], edges[n + 1]), slice(gt_edges[n], gt_edges[n + 1])
        yield ImageRecords(
            np.zeros_like(records.image[rows]),
            records.column[rows],
            records.score[rows],
            records.rank[rows],
            {metric: bits[rows] for metric, bits in records.found.items()},
            {metric: bits[rows] for metric, bits in records.excused.items()},
            np.zeros_like(records.gt_image[gt_rows]),
            records.gt_column[gt_rows],
            records.positives[gt_rows],
            records.f_sums[gt_rows],
        )
