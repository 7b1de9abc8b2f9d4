"""Labels of resized logits against torch, and against a loop where the image covers a part of the grid."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pnm.errors import UserError
from pnm.panoptic_fusion.stuff import resized_argmax

MARGIN = 1e-4  # between the two best classes: below it rounding decides


def random_logits(rng, kinds, height, width, smooth):
    """Noise, or large patches with little noise, as networks give."""
    if not smooth:
        return rng.normal(0, 1, (kinds, height, width)).astype(np.float32)
    coarse = torch.from_numpy(rng.normal(0, 4, (1, kinds, 3, 4)).astype(np.float32))
    patches = F.interpolate(coarse, size=(height, width), mode="bicubic")[0].numpy()
    return (patches + rng.normal(0, 0.05, patches.shape)).astype(np.float32)


def interpolated(logits, source_size, size):
    """(K, H, W) float64, pixel by pixel."""
    kinds, height, width = logits.shape
    values = np.empty((kinds, *size))
    for y in range(size[0]):
        row = min(max((y + 0.5) * source_size[0] / size[0] - 0.5, 0), height - 1)
        for x in range(size[1]):
            column = min(max((x + 0.5) * source_size[1] / size[1] - 0.5, 0), width - 1)
            top, left = int(row), int(column)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper, lower = (
                logits[:, i, left] * (1 - column + left) + logits[:, i, right] * (column - left) for i in (top, bottom)
            )
            values[:, y, x] = upper * (1 - row + top) + lower * (row - top)
    return values


def check_equal(labels, values):
    ranked = np.sort(values, axis=0)
    is_clear = ranked[-1] - ranked[-2] > MARGIN if len(values) > 1 else np.ones(labels.shape, bool)
    assert labels.shape == values.shape[1:]
    assert (labels == values.argmax(0))[is_clear].all()
    assert is_clear.mean() > 0.9


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("size", [(80, 120), (160, 240), (20, 30), (47, 91), (13, 5), (1, 1), (23, 200)])
def test_equals_torch(size, smooth):
    rng = np.random.default_rng(size[1])
    for kinds in (1, 2, 19, 54):
        logits = random_logits(rng, kinds, 20, 30, smooth)
        wanted = F.interpolate(torch.from_numpy(logits)[None], size=size, mode="bilinear", align_corners=False)[0]
        labels = resized_argmax(logits, (20, 30), size)
        assert labels.dtype == np.uint8
        check_equal(labels, wanted.numpy())


@pytest.mark.parametrize("smooth", [False, True])
def test_a_part_of_the_grid_against_a_loop(smooth):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        kinds, height, width = (int(n) for n in rng.integers(1, 12, 3))
        logits = random_logits(rng, kinds, height, width, smooth)
        source = tuple(float(n) for n in rng.uniform(0.3, 1, 2) * (height, width))
        size = tuple(int(n) for n in rng.integers(1, 40, 2))
        values, labels = interpolated(logits, source, size), resized_argmax(logits, source, size)
        ranked = np.sort(values, axis=0)
        is_clear = ranked[-1] - ranked[-2] > MARGIN if kinds > 1 else np.ones(size, bool)
        assert (labels == values.argmax(0))[is_clear].all()


def test_the_size_of_the_grid_gives_its_own_classes():
    logits = np.random.default_rng(0).normal(0, 1, (7, 13, 17)).astype(np.float32)
    before = logits.copy()
    assert (resized_argmax(logits, (13, 17), (13, 17)) == logits.argmax(0)).all()
    assert (resized_argmax(logits, (9, 11), (9, 11)) == logits.argmax(0)[:9, :11]).all()
    assert (logits == before).all()


def test_equal_classes_give_the_lowest():
    logits = np.random.default_rng(0).normal(0, 1, (5, 6, 8)).astype(np.float32)
    twice = np.concatenate((logits, logits))
    assert (resized_argmax(twice, (6, 7.5), (31, 33)) == resized_argmax(logits, (6, 7.5), (31, 33))).all()
    assert not resized_argmax(np.zeros((4, 3, 3), np.float32), (3, 3), (9, 9)).any()


def test_many_classes_have_wide_labels():
    logits = np.zeros((300, 2, 2), np.float32)
    logits[299, :, 1] = 1
    labels = resized_argmax(logits, (2, 2), (2, 2))
    assert labels.dtype == np.int16 and labels.tolist() == [[0, 299]] * 2


def test_numbers_that_are_none_stay_labels():
    logits = np.random.default_rng(0).normal(0, 1, (5, 6, 8)).astype(np.float32)
    logits[2, 3, 3], logits[:, 1, 1], logits[4] = np.nan, np.inf, -np.inf
    assert (resized_argmax(logits, (6, 8), (24, 32)) < 5).all()


def test_errors():
    logits = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(UserError, match=r"expected \(K, h, w\)"):
        resized_argmax(logits[0], (4, 5), (8, 8))
    with pytest.raises(UserError, match="none 0"):
        resized_argmax(logits, (4, 5), (0, 8))
    with pytest.raises(UserError, match="expected a part of it"):
        resized_argmax(logits, (4, 5.5), (8, 8))
