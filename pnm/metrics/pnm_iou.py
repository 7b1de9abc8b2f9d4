"""PNM IoU (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation", Eq. 8), and mIoU beside it (Eq. 7)."""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from pnm.null_model import check_locality, pixel_null_model
from pnm.pixel_weights import check_transform, pixel_weights
from pnm.user_error import UserError

# Weights are float32 of at least 1, hence multiples of 2**-23. Summed as integers they are exact up to 2**40 pixels'
# worth of weight, and the result doesn't depend on the order of images or on how processes share them.
SCALE = 2.0**23


@numba.njit(nogil=True, cache=True)
def _add_image(pred, target, weights, ignore_label, intersection, pred_area, target_area):
    """Adds weight (row 0) and pixels (row 1) by class; the first target that is no class, or ``ignore_label``."""
    number = intersection.shape[1]
    for i in range(target.size):
        truth = target[i]
        if truth == ignore_label:
            continue
        if truth < 0 or truth >= number:
            return truth
        weight = np.int64(weights[i] * SCALE)
        target_area[0, truth] += weight
        target_area[1, truth] += 1
        if pred[i] == truth:
            intersection[0, truth] += weight
            intersection[1, truth] += 1
        if 0 <= pred[i] < number:
            pred_area[0, pred[i]] += weight
            pred_area[1, pred[i]] += 1
    return ignore_label


class PNMIoU:
    """Accumulates weighted intersections and unions over a data set; exact under :meth:`merge` in any split.

    Numerator and denominator of each class are summed over all images before they are divided. A pixel's weight is
    that of the *ground truth's* null model. Ignored pixels of the ground truth count nowhere; a prediction that is no
    class is wrong and belongs to no class's union but the truth's.

    Args:
        num_classes: K; labels are 0..K - 1.
        locality: side d of the null model's window in pixels, odd.
        transform: "log", "linear" or "inverse", see :func:`pnm.pixel_weights.pixel_weights`.
        ignore_label: ground-truth label that is left out; None if there is none.
        border: see :func:`pnm.null_model.pixel_null_model`.
        class_names: K names for the report; the class numbers by default.

    Raises:
        UserError: no class, a number of names other than K, or a locality, transform or border that doesn't exist.
    """

    def __init__(
        self,
        num_classes: int,
        locality: int = 35,
        transform: str = "log",
        ignore_label: int | None = 255,
        *,
        border: str = "valid",
        class_names: Sequence[str] | None = None,
    ):
        if num_classes < 1:
            raise UserError(f"num_classes is {num_classes}, expected at least one")
        if class_names is not None and len(class_names) != num_classes:
            raise UserError(f"{len(class_names)} class names came for {num_classes} classes: give one for each")
        check_transform(transform)
        self.num_classes = num_classes
        self.locality = check_locality(locality, border)
        self.transform, self.ignore_label, self.border = transform, ignore_label, border
        self.class_names = [str(k) for k in range(num_classes)] if class_names is None else list(class_names)
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self._sums = np.zeros((3, 2, self.num_classes), np.int64)  # intersection, prediction, truth; weight, pixels

    def update(self, pred: Any, target: Any) -> None:
        """Adds one image.

        Args:
            pred: (H, W) integers, the predicted classes; NumPy or torch.
            target: (H, W) integers, classes or ``ignore_label``.

        Raises:
            UserError: maps that differ in size or are no (H, W) integers, or a target that is neither a class nor
                ignored. Nothing is added then.
        """
        pred, target = _label_map(pred, "prediction"), _label_map(target, "ground truth")
        if pred.shape != target.shape:
            raise UserError(
                f"prediction is {pred.shape}, ground truth {target.shape}: resize the prediction to the ground truth"
            )
        null_model = pixel_null_model(target, self.locality, ignore_label=self.ignore_label, border=self.border)
        weights = pixel_weights(null_model, self.transform)
        # A label below all classes stands for "nothing is ignored".
        ignore_label = np.iinfo(np.int64).min if self.ignore_label is None else self.ignore_label
        sums = np.zeros_like(self._sums)
        stranger = _add_image(pred.ravel(), target.ravel(), weights.ravel(), ignore_label, *sums)
        if stranger != ignore_label:
            raise UserError(
                f"ground truth has label {stranger}, expected 0 to {self.num_classes - 1} or {self.ignore_label} "
                "(ignored): map it to training labels first"
            )
        self._sums += sums

    def merge(self, other: "PNMIoU") -> None:
        """Adds the images another process has seen.

        Raises:
            UserError: the other one counts something else.
        """
        if self._settings() != other._settings():
            raise UserError(f"{other._settings()} came, expected {self._settings()}: only like results can be merged")
        self._sums += other._sums

    def _settings(self) -> dict[str, Any]:
        names = ("num_classes", "locality", "transform", "ignore_label", "border")
        return {name: getattr(self, name) for name in names}

    def compute(self) -> dict[str, float]:
        """``{"PNM-IoU", "mIoU", "PNM-IoU-<class>"..., "IoU-<class>"...}`` in 0..1.

        The means run over the classes that the ground truth has; the others are nan, and so are the means of none.
        """
        intersection, pred_area, target_area = self._sums
        with np.errstate(invalid="ignore"):
            iou = intersection / (pred_area + target_area - intersection)
        occurs = target_area[1] > 0
        iou[:, ~occurs] = np.nan
        result = {}
        for row, mean_name in ((0, "PNM-IoU"), (1, "mIoU")):
            result[mean_name] = float(iou[row, occurs].mean()) if occurs.any() else float("nan")
        for row, prefix in ((0, "PNM-IoU"), (1, "IoU")):
            result |= {f"{prefix}-{name}": float(iou[row, k]) for k, name in enumerate(self.class_names)}
        return result


def _label_map(labels: Any, side: str) -> np.ndarray:
    """An (H, W) NumPy array of signed integers, or of uint8 as it is."""
    if not isinstance(labels, np.ndarray) and hasattr(labels, "cpu"):
        labels = labels.cpu().numpy()
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iub":
        kind = f"{labels.shape} {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise UserError(f"{side} is {kind}, expected (H, W) integers: one image at a time, the argmax of its scores")
    return np.ascontiguousarray(labels if labels.dtype == np.uint8 else labels.astype(np.int64))
