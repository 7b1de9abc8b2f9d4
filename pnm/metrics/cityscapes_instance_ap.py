"""Instance AP as the Cityscapes benchmark defines it, which differs from COCO's in almost every choice.

- Ground truth is the map of instance ids: an instance of class c has id 1000 c + n, a group region the id c alone.
- A detection finds an instance if their IoU is *above* the threshold. Of several that find the same one, that of the
  highest score is right and the others are wrong; there is no limit on their number.
- Instances of fewer than ``min_region_px`` pixels need not be found. A detection that finds none is excused if its IoU
  with a small instance or group is above the threshold, or if a share above the threshold of its pixels is void, group
  or small instance of its class (small groups count twice, as in the benchmark's program).
- Precision and recall are taken at each score, joined to (precision 1, recall 0), and integrated by trapezoids of
  recall; precision isn't made to fall. Ten thresholds from 0.5 to 0.95.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pnm.cityscapes_classes import CITYSCAPES_INSTANCE_CLASSES, CITYSCAPES_VOID_IDS, FIRST_INSTANCE
from pnm.errors import UserError
from pnm.kernels import kernel
from pnm.masks.runs import MaskRuns, decode_entries
from pnm.metrics.average_precision import check_multiplicities, joined, mean_of_known, sort_detections
from pnm.metrics.instance_records import class_indices, finite_scores
from pnm.metrics.metric_values import MetricValues

OVERLAPS = np.arange(0.5, 1.0, 0.05)  # as the benchmark computes them, to the last bit
_MOST_IDS = 1 << 24


class _Record(NamedTuple):
    """Of one image: class index and score (D,), bits of the thresholds (D,), instances to be found by class (K,)."""

    column: np.ndarray
    score: np.ndarray
    found: np.ndarray
    excused: np.ndarray
    positives: np.ndarray


@kernel
def _overlaps(masks: MaskRuns, place: np.ndarray, ids: np.ndarray, number: int) -> np.ndarray:
    """(N, ``number``) pixels of each mask by id, ``place[id]`` being the column; ``ids`` (W * H,) goes by columns."""
    pixels = np.zeros((masks.areas.size, number), np.int64)
    for n in range(masks.areas.size):
        for r in range(masks.offsets[n], masks.offsets[n + 1]):
            for pixel in range(masks.starts[r], masks.ends[r]):
                pixels[n, place[ids[pixel]]] += 1
    return pixels


@kernel
def _count(ids: np.ndarray, most: int) -> np.ndarray:
    """Pixels of each id, (``most`` + 1,)."""
    areas = np.zeros(most + 1, np.int64)
    for k in ids:
        areas[k] += 1
    return areas


@kernel
def _average_precision(
    offsets: np.ndarray,
    image: np.ndarray,
    score: np.ndarray,
    found: np.ndarray,
    excused: np.ndarray,
    bit: int,
    k: int,
    weights: np.ndarray,
    positives: int,
) -> float:
    """Area under the curve of class k; detections by class, then falling score, those of a score at one point."""
    area, right, wrong = 0.0, 0, 0
    recall_before, recall, precision = 0.0, 0.0, 1.0
    n, end = offsets[k], offsets[k + 1]
    while n < end:
        level, right_before, wrong_before = score[n], right, wrong
        while n < end and score[n] == level:
            if not excused[n] & bit:
                right += weights[image[n]] if found[n] & bit else 0
                wrong += 0 if found[n] & bit else weights[image[n]]
            n += 1
        if right > right_before or wrong > wrong_before:
            following = right / positives
            area += precision * (following - recall_before) / 2
            recall_before, recall, precision = recall, following, right / (right + wrong)
    return area + precision * (recall - recall_before) / 2 if right else 0.0


class CityscapesInstanceAP:
    """Accumulates Cityscapes' instance AP; exact under :meth:`merge` in any split.

    Args:
        classes: ``{label id: name}`` of the classes with instances.
        void_ids: label ids that aren't evaluated.
        min_region_px: least pixels of an instance that must be found.
    """

    def __init__(
        self,
        classes: Mapping[int, str] = CITYSCAPES_INSTANCE_CLASSES,
        *,
        void_ids: Sequence[int] = CITYSCAPES_VOID_IDS,
        min_region_px: int = 100,
    ):
        if not classes or not all(0 < k < FIRST_INSTANCE for k in classes):
            raise UserError(f"classes are {dict(classes)}, expected label ids from 1 to {FIRST_INSTANCE - 1} and names")
        self.classes, self.void_ids, self.min_region_px = dict(classes), tuple(void_ids), min_region_px
        self._columns = {label: k for k, label in enumerate(self.classes)}
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self._records: dict[Any, _Record] = {}

    @property
    def image_ids(self) -> list:
        """Ids of the images seen, sorted."""
        return sorted(self._records)

    def update(self, image_id: Any, instance_ids: np.ndarray, dt: Sequence[Mapping[str, Any]]) -> None:
        """Adds one image.

        Args:
            image_id: a number or text; ids must be of one kind.
            instance_ids: (H, W) integers, as in ``*_gtFine_instanceIds.png``.
            dt: ``{"category_id", "segmentation", "score"}``, category ids being label ids. Empty masks count nowhere.

        Raises:
            UserError: the image came before, the map isn't one of ids, or a detection is of another class or damaged.
                Nothing is added then.
        """
        if image_id in self._records:
            raise UserError(f"image {image_id} came twice: give all its detections at once")
        if instance_ids.ndim != 2 or instance_ids.dtype.kind not in "iu":
            kind = f"{instance_ids.shape} {instance_ids.dtype}"
            raise UserError(f"image {image_id}: the map of instance ids is {kind}, expected (H, W) integers")
        if instance_ids.size and not 0 <= instance_ids.min() <= instance_ids.max() < _MOST_IDS:
            span = f"{instance_ids.min()} to {instance_ids.max()}"
            raise UserError(f"image {image_id}: instance ids are {span}, expected 0 to {_MOST_IDS - 1}")
        name = f"image {image_id}, detection"
        column, score = class_indices(dt, name, self._columns), finite_scores(dt, name)
        height, width = instance_ids.shape
        masks = decode_entries(dt, (height, width), lambda n: f"{name} {n}")
        self._records[image_id] = self._record(instance_ids.ravel("F"), column, score, masks)

    def _record(self, ids: np.ndarray, column: np.ndarray, score: np.ndarray, masks: MaskRuns) -> _Record:
        areas = _count(ids, int(ids.max()))
        present = np.flatnonzero(areas)
        place = np.zeros(areas.size, np.int64)
        place[present] = np.arange(present.size)
        pixels = _overlaps(masks, place, ids, present.size)
        iou = pixels / np.maximum(masks.areas[:, None] + areas[present] - pixels, 1)
        single, small = present >= FIRST_INSTANCE, areas[present] < self.min_region_px
        label = np.where(single, present // FIRST_INSTANCE, present)
        same = np.array(list(self.classes))[column, None] == label
        void = pixels[:, np.isin(present, self.void_ids)].sum(axis=1)
        ignored = void + (pixels * same * (~single * 1 + small)).sum(axis=1)
        share = ignored / np.maximum(masks.areas, 1)
        to_find = single & ~small
        found, excused = np.zeros((2, len(score)), np.uint64)
        for t, threshold in enumerate(OVERLAPS):
            over = same & (iou > threshold)
            finds = over & to_find
            bit = np.uint64(1 << t)
            found[_first_to_find(finds, score)] |= bit
            excused[~finds.any(axis=1) & (over.any(axis=1) | (share > threshold)) | (masks.areas == 0)] |= bit
        positives = np.array([np.count_nonzero(to_find & (label == k)) for k in self.classes], np.int64)
        return _Record(column, score, found, excused, positives)

    def merge(self, other: "CityscapesInstanceAP") -> None:
        """Adds the images another process has seen.

        Raises:
            UserError: the other one measures something else, or both have seen the same image.
        """
        settings = [(m.classes, m.void_ids, m.min_region_px) for m in (self, other)]
        if settings[0] != settings[1]:
            raise UserError(f"{settings[1]} came, expected {settings[0]}: only like results can be merged")
        twice = sorted(self._records.keys() & other._records.keys())
        if twice:
            raise UserError(f"images {twice[:5]} are in both results: give each process its own images")
        self._records |= other._records

    def compute(self) -> MetricValues:
        """``{"AP", "AP50", "AP-<class>"..., "AP50-<class>"...}`` in 0..1; nan where there is no instance to be found.

        The means run over the classes with instances.
        """
        every = np.ones((1, len(self._records)), np.int64)
        return self._values(self.image_ids, every).map(lambda values: float(values[0]))

    def compute_many(self, multiplicities: np.ndarray) -> MetricValues:
        """:meth:`compute` on B data sets that have each image any number of times, e.g. for a bootstrap over images.

        Args:
            multiplicities: (B, I) integers from 0, columns in the order of :attr:`image_ids`.
        """
        return self._values(self.image_ids, check_multiplicities(multiplicities, len(self._records)))

    def per_image(self) -> MetricValues:
        """:meth:`compute` on each image alone, (I,) values in the order of :attr:`image_ids`."""
        one = np.ones((1, 1), np.int64)
        rows = [self._values([image_id], one) for image_id in self.image_ids]
        if not rows:
            return MetricValues({}, {})
        return rows[0].like(lambda name: np.concatenate([row[name] for row in rows]))

    def _values(self, ids: Sequence[Any], multiplicities: np.ndarray) -> MetricValues:
        records = [self._records[image_id] for image_id in ids]
        image = np.repeat(np.arange(len(records)), [len(r.column) for r in records])
        column, score, found, excused = [
            joined([r[part] for r in records], dtype)
            for part, dtype in enumerate((np.int64, float, np.uint64, np.uint64))
        ]
        order, offsets = sort_detections(column, score, len(self.classes))
        arrays = offsets, image[order], score[order], found[order], excused[order]
        positives = multiplicities @ joined([r.positives[None] for r in records], np.int64, (len(self.classes),))
        ap = np.full((len(multiplicities), len(self.classes), len(OVERLAPS)), np.nan)
        for b, k in np.argwhere(positives > 0):
            for t in range(len(OVERLAPS)):
                ap[b, k, t] = _average_precision(*arrays, np.uint64(1 << t), k, multiplicities[b], positives[b, k])
        means = {
            "AP": np.array([mean_of_known(one) for one in ap]),
            "AP50": np.array([mean_of_known(one[:, 0]) for one in ap]),
        }
        by_class = {"AP": ap.mean(axis=-1), "AP50": ap[:, :, 0]}
        names = list(self.classes.values())
        return MetricValues(means, {m: dict(zip(names, values.T, strict=True)) for m, values in by_class.items()})


def _first_to_find(finds: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Index of the best detection, the first of equals, of each instance in ``finds`` (D, instances) that has any."""
    instances = np.flatnonzero(finds.any(axis=0))
    if not len(instances):
        return instances
    return np.where(finds[:, instances], score[:, None], -np.inf).argmax(axis=0)
