"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019) from id maps.

A prediction and a ground-truth segment match if their categories agree, the ground truth is no crowd and
IoU > 0.5 with void left out of the union. Areas are counted from the maps, never read from the JSON, and
every crowd region of a category excuses a false positive, not only the last one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numba
import numpy as np

VOID = 0
_PAIR = numba.types.UniTuple(numba.int64, 2)


def rgb_to_ids(rgb: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) int64 of a COCO panoptic PNG (H, W, 3) uint8: R + 256 G + 65536 B."""
    if rgb.ndim != 3 or rgb.shape[2] < 3 or rgb.dtype != np.uint8:
        raise ValueError(f"a panoptic PNG is (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    return rgb[..., 0] + (rgb[..., 1].astype(np.int64) << 8) + (rgb[..., 2].astype(np.int64) << 16)


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """COCO panoptic PNG pixels (H, W, 3) uint8 of segment ids (H, W), 0 <= id < 2**24."""
    if ids.size and (ids.min() < 0 or ids.max() >= 1 << 24):
        raise ValueError(f"segment ids must lie in [0, 2**24), got {ids.min()} to {ids.max()}")
    return np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


@numba.njit(cache=True)
def _count_pairs(gt_ids, pred_ids):
    """Joint histogram {(gt id, pred id): pixels}. Equal neighbours are counted as one run before the look-up."""
    counts = numba.typed.Dict.empty(_PAIR, numba.int64)
    run = 0
    for i in range(gt_ids.size):
        run += 1
        if i + 1 == gt_ids.size or gt_ids[i + 1] != gt_ids[i] or pred_ids[i + 1] != pred_ids[i]:
            key = (np.int64(gt_ids[i]), np.int64(pred_ids[i]))
            counts[key] = counts.get(key, 0) + run
            run = 0
    return counts


class PanopticQuality:
    """Accumulates matches over images; exact under :meth:`merge` in any split.

    Args:
        isthing: ``{category_id: is it a thing}`` for every category that is evaluated.
    """

    def __init__(self, isthing: Mapping[int, bool]):
        self.isthing = dict(isthing)
        self._column = {category: k for k, category in enumerate(self.isthing)}
        self.counts = np.zeros(
            (3, len(self.isthing)), dtype=np.int64
        )  # true positives, false positives, false negatives
        self.iou = np.zeros(len(self.isthing))

    def update(
        self,
        gt_ids: np.ndarray,
        gt_segments: Iterable[Mapping[str, Any]],
        pred_ids: np.ndarray,
        pred_segments: Iterable[Mapping[str, Any]],
    ) -> None:
        """Adds one image.

        Args:
            gt_ids, pred_ids: (H, W) integer maps of segment ids, 0 = void.
            gt_segments, pred_segments: ``{"id", "category_id"[, "iscrowd"]}`` of each segment. Ground-truth ids
                that only the map has are void-like and ignored, as in the COCO evaluation.

        Raises:
            ValueError: sizes differ, a category is unknown, an id occurs twice, or a predicted id is in only
                one of map and list.
        """
        if gt_ids.shape != pred_ids.shape:
            raise ValueError(f"prediction is {pred_ids.shape}, ground truth {gt_ids.shape}: sizes must agree")
        gt = self._by_id(gt_segments, "ground truth")
        pred = self._by_id(pred_segments, "prediction")
        pairs = _count_pairs(np.ascontiguousarray(gt_ids).ravel(), np.ascontiguousarray(pred_ids).ravel())
        gt_area: dict[int, int] = {}
        pred_area: dict[int, int] = {}
        excused: dict[int, int] = {}  # pixels of a predicted segment on void or on crowd of its category
        for (g, p), n in pairs.items():
            gt_area[g] = gt_area.get(g, 0) + n
            pred_area[p] = pred_area.get(p, 0) + n
            crowd_of_category = g in gt and p in pred and gt[g][1] and gt[g][0] == pred[p][0]
            if g == VOID or crowd_of_category:
                excused[p] = excused.get(p, 0) + n
        self._check_predicted_ids(pred, pred_area)
        matched = self._match(gt, pred, pairs, gt_area, pred_area)
        for g, (category, crowd) in gt.items():
            if not crowd and g not in matched:
                self.counts[2, self._column[category]] += 1
        for p, (category, _) in pred.items():
            if p not in matched.values() and excused.get(p, 0) / pred_area[p] <= 0.5:
                self.counts[1, self._column[category]] += 1

    def _match(self, gt, pred, pairs, gt_area, pred_area) -> dict[int, int]:
        """Adds the true positives and returns {gt id: pred id}; above 0.5 a match is unique on both sides."""
        matched = {}
        for (g, p), intersection in pairs.items():
            if g not in gt or p not in pred or gt[g][1] or gt[g][0] != pred[p][0]:
                continue
            union = gt_area[g] + pred_area[p] - intersection - pairs.get((VOID, p), 0)
            iou = intersection / union
            if iou > 0.5:
                matched[g] = p
                self.counts[0, self._column[gt[g][0]]] += 1
                self.iou[self._column[gt[g][0]]] += iou
        return matched

    def _by_id(self, segments: Iterable[Mapping[str, Any]], side: str) -> dict[int, tuple[int, bool]]:
        found: dict[int, tuple[int, bool]] = {}
        for segment in segments:
            number, category = int(segment["id"]), int(segment["category_id"])
            if number in found:
                raise ValueError(f"{side}: segment id {number} is listed twice")
            if category not in self._column:
                raise ValueError(f"{side}: segment {number} has category {category}, which the data set doesn't have")
            found[number] = category, bool(segment.get("iscrowd", 0))
        return found

    @staticmethod
    def _check_predicted_ids(pred: dict, pred_area: dict) -> None:
        only_map = sorted(set(pred_area) - set(pred) - {VOID})
        only_list = sorted(set(pred) - set(pred_area))
        if only_map or only_list:
            raise ValueError(
                f"prediction: segment ids {only_map[:5]} are in the map but not in segments_info, "
                f"{only_list[:5]} in segments_info but not in the map"
            )

    def merge(self, other: "PanopticQuality") -> None:
        """Adds the images another process has seen."""
        if self.isthing != other.isthing:
            raise ValueError("only results over the same categories can be merged")
        self.counts += other.counts
        self.iou += other.iou

    def compute(self) -> dict[str, dict]:
        """``{"All" | "Things" | "Stuff": {"pq", "sq", "rq", "n"}, "per_class": {id: {"pq", "sq", "rq"}}}`` in 0..1.

        Means run over the ``n`` categories that occur in ground truth or prediction; of none they are nan.
        """
        tp, fp, fn = self.counts
        denominator = tp + 0.5 * fp + 0.5 * fn
        occurs = denominator > 0
        with np.errstate(invalid="ignore"):
            rows = {"pq": self.iou / denominator, "sq": np.where(tp > 0, self.iou / tp, 0.0), "rq": tp / denominator}
        thing = np.array(list(self.isthing.values()), dtype=bool)
        result: dict[str, dict] = {}
        for split, chosen in (("All", occurs), ("Things", occurs & thing), ("Stuff", occurs & ~thing)):
            n = int(chosen.sum())
            result[split] = {name: float(row[chosen].mean()) if n else float("nan") for name, row in rows.items()}
            result[split]["n"] = n
        result["per_class"] = {
            category: {name: float(row[k]) if occurs[k] else float("nan") for name, row in rows.items()}
            for category, k in self._column.items()
        }
        return result
