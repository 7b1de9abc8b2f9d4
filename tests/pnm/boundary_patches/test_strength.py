"""A pixel changes only where the other label is probable enough: masks, partitions, confidence."""

import numpy as np
import pytest

from pnm.boundary_patches.reassembly import reassemble, reassemble_partition, reassembled
from pnm.errors import UserError
from pnm.masks.crops import MaskCrop, paste

SIZE = 12


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mask, corners of patches that overlap, and probabilities."""
    rng = np.random.default_rng(seed)
    mask = rng.random((SIZE, SIZE)) > 0.5
    corners = rng.integers(0, SIZE - 5, (6, 2)).astype(np.int32)
    return mask, corners, rng.random((6, 6, 6)).astype(np.float32)


def averages(corners: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE), NaN where no patch is."""
    sums, counts = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for (y, x), patch in zip(corners, foreground):
        sums[y : y + 6, x : x + 6] += patch
        counts[y : y + 6, x : x + 6] += 1
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


@pytest.mark.parametrize("least", [0.5, 0.6, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_masks_as_a_loop_over_pixels_has_them(seed, least):
    mask, corners, foreground = scene(seed)
    average = averages(corners, foreground)
    other = np.where(mask, 1 - average, average)
    changes = np.nan_to_num(other, nan=0) > least
    found = reassembled(MaskCrop(mask, 0, 0), corners, foreground, SIZE, SIZE, least)
    assert np.array_equal(paste(found.crop, SIZE, SIZE), mask ^ changes)
    assert found.changed == changes.sum()
    assert found.confidence == pytest.approx(other[changes].mean() if changes.any() else 1.0, abs=1e-5)


def test_one_half_is_the_likelier_label():
    mask, corners, foreground = scene(9)
    crop = MaskCrop(mask, 0, 0)
    found = reassembled(crop, corners, foreground, SIZE, SIZE)
    assert np.array_equal(found.crop.pixels, reassemble(crop, corners, foreground, SIZE, SIZE).pixels)


@pytest.mark.parametrize("least", [0.5, 0.7, 0.9, 1.0])
def test_a_partition_stays_one_and_moves_only_what_is_claimed(least):
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 4, (SIZE, SIZE))
    patches = [(scene(k)[1], scene(k)[2]) for k in range(3)]
    found = reassemble_partition(labels, [1, 2, 3], patches, least)
    claims = np.stack([averages(*of_one) for of_one in patches])
    moved = found != labels
    rows, columns = np.nonzero(moved)
    assert set(np.unique(found)) <= {1, 2, 3}
    taken = claims[found[rows, columns] - 1, rows, columns]
    own = claims[labels[rows, columns] - 1, rows, columns]
    assert (taken > least).all() and (taken > own).all()
    whole = reassemble_partition(labels, [1, 2, 3], patches)
    assert moved.sum() <= (whole != labels).sum()
    if least == 1:
        assert not moved.any()


@pytest.mark.parametrize("least", [0.4, 1.1, True])
def test_other_probabilities_are_told(least):
    mask, corners, foreground = scene(0)
    with pytest.raises(UserError, match="the least probability of a change is"):
        reassembled(MaskCrop(mask, 0, 0), corners, foreground, SIZE, SIZE, least)
    with pytest.raises(UserError, match=r"expected 0.5 to 1 \(nothing changes\)"):
        reassemble_partition(mask.astype(int), [0], [(corners, foreground)], least)
