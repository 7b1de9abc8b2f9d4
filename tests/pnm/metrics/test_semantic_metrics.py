"""All semantic metrics against sums pixel by pixel, erosions and contours class by class, and limiting cases."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from pnm.errors import UserError
from pnm.metrics.semantic_metrics import METRICS, SemanticMetrics
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights

CLASSES, VOID = 5, 255
SMALL = {"locality": 7, "boundary_px": 2, "f_score_px": (1, 2, 0.05)}


def blocks(rng, shape, values):
    rows, columns = rng.integers(1, 9, size=2)
    few = rng.choice(values, (-(-shape[0] // rows), -(-shape[1] // columns)))
    return few.repeat(rows, axis=0).repeat(columns, axis=1)[: shape[0], : shape[1]]


def random_images(seed=0, number=5):
    """(prediction, ground truth): class 3 is never in the ground truth, 4 in neither."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        shape = tuple(rng.integers(1, 40, size=2))
        target = blocks(rng, shape, [0, 1, 2, 2, VOID]).astype(np.uint8)
        pred = np.where(target == VOID, 0, np.roll(target, 1, axis=1)).astype(np.int64)
        pred[rng.random(shape) < 0.05] = 3
        pred[rng.random(shape) < 0.02] = 77  # no class
        yield pred, target


def evaluate(images, **options):
    metric = SemanticMetrics(CLASSES, **{**SMALL, **options})
    for pred, target in images:
        metric.update(pred, target)
    return metric


def contour_of(mask):
    contour = np.zeros(mask.shape, bool)
    contour[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    contour[:-1] |= mask[:-1] != mask[1:]
    contour[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return contour


def f_of(pred_mask, true_mask, radius):
    """As the literature's programs do it, with a dilation by a disk."""
    a, b = contour_of(pred_mask), contour_of(true_mask)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = y**2 + x**2 <= radius**2
    precision = (a & binary_dilation(b, disk)).sum() / a.sum() if a.any() else float(not b.any())
    recall = (b & binary_dilation(a, disk)).sum() / b.sum() if b.any() else float(not a.any())
    if a.any() != b.any():
        return 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def brute_force(images, locality, boundary_px, f_score_px, classes=CLASSES, transform="log", f_score_absent=False):
    """Every metric with sums in floating point, class by class."""
    sums = {name: np.zeros((3, classes)) for name in ("IoU", "PNM-IoU", "Boundary-IoU")}
    f = {tolerance: np.zeros((classes, len(images))) for tolerance in f_score_px}
    for n, (pred, target) in enumerate(images):
        valid = target != VOID
        weights = pixel_weights(pixel_null_model(target, locality).astype(np.float64), transform)
        square = np.ones((2 * boundary_px + 1, 2 * boundary_px + 1))
        for k in range(classes):
            masks = [(labels == k) & valid for labels in (pred, target)]
            edges = [mask & ~binary_erosion(mask, square) for mask in masks]
            for name, (p, t), weight in (("IoU", masks, 1), ("PNM-IoU", masks, weights), ("Boundary-IoU", edges, 1)):
                sums[name][:, k] += [((p & t) * weight).sum(), ((p | t) * weight).sum(), (t * weight).sum()]
            for tolerance in f_score_px:
                radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*target.shape))
                is_there = f_score_absent or any(contour_of(mask).any() for mask in masks)
                f[tolerance][k, n] = f_of(*masks, radius) if is_there else np.nan
    truth = sums["IoU"][2]
    occurs = truth > 0
    result, by_class = {}, {}
    with np.errstate(invalid="ignore"):
        for name, (shared, union, _) in sums.items():
            by_class[name] = np.where(occurs, shared / union, np.nan)
            mean = "mIoU" if name == "IoU" else name
            result[mean] = by_class[name][occurs].mean()
            result[f"{mean}-gt-or-pred"] = (shared[union > 0] / union[union > 0]).mean()
        shared = sums["IoU"][0]
        by_class["ACC"] = shared / truth
    result["fwIoU"] = (by_class["IoU"] * truth)[occurs].sum() / truth.sum()
    result["mACC"], result["pACC"] = by_class["ACC"][occurs].mean(), shared.sum() / truth.sum()
    for tolerance in f_score_px:
        name = f"Boundary-F-{tolerance}" + ("px" if tolerance >= 1 else "")
        by_class[name] = np.array(
            [np.mean(row[~np.isnan(row)]) if not np.isnan(row).all() else np.nan for row in f[tolerance]]
        )
        result[name] = np.mean(by_class[name][~np.isnan(by_class[name])])
    return result | {f"{name}-{k}": row[k] for name, row in by_class.items() for k in range(classes)}


def assert_same(result, expected, tolerance=0.0):
    assert result == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("f_score_absent", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_equals_brute_force(seed, f_score_absent):
    images, option = list(random_images(seed)), {"f_score_absent": f_score_absent}
    assert_same(evaluate(images, **option).compute(), brute_force(images, **SMALL, **option), 2e-7)


@pytest.mark.parametrize("transform", ["linear", "inverse"])
def test_other_weights(transform):
    images = list(random_images())
    result = evaluate(images, transform=transform).compute()
    assert_same(result, brute_force(images, **SMALL, transform=transform), 2e-7)


def test_more_classes_than_a_byte_holds():
    pred = np.arange(400).reshape(20, 20).repeat(3, axis=0).repeat(3, axis=1)
    target = np.roll(pred, 1, axis=0)
    target[target == VOID] = 0
    metric = SemanticMetrics(400, **SMALL)
    metric.update(pred, target)
    assert_same(metric.compute(), brute_force([(pred, target)], **SMALL, classes=400), 2e-7)


def colours_of_voc():
    """{(R, G, B): class}: the bits of the class number, spread over the three channels from the highest bit down."""
    bits = (np.arange(21)[:, None] >> np.arange(6)) & 1
    colors = [tuple(int(b[c] << 7) + int(b[c + 3] << 6) for c in range(3)) for b in bits]
    return {color: k for k, color in enumerate(colors)} | {(224, 224, 192): VOID}


def deeplab_images(real_data):
    for name in ("1", "23", "114"):
        maps = []
        for side in ("pred", "target"):
            with Image.open(real_data / f"predictions/voc_deeplabv3plus/{name}_{side}.png") as image:
                rgb = np.array(image.convert("RGB"))
            labels = np.full(rgb.shape[:2], -1)
            for color, k in colours_of_voc().items():
                labels[(rgb == color).all(axis=-1)] = k
            assert (labels >= 0).all()
            maps.append(labels)
        yield tuple(maps)


def test_real_predictions(real_data):
    images = list(deeplab_images(real_data))
    metric = SemanticMetrics(21)
    for pred, target in images:
        metric.update(pred, target)
    result = metric.compute()
    assert_same(result, brute_force(images, 35, boundary_px=15, f_score_px=(1, 2, 3), classes=21), 2e-6)
    assert 0.9 < result["mIoU"] < 1 and result["PNM-IoU"] < result["mIoU"] and result["Boundary-IoU"] < result["mIoU"]
    assert result["Boundary-F-1px"] < result["Boundary-F-2px"] < result["Boundary-F-3px"] < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_perfect_is_one(seed, f_score_absent):
    images = [(target, target) for _, target in random_images(seed)]
    result = evaluate(images, f_score_absent=f_score_absent).compute()
    assert set(result.values()) <= {1.0} | {v for v in result.values() if math.isnan(v)}
    assert all(math.isnan(v) for name, v in result.items() if name.endswith("IoU-4"))


def test_all_wrong_is_zero():
    target = blocks(np.random.default_rng(0), (40, 40), [0, 1, 2]).astype(np.uint8)
    result = evaluate([((target + 1) % 3, target)]).compute()
    either = [f"{name}-gt-or-pred" for name in ("mIoU", "PNM-IoU", "Boundary-IoU")]
    for name in (*either, "mIoU", "fwIoU", "mACC", "pACC", "PNM-IoU", "Boundary-IoU", "IoU-2", "ACC-0"):
        assert result[name] == 0
    nothing = evaluate([(np.full_like(target, 77), target)], f_score_absent=False).compute()
    assert {value for value in nothing.values() if not math.isnan(value)} == {0.0}


def test_a_class_that_is_only_predicted_counts_in_one_convention():
    """Eq. 8 by hand: of six pixels of class 0 one is taken for class 1, which the image doesn't have."""
    target = np.zeros((2, 3), np.uint8)
    pred = target.copy()
    pred[0, 0] = 1
    result = evaluate([(pred, target)], locality=3).compute()
    assert result["PNM-IoU"] == result["mIoU"] == pytest.approx(5 / 6)  # every weight is 1
    assert result["PNM-IoU-gt-or-pred"] == result["mIoU-gt-or-pred"] == pytest.approx(5 / 12)
    assert math.isnan(result["PNM-IoU-1"])


def test_swapped_classes_share_their_contours():
    """A contour has no inside: the F-score alone doesn't see that two classes were taken for each other."""
    target = np.zeros((20, 20), np.uint8)
    target[5:15, 5:15] = 1
    result = evaluate([(1 - target, target)], f_score_absent=False).compute()
    assert result["mIoU"] == result["PNM-IoU"] == result["Boundary-IoU"] == 0
    assert result["Boundary-F-1px"] == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_ignored_pixels_never_matter(seed, f_score_void_borders):
    rng = np.random.default_rng(seed)
    images = list(random_images(seed))
    noisy = [(np.where(t == VOID, rng.integers(-3, 300, t.shape), p), t) for p, t in images]
    before = evaluate(images, f_score_void_borders=f_score_void_borders).compute()
    assert_same(evaluate(noisy, f_score_void_borders=f_score_void_borders).compute(), before)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=7, max_size=7), st.integers(0, 2**32 - 1))
def test_any_split_equals_one_process(parts, seed):
    images = list(random_images(seed, 7))
    whole = evaluate(images)
    split = [evaluate([im for im, k in zip(images, parts) if k == part]) for part in (1, 2, 0)]
    for other in split[1:]:
        split[0].merge(pickle.loads(pickle.dumps(other)))
    assert np.array_equal(split[0].statistics, whole.statistics)
    assert_same(split[0].compute(), whole.compute())


def test_statistics_of_images_give_each_image_and_any_sum():
    images = list(random_images(3, 6))
    metric = evaluate(images)
    statistics = np.stack([metric.image_statistics(*image) for image in images])
    assert statistics.shape == (6, len(metric.rows), CLASSES) and statistics.dtype == np.int64
    assert np.array_equal(statistics.sum(axis=0), metric.statistics)
    single = metric.compute_many(statistics)
    for k, image in enumerate(images):
        assert_same({name: values[k] for name, values in single.items()}, evaluate([image]).compute())
    drawn = [5, 0, 0, 2]
    resampled = metric.compute_many(statistics[drawn].sum(axis=0)[None])
    assert_same({name: value[0] for name, value in resampled.items()}, evaluate([images[k] for k in drawn]).compute())
    with pytest.raises(UserError, match=r"expected \(B, R, K\)"):
        metric.compute_many(metric.statistics)


def test_absent_classes_of_the_f_score():
    """Two images; class 1 is in one of them, and in the other one's prediction."""
    first, second = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    first[3:6, 3:6] = 1
    images = [(first, first), (second, second), (first, second)]
    counted, left_out = evaluate(images, f_score_absent=True).compute(), evaluate(images).compute()
    assert counted["Boundary-F-1px-1"] == pytest.approx(2 / 3)
    assert left_out["Boundary-F-1px-1"] == pytest.approx(1 / 2)
    assert counted["Boundary-F-1px-4"] == 1 and math.isnan(left_out["Boundary-F-1px-4"])
    assert counted["Boundary-F-1px"] == pytest.approx((2 * 2 / 3 + 3) / 5)


def test_subsets_give_the_same_values():
    images = list(random_images(2))
    everything = evaluate(images).compute()
    for metric in METRICS:
        some = evaluate(images, metrics=[metric]).compute()
        assert some and all("mIoU" in name or metric in name or "ACC" in name or name == "fwIoU" for name in some)
        assert_same(some, {name: everything[name] for name in some})
    assert list(evaluate(images, metrics="all").compute()) == list(everything)
    assert set(evaluate(images, metrics=METRICS[:1]).rows) == {"intersection", "prediction", "truth"}


def test_names_and_tensors():
    metric = SemanticMetrics(3, class_names=["road", "car", "car"], ignore_label=None, **SMALL)
    target = torch.tensor([[0, 1], [2, 1]])
    metric.update(target, target)
    result = metric.compute()
    assert result["IoU-road"] == result["Boundary-IoU-car 1"] == result["Boundary-F-0.05-car 2"] == 1


def test_empty_and_reset():
    metric = evaluate([])
    names = set(metric.compute())
    assert np.isnan(list(metric.compute().values())).all()
    metric.update(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8))
    assert np.isnan(list(metric.compute().values())).all()
    void = np.full((3, 4), VOID)
    metric.update(np.zeros((3, 4), np.uint8), void)
    result = metric.compute()
    assert math.isnan(result["mIoU"]) and math.isnan(result["pACC"]) and math.isnan(result["Boundary-IoU"])
    assert math.isnan(result["Boundary-F-1px"])
    metric.reset()
    assert np.isnan(list(metric.compute().values())).all() and set(metric.compute()) == names


def test_arguments_are_not_changed():
    pred, target = next(random_images())
    before = pred.copy(), target.copy()
    evaluate([(pred, target)])
    assert np.array_equal(pred, before[0]) and np.array_equal(target, before[1])


def test_wrong_input():
    metric = evaluate([])
    labels = np.zeros((4, 4), np.uint8)
    with pytest.raises(UserError, match="resize the prediction"):
        metric.update(labels[:3], labels)
    for wrong in (labels[None], labels.astype(float), [[0]]):
        with pytest.raises(UserError, match=r"prediction is .* expected \(H, W\) integers"):
            metric.update(wrong, labels)
    for dtype in (np.uint8, np.uint16, np.int16, np.int64):
        stranger = labels.astype(dtype)
        stranger[3, 3] = CLASSES
        with pytest.raises(UserError, match="ground truth has label 5, expected 0 to 4 or 255"):
            metric.update(labels, stranger)
    with pytest.raises(UserError, match="ground truth has label -1"):
        metric.update(labels, labels.astype(np.int32) - 1)
    assert not metric.statistics.any()
    with pytest.raises(UserError, match="only like results can be merged"):
        metric.merge(evaluate([], boundary_px=3))
    for options, message in (
        ({"num_classes": 0}, "num_classes is 0"),
        ({"locality": 4}, "locality is 4"),
        ({"transform": "root"}, "transform is 'root'"),
        ({"boundary_ratio": 20}, "boundary ratio is 20"),
        ({"boundary_px": 0}, "boundary's width is 0"),
        ({"boundary_ratio": None}, "boundary_ratio and boundary_px are None: give one"),
        ({"f_score_px": (1, 2.5)}, "tolerance of the boundary F-score is 2.5"),
        ({"f_score_px": (1, 1)}, "expected different ones"),
        ({"f_score_px": ()}, "at least one"),
        ({"metrics": ("mIoU",)}, "metrics are .* choose from IoU, PNM-IoU"),
        ({"class_names": ["a"]}, "1 class names came for 2 classes"),
    ):
        with pytest.raises(UserError, match=message):
            SemanticMetrics(**{"num_classes": 2, **options})
