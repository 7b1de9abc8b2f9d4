import numpy as np

from pnm.masks.smooth_noise import smooth_noise


def test_normalized_and_slow():
    field = smooth_noise(np.random.default_rng(0), 200, 150, 12.0)
    assert field.shape == (200, 150) and field.dtype == np.float32
    assert abs(field.std() - 1) < 1e-3 and abs(field.mean()) < 0.5
    neighbours = np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1]
    strangers = np.corrcoef(field[:, 48:].ravel(), field[:, :-48].ravel())[0, 1]
    assert neighbours > 0.97 and abs(strangers) < 0.3


def test_any_size():
    for size in ((1, 1), (3, 500), (14, 14)):
        assert smooth_noise(np.random.default_rng(1), *size, 1.0).shape == size
