"""How many masks and segments a run says that it has changed."""

import numpy as np

from pnm.masks.crops import EMPTY, MaskCrop, paste
from pnm.predictions import Objects, Partition
from pnm.predictions.change_counts import ChangeCount, changes_of

ONE, OTHER = (MaskCrop(np.ones((2, 3), np.bool_), 1, left) for left in (1, 4))


def test_masks_are_counted_whose_pixels_differ():
    coarse = Objects((9, 12), (ONE, OTHER, EMPTY), (1.0,) * 3, (0,) * 3)
    larger = MaskCrop(np.pad(ONE.pixels, 1), 0, 0)  # the same pixels in a larger rectangle
    assert changes_of(coarse, [larger, ONE, EMPTY], "a") == ChangeCount(1, masks=3, changed=1)
    assert changes_of(coarse, [paste(OTHER, 9, 12), OTHER, EMPTY], "a").changed == 1
    nothing = Objects((0, 0), (), (), ())
    assert changes_of(nothing, [], "a") == ChangeCount(1)


def test_segments_are_counted_that_lost_took_or_are_gone():
    coarse = Partition(np.array([[1, 1, 2, 3, 0]]), (1, 2, 3, 7), (1, 2, 3, 7))
    assert changes_of(coarse, np.array([[1, 2, 2, 3, 0]]), "a") == ChangeCount(1, segments=3, changed=2)
    assert changes_of(coarse, np.array([[1, 1, 2, 3, 3]]), "a").changed == 1
    anew = Partition(np.array([[1, 1, 8, 8, 0]]), (1, 8), (1, 2))
    assert changes_of(coarse, anew, "a").changed == 2


def test_in_words():
    count = ChangeCount(2, masks=5, changed=1).plus(ChangeCount(1, masks=2, changed=2))
    assert count.told(3) == "3 of 7 masks changed"
    assert count.told(9) == "3 of 7 masks changed in the 3 images of this run"
    assert ChangeCount(1, segments=4).told(1) == "0 of 4 segments changed"
