"""PNM IoU against plain sums, its limiting cases, and the paper's series of ever sharper triangles."""

import math
import pickle

import numpy as np
import pytest
import torch

from pnm.errors import UserError
from pnm.metrics.semantic_metrics import SemanticMetrics
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights

CLASSES = 4


def random_images(seed=0, number=6):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        shape = tuple(rng.integers(1, 40, size=2))
        target = rng.integers(0, CLASSES - 1, shape).astype(np.uint8)  # the last class has no ground truth
        pred = np.where(rng.random(shape) < 0.7, target, rng.integers(0, CLASSES, shape)).astype(np.int64)
        pred[rng.random(shape) < 0.02] = 255
        target[rng.random(shape) < 0.1] = 255
        yield pred, target


def brute_force(images, locality, transform):
    """{class: (PNM IoU, IoU)} of the classes in the ground truth, Eq. 7 and 8 pixel by pixel."""
    sums = np.zeros((CLASSES, 4))
    seen = set()
    for pred, target in images:
        weights = pixel_weights(pixel_null_model(target, locality).astype(np.float64), transform)
        for p, t, w in zip(pred.ravel().tolist(), target.ravel().tolist(), weights.ravel().tolist()):
            if t == 255:
                continue
            seen.add(t)
            for k in range(CLASSES):
                sums[k] += np.array([w, w, 1, 1]) * [p == t == k, k in (p, t), p == t == k, k in (p, t)]
    return {k: (sums[k, 0] / sums[k, 1], sums[k, 2] / sums[k, 3]) for k in sorted(seen)}


def pnm_iou(num_classes, **options):
    return SemanticMetrics(num_classes, metrics=("IoU", "PNM-IoU"), **options)


def evaluate(images, **options):
    metric = pnm_iou(CLASSES, **options)
    for pred, target in images:
        metric.update(pred, target)
    return metric


@pytest.mark.parametrize("transform", ["log", "linear", "inverse"])
@pytest.mark.parametrize("locality", [1, 7, 35])
def test_equals_brute_force(locality, transform):
    images = list(random_images())
    result = evaluate(images, locality=locality, transform=transform).compute()
    expected = brute_force(images, locality, transform)
    assert len(expected) == CLASSES - 1
    for k, (weighted, plain) in expected.items():
        assert math.isclose(result[f"PNM-IoU-{k}"], weighted, rel_tol=1e-6)
        assert math.isclose(result[f"IoU-{k}"], plain, rel_tol=1e-12)
    assert math.isclose(result["PNM-IoU"], np.mean([w for w, _ in expected.values()]), rel_tol=1e-6)
    assert math.isclose(result["mIoU"], np.mean([p for _, p in expected.values()]), rel_tol=1e-12)
    assert math.isnan(result[f"IoU-{CLASSES - 1}"]) and math.isnan(result[f"PNM-IoU-{CLASSES - 1}"])
    if locality == 1:
        assert result["PNM-IoU"] == result["mIoU"]


def test_merge_equals_one_process():
    images = list(random_images())
    whole = evaluate(images).compute()
    for split in (0, 1, 3, 6):
        first, second = evaluate(images[split:]), evaluate(images[:split])
        first.merge(pickle.loads(pickle.dumps(second)))
        assert first.compute() == pytest.approx(whole, rel=0, abs=0, nan_ok=True)


def test_perfect_is_one():
    images = [(target, target) for _, target in random_images()]
    result = evaluate(images).compute()
    assert result["PNM-IoU"] == result["mIoU"] == 1
    assert all(value == 1 for name, value in result.items() if not name.endswith(f"-{CLASSES - 1}"))


def test_all_wrong_is_zero():
    target = np.zeros((5, 5), np.uint8)
    result = evaluate([(target + 1, target)]).compute()
    assert result["PNM-IoU"] == result["mIoU"] == 0
    assert math.isnan(result["IoU-1"])


def test_ignored_pixels_change_nothing():
    rng = np.random.default_rng(0)
    images = list(random_images())
    before = evaluate(images).compute()
    noisy = [(np.where(t == 255, rng.integers(0, 300, t.shape), p), t) for p, t in images]
    assert evaluate(noisy).compute() == pytest.approx(before, rel=0, abs=0, nan_ok=True)


def test_empty_and_reset():
    metric = pnm_iou(2)
    assert {"PNM-IoU", "mIoU", "PNM-IoU-0", "PNM-IoU-1", "IoU-0", "IoU-1"} <= set(metric.compute())
    assert all(math.isnan(value) for value in metric.compute().values())
    metric.update(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8))
    metric.update(np.zeros((3, 4), np.uint8), np.full((3, 4), 255))
    assert math.isnan(metric.compute()["PNM-IoU"])
    metric.update(np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint8))
    assert metric.compute()["PNM-IoU"] == 1
    metric.reset()
    assert math.isnan(metric.compute()["PNM-IoU"])


def test_names_and_tensors():
    metric = pnm_iou(2, class_names=["road", "car"], ignore_label=None)
    target = torch.tensor([[0, 1], [0, 1]])
    metric.update(target, target)
    assert metric.compute()["PNM-IoU-car"] == metric.compute()["IoU-road"] == 1


def test_sharper_boundaries_lower_pnm_iou_only():
    """Fig. 6: a zigzag of 2**n teeth between two classes, cut by a straight prediction."""
    size, scores = 256, []
    y, x = np.mgrid[:size, :size] + 0.5
    for teeth in (1, 2, 4, 8):
        phase = (y / size * teeth) % 1
        target = (x / size > np.abs(2 * phase - 1)).astype(np.uint8)
        metric = pnm_iou(2)
        metric.update((x > size / 2).astype(np.uint8), target)
        scores.append(metric.compute())
    plain = [score["mIoU"] for score in scores]
    weighted = [score["PNM-IoU"] for score in scores]
    assert max(plain) - min(plain) < 0.01 and (np.diff(weighted) < -0.01).all()


def test_wrong_input():
    labels = np.zeros((4, 4), np.uint8)
    metric = pnm_iou(2)
    with pytest.raises(UserError, match="resize the prediction"):
        metric.update(labels[:3], labels)
    for wrong in (labels[None], labels.astype(float), [[0]]):
        with pytest.raises(UserError, match=r"prediction is .* expected \(H, W\) integers"):
            metric.update(wrong, labels)
    stranger = labels.copy()
    stranger[3, 3] = 2
    with pytest.raises(UserError, match="ground truth has label 2, expected 0 to 1 or 255"):
        metric.update(labels, stranger)
    assert math.isnan(metric.compute()["mIoU"])
    with pytest.raises(UserError, match="only like results can be merged"):
        metric.merge(pnm_iou(2, locality=5))
    for options in ({"num_classes": 0}, {"num_classes": 2, "locality": 4}, {"num_classes": 2, "transform": "root"}):
        with pytest.raises(UserError):
            pnm_iou(**options)
    with pytest.raises(UserError, match="3 class names came for 2 classes"):
        pnm_iou(2, class_names=["a", "b", "c"])
