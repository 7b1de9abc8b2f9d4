"""Masks that end where no edge is: made of the mask, of its neighbours and of spots, and never of nothing."""

import numpy as np

from pnm.masks.crops import crop_array, crop_iou, paste
from pnm.masks.edgeless_masks import edgeless

SIZE = 120, 160


def disk(y, x, radius):
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
    return crop_array((yy - y) ** 2 + (xx - x) ** 2 <= radius**2)


def test_most_differ_and_all_keep_a_third():
    own, near, far = disk(60, 60, 25), disk(60, 90, 12), disk(10, 150, 6)
    differ = joined = 0
    for seed in range(60):
        made = edgeless(own, [near, far], SIZE, np.random.default_rng(seed))
        mask, before = paste(made, *SIZE), paste(own, *SIZE)
        assert np.count_nonzero(mask & before) >= 0.3 * np.count_nonzero(before)
        differ += crop_iou(made, own) < 0.999
        joined += np.count_nonzero(mask & paste(near, *SIZE)) > 0.9 * np.count_nonzero(paste(near, *SIZE))
        assert not (mask & paste(far, *SIZE)).any()  # it isn't near
    assert differ > 45 and joined > 15


def test_at_the_frame_and_of_few_pixels():
    for own in (disk(0, 0, 20), disk(119, 159, 1), disk(60, 80, 0)):
        for seed in range(20):
            made = edgeless(own, [], SIZE, np.random.default_rng(seed))
            assert made.pixels.any()
            h, w = made.pixels.shape
            assert made.top >= 0 and made.left >= 0 and made.top + h <= SIZE[0] and made.left + w <= SIZE[1]


def test_equal_seeds_equal_masks():
    a, b = (edgeless(disk(60, 60, 25), [disk(60, 90, 12)], SIZE, np.random.default_rng(4)) for _ in range(2))
    assert crop_iou(a, b) == 1
