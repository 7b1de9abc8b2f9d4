"""The null model: every implementation against a plain double loop, and what the paper says it must do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pnm.errors import UserError
from pnm.null_model import null_model
from pnm.null_model.batched import null_model_by_box_sums, pixel_null_model_torch
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import TRANSFORMS, pixel_weights

LOCALITIES = (1, 3, 5, 9, 35, 51, 201, 100001)
VALUES = {
    "uint8": [0, 1, 2, 3, 18, 254, 255],
    "int8": [-128, -1, 0, 1, 127],
    "uint16": [0, 255, 256, 65535],
    "int32": [-(2**31), -1, 0, 255, 11001, 2**31 - 1],
    "int64": [-(2**63), -1, 255, 2**40, 2**63 - 1],
    "uint64": [0, 255, 2**63, 2**64 - 1],
    "bool": [False, True],
}


def brute_force(labels, locality, ignore_label=255, border="valid"):
    height, width = labels.shape
    radius = locality // 2
    pnm = np.ones((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] == ignore_label:
                continue
            window = labels[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            valid = np.count_nonzero(window != ignore_label) if border == "valid" else locality**2
            pnm[y, x] = np.count_nonzero(window == labels[y, x]) / valid
    return pnm


def random_map(rng, values, block=None):
    """A map of up to 70 x 50 of squares of ``block`` pixels, sometimes with noise on them."""
    height, width = rng.integers(1, [71, 51])
    block = block or rng.choice([1, 2, 5, 12, 80])
    labels = rng.choice(values, size=(-(-height // block), -(-width // block)))
    labels = labels.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
    if rng.random() < 0.5:
        noise = rng.random(labels.shape) < rng.choice([0.02, 0.3])
        labels = np.where(noise, rng.choice(values, size=labels.shape), labels)
    return labels


def in_torch(labels, *arguments):
    return null_model_by_box_sums(torch.from_numpy(labels.astype(np.int64))[None], *arguments)[0].numpy()


@pytest.mark.parametrize("border", ["valid", "zero"])
@pytest.mark.parametrize("dtype", list(VALUES))
def test_equals_brute_force(dtype, border):
    rng = np.random.default_rng(0)
    for _ in range(25):
        labels = random_map(rng, np.array(VALUES[dtype], dtype))
        locality = int(rng.choice(LOCALITIES))
        ignore_label = rng.choice([255, 255, -1, 1, None])
        expected = brute_force(labels, locality, ignore_label, border)
        found = pixel_null_model(labels, locality, ignore_label=ignore_label, border=border)
        assert found.dtype == np.float32 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)
        if dtype != "uint64":
            np.testing.assert_array_equal(in_torch(labels, locality, ignore_label, border), expected)


@pytest.mark.parametrize("number", [2, 40, 200, 256, 3000])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_many_labels_equal_brute_force(number, dtype):
    if number > 256 and dtype == np.uint8:
        return
    rng = np.random.default_rng(number)
    for _ in range(12):
        labels = random_map(rng, np.arange(number, dtype=dtype), block=int(rng.choice([1, 1, 3])))
        locality = int(rng.choice(LOCALITIES))
        expected = brute_force(labels, locality)
        np.testing.assert_array_equal(pixel_null_model(labels, locality), expected)
        np.testing.assert_array_equal(in_torch(labels, locality, 255, "valid"), expected)


def by_integral_images(labels, locality):
    """For maps that are too large for the double loop: a summed-area table of int64 for each label."""
    height, width = labels.shape

    def box(mask):
        table = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        y, x = np.arange(height), np.arange(width)
        top, bottom = np.maximum(y - locality // 2, 0), np.minimum(y + locality // 2 + 1, height)
        left, right = np.maximum(x - locality // 2, 0)[None], np.minimum(x + locality // 2 + 1, width)[None]
        top, bottom = top[:, None], bottom[:, None]
        return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]

    valid = box(labels != 255)
    pnm = np.ones(labels.shape)
    for label in np.setdiff1d(labels, [255]):
        np.copyto(pnm, box(labels == label) / np.maximum(valid, 1), where=labels == label)
    return pnm.astype(np.float32)


@pytest.mark.parametrize("locality", [5, 35, 101, 255, 257, 1001])
@pytest.mark.parametrize("block", [1, 16])
def test_large_maps_and_threads(locality, block):
    """Counts above 2**16, several strips, bands of rows."""
    rng = np.random.default_rng(block)
    labels = rng.choice(np.array([0, 1, 2, 3, 77, 255], np.uint8), size=(-(-300 // block), -(-1100 // block)))
    labels = labels.repeat(block, axis=0).repeat(block, axis=1)[:300, :1100]
    expected = by_integral_images(labels, locality)
    for threads in (1, 3, None):
        np.testing.assert_array_equal(pixel_null_model(labels, locality, threads=threads), expected)


@pytest.mark.parametrize("block", [1, 2, 7])
def test_all_methods_agree(monkeypatch, block):
    """Whichever method the map's structure would choose, the others give the same bits."""
    labels = random_map(np.random.default_rng(3), np.arange(250, dtype=np.int32), block)
    expected = brute_force(labels, 9)
    np.testing.assert_array_equal(pixel_null_model(labels, 9), expected)
    monkeypatch.setattr(null_model, "_by_runs", lambda *_: False)
    np.testing.assert_array_equal(pixel_null_model(labels, 9), expected)


def test_more_labels_than_planes(monkeypatch):
    """Labels come and go down the map; slots are reused, then more are taken, then another method steps in."""
    labels = (np.arange(200)[:, None] // 2 * 3 + np.arange(60)[None] // 20).astype(np.int64)
    for locality in (3, 35, 401):
        np.testing.assert_array_equal(pixel_null_model(labels, locality), brute_force(labels, locality))
        with monkeypatch.context() as patch:
            patch.setattr(null_model, "MAX_SLOTS", 16)
            np.testing.assert_array_equal(pixel_null_model(labels, locality), brute_force(labels, locality))


def test_real_maps(real_data):
    from PIL import Image

    files = sorted((real_data / "cityscapes/gtFine").glob("*/*/*Ids.png"))
    assert files
    for file in files[:3]:
        labels = np.array(Image.open(file)).astype(np.int32)[200:700, :1200]
        np.testing.assert_array_equal(pixel_null_model(labels, 35), by_integral_images(labels, 35))


def test_any_layout_and_nothing_changed():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (40, 30)).astype(np.int32)
    for view in (labels.T, labels[::2, ::-1], labels.astype(">i4"), np.asfortranarray(labels)):
        before = view.copy()
        np.testing.assert_array_equal(pixel_null_model(view, 5), brute_force(view, 5))
        np.testing.assert_array_equal(view, before)
    frozen = labels.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(pixel_null_model(frozen, 5), brute_force(labels, 5))


def test_torch_batches():
    rng = np.random.default_rng(1)
    labels = np.stack([rng.integers(0, k, (28, 28)) for k in (1, 2, 7, 300)])
    expected = np.stack([brute_force(m, 5) for m in labels])
    for dtype in (torch.int64, torch.int32, torch.int16):
        found = pixel_null_model_torch(torch.from_numpy(labels).to(dtype), 5)
        assert found.dtype == torch.float32 and not found.requires_grad
        np.testing.assert_array_equal(found.numpy(), expected)
    large = torch.from_numpy(rng.integers(0, 5, (2, 128, 130)))
    np.testing.assert_array_equal(
        pixel_null_model_torch(large, 35).numpy(), null_model_by_box_sums(large, 35, 255, "valid").numpy()
    )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty(shape):
    assert pixel_null_model(np.zeros(shape, np.uint8), 5).shape == shape
    assert pixel_null_model_torch(torch.zeros((2, *shape), dtype=torch.uint8), 5).shape == (2, *shape)


label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3))
localities = st.integers(0, 20).map(lambda radius: 2 * radius + 1)
borders = st.sampled_from(["valid", "zero"])
few = settings(max_examples=60, deadline=None)


@few
@given(label_maps, localities, borders, st.permutations(range(4)))
def test_names_of_labels_do_not_matter(labels, locality, border, names):
    renamed = np.array(names, np.int64)[labels] * 1000 - 1500
    np.testing.assert_array_equal(
        pixel_null_model(labels, locality, border=border), pixel_null_model(renamed, locality, border=border)
    )


@few
@given(label_maps, localities, borders)
def test_flips_and_transposition(labels, locality, border):
    pnm = pixel_null_model(labels, locality, ignore_label=3, border=border)
    for move in (np.fliplr, np.flipud, np.transpose):
        moved = pixel_null_model(move(labels), locality, ignore_label=3, border=border)
        np.testing.assert_array_equal(moved, move(pnm))


@few
@given(label_maps, localities, borders)
def test_range_and_locality_one(labels, locality, border):
    pnm = pixel_null_model(labels, locality, border=border)
    assert (pnm > 0).all() and (pnm <= 1).all()
    for transform in ("log", "linear", "inverse"):
        weights = pixel_weights(pixel_null_model(labels, 1, border=border), transform)
        assert (weights == 1).all() and weights.dtype == np.float32
        assert (pixel_weights(pnm, transform) >= 1).all()


@few
@given(label_maps, localities)
def test_ignored_pixels_are_as_if_outside(labels, locality):
    framed = np.pad(labels, 3, constant_values=255)
    np.testing.assert_array_equal(pixel_null_model(framed, locality)[3:-3, 3:-3], pixel_null_model(labels, locality))
    assert (pixel_null_model(np.full_like(labels, 255), locality) == 1).all()


@few
@given(label_maps, localities)
def test_uniform_map_is_one(labels, locality):
    assert (pixel_null_model(np.full_like(labels, 7), locality) == 1).all()


@few
@given(label_maps)
def test_one_window_over_all(labels):
    """The expected accuracy of the random segmenter: labels' frequencies, where the window holds the whole map."""
    frequency = np.bincount(labels.ravel(), minlength=4) / labels.size
    np.testing.assert_array_equal(pixel_null_model(labels, 101), frequency.astype(np.float32)[labels])


def weights_of(labels, locality=9):
    return pixel_weights(pixel_null_model(labels, locality))


def test_p1_smaller_instances_weigh_more():
    labels = np.zeros((60, 120), np.uint8)
    labels[10:40, 10:40] = labels[20:24, 80:84] = 1
    weights = weights_of(labels)
    assert weights[20:24, 80:84].min() > weights[10:40, 10:40].max()


def test_p2_boundary_weighs_more_than_interior():
    labels = np.zeros((60, 60), np.uint8)
    labels[15:45, 15:45] = 1
    row = weights_of(labels)[30, 15:31]
    assert (np.diff(row) <= 0).all() and row[0] > row[5] == row[-1] == 1


def test_p3_corners_weigh_more_than_edges():
    labels = np.zeros((60, 60), np.uint8)
    labels[15:45, 15:45] = 1
    weights = weights_of(labels)
    assert weights[15, 15] == weights[15:45, 15:45].max() > weights[15, 30]
    assert math.isclose(weights[15, 15], 1 - math.log(25 / 81), rel_tol=1e-6)
    assert math.isclose(weights[15, 30], 1 - math.log(45 / 81), rel_tol=1e-6)


def test_p4_smaller_class_of_a_boundary_weighs_more():
    labels = np.zeros((60, 60), np.uint8)
    labels[:, 30:33] = 1
    weights = weights_of(labels)
    assert weights[30, 30] > weights[30, 29] and weights[30, 32] > weights[30, 33]


@pytest.mark.parametrize("transform, formula", [("log", lambda p: 1 - np.log(p)), ("linear", lambda p: 2 - p)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights(transform, formula, dtype):
    pnm = np.linspace(0.01, 1, 50).astype(dtype)
    before = pnm.copy()
    weights = pixel_weights(pnm, transform)
    assert weights.dtype == dtype
    np.testing.assert_allclose(weights, formula(pnm), rtol=1e-6)
    np.testing.assert_array_equal(pnm, before)
    as_tensor = pixel_weights(torch.from_numpy(pnm), transform)
    assert as_tensor.dtype == torch.from_numpy(pnm).dtype
    np.testing.assert_allclose(as_tensor.numpy(), weights, rtol=1e-6)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_weights_in_place_of_the_null_model(transform):
    for pnm in (np.linspace(0.01, 1, 50, dtype=np.float32), np.linspace(0.01, 1, 50)[::2], np.array(0.5)):
        expected = pixel_weights(pnm, transform)
        assert isinstance(expected, np.ndarray) and expected.dtype == pnm.dtype
        np.testing.assert_array_equal(pixel_weights(pnm.copy(), transform, overwrite_pnm=True), expected)


def test_inverse_weights():
    pnm = np.array([[0.25, 1.0]], np.float32)
    np.testing.assert_array_equal(pixel_weights(pnm, "inverse"), [[4, 1]])
    np.testing.assert_array_equal(pixel_weights(torch.from_numpy(pnm), "inverse").numpy(), [[4, 1]])


@pytest.mark.parametrize("locality", [0, -3, 4, 5.0, "5", True, None])
def test_wrong_locality(locality):
    for call in (
        lambda: pixel_null_model(np.zeros((3, 3), np.uint8), locality),
        lambda: pixel_null_model_torch(torch.zeros(1, 3, 3, dtype=torch.uint8), locality),
    ):
        with pytest.raises(UserError, match="locality is .* odd positive integer"):
            call()


def test_wrong_input():
    labels = np.zeros((3, 3), np.uint8)
    for wrong in (labels[0], labels[None], labels.astype(float), labels.astype(complex), labels.astype(object)):
        with pytest.raises(UserError, match=r"expected \(H, W\) integers"):
            pixel_null_model(wrong, 3)
    for wrong in (torch.zeros(3, 3, dtype=torch.long), torch.zeros(1, 3, 3)):
        with pytest.raises(UserError, match=r"expected \(N, H, W\) integers"):
            pixel_null_model_torch(wrong, 3)
    with pytest.raises(UserError, match="pixel_null_model_torch"):
        pixel_null_model(torch.zeros(3, 3, dtype=torch.long), 3)
    with pytest.raises(UserError, match="expected a tensor"):
        pixel_null_model_torch(labels, 3)
    with pytest.raises(UserError, match="border is 'mirror', expected one of valid, zero"):
        pixel_null_model(labels, 3, border="mirror")
    with pytest.raises(UserError, match="threads is 0"):
        pixel_null_model(labels, 3, threads=0)
    with pytest.raises(UserError, match="transform is 'square', expected one of log, linear, inverse"):
        pixel_weights(labels.astype(np.float32), "square")
    for wrong in (labels, torch.zeros(3, dtype=torch.long), [1.0]):
        with pytest.raises(UserError, match="expected a floating array"):
            pixel_weights(wrong)
