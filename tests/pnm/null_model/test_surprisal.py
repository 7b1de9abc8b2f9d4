"""Surprisals of 16 bits give each of the three weights back."""

import math

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.null_model.pixel_weights import TRANSFORMS, pixel_weights
from pnm.null_model.stored.surprisal import MAX_LOCALITY, encode_surprisal, weight_table, weights_of_surprisal


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_weights_come_back_within_a_ten_thousandth(transform):
    pnm = np.concatenate([np.geomspace(MAX_LOCALITY**-2.0, 1, 200_001), 1 / np.arange(1, MAX_LOCALITY**2)])
    pnm = pnm.astype(np.float32)[None]
    encoded = encode_surprisal(pnm, np.zeros(pnm.shape, bool))
    weights = weights_of_surprisal(encoded, transform)
    exact = pixel_weights(pnm.astype(np.float64), transform)
    assert weights.dtype == np.float32 and weights.shape == pnm.shape
    assert np.abs(weights / exact - 1).max() < 1e-4
    assert (weights[pnm == 1] == 1).all()
    assert (weights_of_surprisal(encode_surprisal(pnm, np.ones(pnm.shape, bool)), transform) == 0).all()
    assert not weight_table(transform).flags.writeable


def test_surprisal_of_single_values():
    pnm = np.array([[1.0, 0.5, 0.1], [1 / 1225, MAX_LOCALITY**-2.0, 0.5]], np.float32)
    ignored = np.array([[False, False, False], [False, False, True]])
    expected = [[0, 3604, 11973], [round(5200 * math.log(1225)), round(10400 * math.log(MAX_LOCALITY)), 65535]]
    assert encode_surprisal(pnm, ignored).tolist() == expected
    assert encode_surprisal(np.empty((0, 3), np.float32), np.empty((0, 3), bool)).shape == (0, 3)


def test_what_cannot_be_encoded():
    no = np.zeros((1, 2), bool)
    for values in ([1, 0], [math.nan, 1], [1.5, 1], [1e-6, 1]):
        with pytest.raises(UserError, match=r"the null model must lie in \(.*, 1\] .* localities up to 545"):
            encode_surprisal(np.array([values], np.float32), no)
    for pnm, ignored in ((np.ones((1, 2)), no), (np.ones((1, 2), np.float32), no[0])):
        with pytest.raises(UserError, match=r"expected \(H, W\) float32 and bool"):
            encode_surprisal(pnm, ignored)
    with pytest.raises(UserError, match="the weight map is int32, expected uint16"):
        weights_of_surprisal(np.zeros((2, 2), np.int32))
    with pytest.raises(UserError, match="transform is 'exp', expected one of log, linear, inverse"):
        weights_of_surprisal(np.zeros((2, 2), np.uint16), "exp")
