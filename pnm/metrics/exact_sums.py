"""Sums over a pair of label maps by class, kept as whole numbers: any order of images and any split give the same bits.

Fractions are kept in fixed point. Null-model weights are float32 of at least 1, hence multiples of 2**-23 and exact;
up to 2**40 pixels' worth of weight fit. What is averaged, such as the IoU of a match or the F-score of an image, is
rounded to 2**-40 once.
"""

from typing import Any, NamedTuple

import numpy as np

from pnm.errors import UserError
from pnm.kernels import entry_kernel, kernel
from pnm.masks.pair_runs import run_ends
from pnm.masks.simd_lanes import LANES, lowest_bit

WEIGHT_SCALE = 2.0**23
_FLOAT32_SCALE = np.float32(WEIGHT_SCALE)
QUOTIENT_SCALE = 2.0**40
_DTYPES = (np.uint8, np.uint16, np.int32, np.int64)  # what kernels are compiled for, when such a map comes


class LabelPair(NamedTuple):
    """Ground truth and prediction of one image, (H, W) uint8, or a wider type if there are more than 254 classes.

    Classes are 0..K - 1. K means ignored, in both maps at the same pixels; K + 1 a prediction that is no class.
    """

    truth: np.ndarray
    pred: np.ndarray
    num_classes: int


def pair_labels(pred: Any, target: Any, num_classes: int, ignore_label: int | None) -> LabelPair:
    """Checks a pair of maps and makes ignored pixels equal.

    Args:
        pred: (H, W) integers, the predicted classes; NumPy or torch.
        target: (H, W) integers, classes or ``ignore_label``.

    Raises:
        UserError: maps that differ in size or are no (H, W) integers, or a target that is neither a class nor ignored.
    """
    pred, target = _label_maps(pred, target)
    dtype = np.uint8 if num_classes < 255 else np.uint16 if num_classes < 2**16 - 1 else np.uint32
    pair = LabelPair(np.empty(target.shape, dtype), np.empty(target.shape, dtype), num_classes)
    # A label below all classes stands for "nothing is ignored".
    ignored = np.iinfo(np.int64).min if ignore_label is None else ignore_label
    if _index_truth(target.reshape(-1), ignored, num_classes, pair.truth.reshape(-1)):
        stranger = target[(target != ignored) & ((target < 0) | (target >= num_classes))][0]
        raise UserError(
            f"ground truth has label {stranger}, expected 0 to {num_classes - 1} or {ignore_label} (ignored): "
            "map it to training labels first"
        )
    _index_prediction(pred.reshape(-1), pair.truth.reshape(-1), num_classes, pair.pred.reshape(-1))
    return pair


def pixel_sums(pred: Any, target: Any, num_classes: int, ignore_label: int | None) -> np.ndarray:
    """:func:`class_sums` of pixels alone; arguments and errors are those of :func:`pair_labels`.

    Maps of bytes are counted as they are.
    """
    pred, target = _label_maps(pred, target)
    if not pred.dtype == target.dtype == np.uint8:
        return class_sums(pair_labels(pred, target, num_classes, ignore_label))
    counted = np.zeros((256, 256), np.int64)
    _count_runs(target.reshape(-1), pred.reshape(-1), counted)
    if ignore_label is not None and 0 <= ignore_label < 256:
        counted[ignore_label] = 0
    if counted[num_classes:].any():
        return class_sums(pair_labels(pred, target, num_classes, ignore_label))  # which tells of the strange label
    return _sums_of_counts(counted, num_classes)


def _sums_of_counts(counted: np.ndarray, number: int) -> np.ndarray:
    """(3, K) intersection, prediction and truth of pixels counted by true and predicted label."""
    sums = np.zeros((3, number), np.int64)
    counted = counted[:number]
    shared, predicted = np.diagonal(counted)[:number], counted.sum(axis=0)[:number]
    sums[0, : len(shared)], sums[1, : len(predicted)], sums[2, : len(counted)] = shared, predicted, counted.sum(axis=1)
    return sums


def _label_maps(pred: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as :func:`_label_map` gives them; a UserError if they differ in size."""
    pred, target = _label_map(pred, "prediction"), _label_map(target, "ground truth")
    if pred.shape != target.shape:
        raise UserError(
            f"prediction is {pred.shape}, ground truth {target.shape}: resize the prediction to the ground truth"
        )
    return pred, target


def _label_map(labels: Any, side: str) -> np.ndarray:
    """A contiguous (H, W) NumPy array of one of ``_DTYPES``."""
    if not isinstance(labels, np.ndarray) and hasattr(labels, "cpu"):
        labels = labels.cpu().numpy()
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iub":
        kind = f"{labels.shape} {labels.dtype}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise UserError(f"{side} is {kind}, expected (H, W) integers: one image at a time, the argmax of its scores")
    return np.ascontiguousarray(labels if labels.dtype in _DTYPES else labels.astype(np.int64))


@entry_kernel
def _index_truth(labels: np.ndarray, ignored: int, number: int, index: np.ndarray) -> bool:
    """Writes 0..number - 1, or ``number`` where ignored; whether any label is neither."""
    strange = False
    for i in range(labels.size):
        label = np.int64(labels[i])
        strange |= (label != ignored) & ((label < 0) | (label >= number))
        index[i] = number if label == ignored else label
    return strange


@entry_kernel
def _index_prediction(labels: np.ndarray, truth: np.ndarray, number: int, index: np.ndarray) -> None:
    for i in range(labels.size):
        label = np.int64(labels[i])
        known = label if (label >= 0) & (label < number) else number + 1
        index[i] = number if truth[i] == number else known


@kernel
def _sums_of_run(
    first: int,
    end: int,
    weights: np.ndarray,
    truth_interior: np.ndarray,
    pred_interior: np.ndarray,
) -> tuple[int, int, int, int]:
    """Weight, pixels interior in the truth, in the prediction, in either."""
    weight = in_truth = in_pred = in_either = np.int64(0)
    if weights.size:
        for i in range(first, end):
            weight += np.int64(weights[i] * _FLOAT32_SCALE)
    if truth_interior.size:
        for i in range(first, end):
            in_truth += truth_interior[i]
            in_pred += pred_interior[i]
            in_either += truth_interior[i] | pred_interior[i]
    return weight, in_truth, in_pred, in_either


@kernel
def _add_run(sums: np.ndarray, t: int, p: int, length: int, amounts: tuple[int, int, int, int]) -> None:
    weight, in_truth, in_pred, in_either = amounts
    if t == p:
        sums[0, t] += length
        sums[3, t] += weight
        sums[6, t] += length - in_either
    if p < sums.shape[1]:
        sums[1, p] += length
        sums[4, p] += weight
        sums[7, p] += length - in_pred
    sums[2, t] += length
    sums[5, t] += weight
    sums[8, t] += length - in_truth


@entry_kernel
def _count_runs(truth: np.ndarray, pred: np.ndarray, confusion: np.ndarray) -> None:
    """Adds the pixels of each pair of labels to ``confusion``, truth first."""
    first = np.uint64(0)
    for x in range(np.uint64(1), np.uint64(truth.size + 1), np.uint64(LANES)):
        ends = run_ends(truth, pred, x)
        while ends != 0:
            end = x + np.uint64(lowest_bit(ends))
            confusion[np.uint64(truth[first]), np.uint64(pred[first])] += np.int64(end - first)
            first = end
            ends &= ends - np.uint32(1)


@entry_kernel
def _class_sums(
    truth: np.ndarray,
    pred: np.ndarray,
    weights: np.ndarray,
    truth_interior: np.ndarray,
    pred_interior: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Adds pixels, weight and boundary pixels to ``sums`` (9, K), see :func:`class_sums`."""
    number, first = sums.shape[1], np.uint64(0)
    for x in range(np.uint64(1), np.uint64(truth.size + 1), np.uint64(LANES)):
        ends = run_ends(truth, pred, x)
        while ends != 0:
            end = x + np.uint64(lowest_bit(ends))
            if truth[first] != number:
                amounts = _sums_of_run(first, end, weights, truth_interior, pred_interior)
                _add_run(sums, truth[first], pred[first], np.int64(end - first), amounts)
            first = end
            ends &= ends - np.uint32(1)


def class_sums(
    pair: LabelPair, weights: np.ndarray | None = None, interiors: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Intersections, predicted and true amounts of each class; ignored pixels count nowhere.

    Args:
        weights: (H, W) float32, at least 1.
        interiors: (H, W) bool each, interior pixels of truth and prediction.

    Returns:
        (3, 6 or 9, K) int64: intersection, prediction and truth in pixels, then in weight (2**-23) if there are
        weights, then in boundary pixels if there are interiors.
    """
    truth, pred, number = pair.truth.reshape(-1), pair.pred.reshape(-1), pair.num_classes
    if weights is None and interiors is None:
        confusion = np.zeros((number + 2, number + 2), np.int64)
        _count_runs(truth, pred, confusion)
        return _sums_of_counts(confusion, number)
    weight = np.empty(0, np.float32) if weights is None else weights.reshape(-1)
    flags = [np.empty(0, np.uint8)] * 2 if interiors is None else [m.view(np.uint8).reshape(-1) for m in interiors]
    sums = np.zeros((9, number), np.int64)
    _class_sums(truth, pred, weight, *flags, sums)
    return sums[np.repeat([True, weights is not None, interiors is not None], 3)]


def quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """nan where both are 0."""
    with np.errstate(invalid="ignore"):
        return numerator / denominator


def mean_over_classes(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean of the chosen ones of (B, K) values in each row; nan if there are none."""
    return quotient(np.where(chosen, values, 0.0).sum(axis=1), chosen.sum(axis=1))
