"""Functions that know the truth, in the place of the universal refiner's network."""

import numpy as np


def oracle(seen):
    """Maps of what is white in the image, whatever the coarse mask says."""
    truth = seen.colors[::2, ::2, 0].astype(np.float32) / 255 + seen.colors[1::2, 1::2, 0].astype(np.float32) / 255
    return np.stack([truth * 10 - 10] * 2)


def oracle_of_side(seen):
    """As :func:`oracle`, of what is black where most of the coarse mask is."""
    is_white = seen.colors[..., 0][seen.coarse & seen.inside].mean() > 127
    return oracle(seen) if is_white else -oracle(seen)


def painted(mask):
    """(H, W, 3) uint8, white where the mask is."""
    return np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
