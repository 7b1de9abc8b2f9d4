"""All metrics of semantic segmentation from one look at each image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pnm.errors import UserError
from pnm.metrics.boundary_f_score import check_tolerances, contour_matches, f_scores, tolerance_px
from pnm.metrics.boundary_pixels import interior_pixels
from pnm.metrics.boundary_width import boundary_width, check_distance
from pnm.metrics.exact_sums import (
    QUOTIENT_SCALE,
    LabelPair,
    class_sums,
    mean_over_classes,
    pair_labels,
    pixel_sums,
    quotient,
)
from pnm.metrics.metric_names import SEMANTIC as METRICS
from pnm.metrics.metric_values import MetricValues, distinct_names
from pnm.null_model.null_model import check_locality, pixel_null_model
from pnm.null_model.pixel_weights import check_transform, pixel_weights

_AREAS = ("intersection", "prediction", "truth")


class SemanticMetrics:
    """IoU, accuracy, PNM IoU, Boundary IoU and boundary F-score over a data set; exact under :meth:`merge`.

    Numerators and denominators of each class are summed over all images before they are divided, but for the F-score,
    which is taken of each image and class. Pixels that the ground truth ignores count nowhere, whatever is predicted
    there; a prediction that is no class is wrong, and belongs to no class's union but the truth's.

    - *PNM IoU* (Zhang et al., "PNM", Eq. 8): pixels weigh what the ground truth's null model says.
    - *Boundary IoU* (Cheng et al., CVPR 2021): IoU of the boundaries, which are d pixels wide. Both maps are void where
      the ground truth is, and void borders on a class as another class does.
    - *Boundary F-score*: see :mod:`pnm.metrics.boundary_f_score`; mean over images, then over classes.

    Args:
        num_classes: K; labels are 0..K - 1.
        class_names: K names for the report; the class numbers by default, and behind names that occur twice.
        ignore_label: ground-truth label that is left out; None if there is none.
        locality, transform, border: of the null model, see :func:`pnm.null_model.null_model.pixel_null_model` and
            :func:`pnm.null_model.pixel_weights.pixel_weights`.
        boundary_ratio: d as a fraction of the image's diagonal (Cheng et al.: 0.02; Cityscapes 0.005).
        boundary_px: d in pixels instead.
        f_score_px: tolerances of the F-score in whole pixels, or below 1 as fractions of the diagonal (0.00088 in the
            literature), each with its own keys.
        f_score_void_borders: whether changes from or to ignored pixels are contours, as in the literature. Without
            them nothing is left to find where all borders are void, as in Pascal VOC.
        f_score_absent: whether a class without contour in either map scores 1 in that image, as in the literature:
            with many classes, most of the mean is then of classes that aren't there. By default such an image doesn't
            enter the class's mean.
        metrics: "all", or some of "IoU" (with accuracies), "PNM-IoU", "Boundary-IoU" and "Boundary-F".

    Attributes:
        statistics: (R, K) int64, sums over images, all that is known; row names are in ``rows``.

    Raises:
        UserError: an argument that makes no sense.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        class_names: Sequence[str] | None = None,
        ignore_label: int | None = 255,
        locality: int = 35,
        transform: str = "log",
        border: str = "valid",
        boundary_ratio: float | None = 0.02,
        boundary_px: int | None = None,
        f_score_px: Sequence[int | float] = (1, 2, 3),
        f_score_void_borders: bool = True,
        f_score_absent: bool = False,
        metrics: Sequence[str] = METRICS,
    ):
        if num_classes < 1:
            raise UserError(f"num_classes is {num_classes}, expected at least one")
        self.num_classes, self.ignore_label = num_classes, ignore_label
        names = [str(k) for k in range(num_classes)] if class_names is None else list(class_names)
        if len(names) != num_classes:
            raise UserError(f"{len(names)} class names came for {num_classes} classes: give one for each")
        self.class_names = distinct_names(names, range(num_classes))
        self.metrics = METRICS if metrics == "all" else tuple(metrics)
        if not self.metrics or not set(self.metrics) <= set(METRICS):
            raise UserError(f"metrics are {metrics!r}: choose from {', '.join(METRICS)}, or all")
        check_transform(transform)
        self.locality, self.transform, self.border = check_locality(locality, border), transform, border
        check_distance(boundary_ratio, boundary_px)
        if "Boundary-IoU" in self.metrics and boundary_ratio is None and boundary_px is None:
            raise UserError("boundary_ratio and boundary_px are None: give one, or leave Boundary-IoU out of metrics")
        self.boundary_ratio, self.boundary_px = boundary_ratio, boundary_px
        check_tolerances(f_score_px)
        self.f_score_px = tuple(f_score_px)
        self.f_score_void_borders, self.f_score_absent = f_score_void_borders, f_score_absent
        self.rows = self._rows()
        self.reset()

    def _rows(self) -> list[str]:
        rows = list(_AREAS)
        for metric in METRICS[1:3]:
            rows += [f"{metric} {area}" for area in _AREAS if metric in self.metrics]
        if "Boundary-F" in self.metrics:
            rows += [self._f_name(tolerance) for tolerance in self.f_score_px] + ["images with contour", "images"]
        return rows

    @staticmethod
    def _f_name(tolerance: int | float) -> str:
        return f"Boundary-F-{tolerance:g}" + ("px" if tolerance >= 1 else "")

    def reset(self) -> None:
        """Forgets all images."""
        self.statistics = np.zeros((len(self.rows), self.num_classes), np.int64)

    def update(self, pred: Any, target: Any) -> None:
        """Adds one image, see :meth:`image_statistics`. Nothing is added if that fails."""
        self.statistics = self.statistics + self.image_statistics(pred, target)

    def image_statistics(self, pred: Any, target: Any) -> np.ndarray:
        """What one image adds to :attr:`statistics`, without adding it.

        Args:
            pred: (H, W) integers, the predicted classes; NumPy or torch.
            target: (H, W) integers, classes or ``ignore_label``.

        Returns:
            (R, K) int64; zeros for maps without pixels.

        Raises:
            UserError: maps that differ in size or are no (H, W) integers, or a target that is neither a class nor
                ignored.
        """
        if self.metrics == ("IoU",):
            return pixel_sums(pred, target, self.num_classes, self.ignore_label)
        pair = pair_labels(pred, target, self.num_classes, self.ignore_label)
        if pair.truth.size == 0:
            return np.zeros_like(self.statistics)
        weights = interiors = None
        if "PNM-IoU" in self.metrics:
            ignored = None if self.ignore_label is None else self.num_classes
            null_model = pixel_null_model(pair.truth, self.locality, ignore_label=ignored, border=self.border)
            weights = pixel_weights(null_model, self.transform, overwrite_pnm=True)
        if "Boundary-IoU" in self.metrics:
            d = boundary_width(pair.truth.shape, self.boundary_ratio, self.boundary_px)
            interiors = interior_pixels(pair.truth, d), interior_pixels(pair.pred, d)
        sums = [class_sums(pair, weights, interiors)]
        if "Boundary-F" in self.metrics:
            sums.append(self._f_rows(pair))
        return np.concatenate(sums)

    def _f_rows(self, pair: LabelPair) -> np.ndarray:
        radii = [tolerance_px(tolerance, *pair.truth.shape) for tolerance in self.f_score_px]
        ascending, column = np.unique(radii, return_inverse=True)
        f, occurs = f_scores(contour_matches(pair, ascending, self.f_score_void_borders))
        return np.stack([*f[column], occurs, np.ones(self.num_classes, np.int64)])

    def merge(self, other: "SemanticMetrics") -> None:
        """Adds the images another process has seen.

        Raises:
            UserError: the other one counts something else.
        """
        if self._settings() != other._settings():
            raise UserError(f"{other._settings()} came, expected {self._settings()}: only like results can be merged")
        self.statistics = self.statistics + other.statistics

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("statistics", "rows")}

    def compute(self) -> MetricValues:
        """Everything in 0..1; nan where undefined.

        - ``mIoU``, ``PNM-IoU``, ``Boundary-IoU``: mean over the classes that the ground truth has, as Detectron2 does.
          ``mIoU-gt-or-pred``, ``PNM-IoU-gt-or-pred``...: classes that were only predicted count as 0, as in Cityscapes'
          and MMSegmentation's mIoU. ``IoU-<class>``, ``PNM-IoU-<class>``...
        - ``fwIoU``: weighted by the class's pixels in the ground truth. ``mACC``, ``pACC``: accuracy of classes, of
          pixels. ``ACC-<class>``.
        - ``Boundary-F-1px`` and ``Boundary-F-0.00088``, or whatever the tolerances are: mean over classes of
          ``Boundary-F-1px-<class>``..., which are means over images. With ``f_score_absent`` all images count.

        Classes without ground truth are nan, but for the F-score.
        """
        return self.compute_many(self.statistics[None]).map(lambda values: float(values[0]))

    def compute_many(self, statistics: np.ndarray) -> MetricValues:
        """:meth:`compute` of B other statistics, e.g. of each image, or of sums over images drawn for a bootstrap.

        Args:
            statistics: (B, R, K) integers, what :meth:`image_statistics` returned, or sums of it.

        Returns:
            (B,) values of each metric.

        Raises:
            UserError: another shape.
        """
        if statistics.ndim != 3 or statistics.shape[1:] != self.statistics.shape:
            raise UserError(f"statistics are {statistics.shape}, expected (B, R, K) with {self.statistics.shape} last")
        row = {name: statistics[:, k] for k, name in enumerate(self.rows)}
        means: dict[str, np.ndarray] = {}
        by_class: dict[str, np.ndarray] = {}
        occurs = row["truth"] > 0
        for metric, prefix in zip(METRICS[:3], ("", "PNM-IoU ", "Boundary-IoU ")):
            if metric in self.metrics:
                shared, predicted, true = (row[prefix + area] for area in _AREAS)
                by_class[metric] = np.where(occurs, quotient(shared, predicted + true - shared), np.nan)
                name = "mIoU" if metric == "IoU" else metric
                means[name] = mean_over_classes(by_class[metric], occurs)
                without_nan = np.where(occurs, by_class[metric], 0.0)
                means[f"{name}-gt-or-pred"] = mean_over_classes(without_nan, occurs | (row["prediction"] > 0))
        if "IoU" in self.metrics:
            by_class["ACC"] = quotient(row["intersection"], row["truth"])
            means |= self._pixel_means(row, by_class["IoU"], by_class["ACC"])
        for tolerance in self.f_score_px if "Boundary-F" in self.metrics else ():
            name = self._f_name(tolerance)
            by_class[name] = self._mean_f(row[name], row["images with contour"], row["images"])
            means[name] = mean_over_classes(by_class[name], ~np.isnan(by_class[name]))
        return MetricValues(
            means, {m: dict(zip(self.class_names, values.T, strict=True)) for m, values in by_class.items()}
        )

    def _pixel_means(self, row: dict[str, np.ndarray], iou: np.ndarray, accuracy: np.ndarray) -> dict[str, np.ndarray]:
        occurs = row["truth"] > 0
        pixels = row["truth"].sum(axis=1)
        return {
            "fwIoU": quotient((np.where(occurs, iou, 0.0) * row["truth"]).sum(axis=1), pixels),
            "mACC": mean_over_classes(accuracy, occurs),
            "pACC": quotient(row["intersection"].sum(axis=1), pixels),
        }

    def _mean_f(self, sums: np.ndarray, with_contour: np.ndarray, images: np.ndarray) -> np.ndarray:
        """F of each class; sums are in 2**-40."""
        if not self.f_score_absent:
            return quotient(sums / QUOTIENT_SCALE, with_contour)
        return quotient(sums / QUOTIENT_SCALE + (images - with_contour), images)
