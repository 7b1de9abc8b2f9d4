"""One image's truth and prediction as they come from files, for whoever wants more of them than a score."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.metrics.exact_sums import LabelPair


class InstanceImage(NamedTuple):
    """Annotations and detections of an image of ``size`` (height, width), as COCO has them; categories are ids."""

    size: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]
    detections: Sequence[Mapping[str, Any]]


class PanopticImage(NamedTuple):
    """Maps (H, W) of segment ids, 0 = void, and ``{"id", "category_id"[, "iscrowd"]}`` of each segment."""

    truth: np.ndarray
    truth_segments: Sequence[Mapping[str, Any]]
    pred: np.ndarray
    pred_segments: Sequence[Mapping[str, Any]]


ImageResult = LabelPair | InstanceImage | PanopticImage
