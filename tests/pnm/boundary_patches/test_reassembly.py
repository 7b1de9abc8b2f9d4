"""Reassembly against averages taken pixel by pixel; with the truth as the network's output it gives the truth back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pnm.boundary_patches.extraction import boundary_patches, cut_patches, find_patches
from pnm.boundary_patches.reassembly import reassemble, reassemble_partition
from pnm.errors import UserError
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import crop_array, crop_segments, paste


def averages(shape, corners, foreground):
    """(H, W) mean over the patches of each pixel in float64, nan where there is none."""
    size = foreground.shape[1]
    found = np.full(shape, np.nan)
    for y in range(shape[0]):
        for x in range(shape[1]):
            inside = ((corners <= (y, x)) & ((y, x) < corners + size)).all(axis=1)
            values = [p[y - a, x - b] for (a, b), p in zip(corners[inside], foreground[inside])]
            if values:
                found[y, x] = np.mean(np.array(values, np.float64))
    return found


def eighths(rng, shape):
    """Probabilities whose sums are exact, 0.5 among them."""
    return (rng.integers(0, 9, shape) / 8).astype(np.float32)


def moved_blocks(rng, shape, labels):
    rows, columns = rng.integers(2, 9, size=2)
    few = rng.choice(labels, (-(-shape[0] // rows), -(-shape[1] // columns)))
    return few.repeat(rows, axis=0).repeat(columns, axis=1)[: shape[0], : shape[1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from([0.25, 0.55]))
def test_mask_equals_averages(seed, size, threshold):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 30, size=2))
    mask = moved_blocks(rng, shape, [False, True])
    corners = boundary_patches(mask, size, threshold)
    foreground = eighths(rng, (len(corners), size, size))
    mean = averages(shape, corners, foreground)
    found = paste(reassemble(crop_array(mask), corners, foreground, *shape), *shape)
    assert np.array_equal(found, np.where(np.isnan(mean), mask, mean > 0.5))


def claims_by_hand(labels, segments, patches):
    """Section 3.3 pixel by pixel."""
    out = labels.copy()
    means = [averages(labels.shape, *p) for p in patches]
    for y, x in np.ndindex(labels.shape):
        own = [k for k, s in enumerate(segments) if s == labels[y, x]]
        if own and np.isnan(means[own[0]][y, x]):
            continue
        ranks = [(m[y, x], k in own, -k) for k, m in enumerate(means) if m[y, x] > 0.5]
        if ranks:
            out[y, x] = segments[-max(ranks)[2]]
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from([0.25, 0.55]))
def test_partition_equals_claims_by_hand(seed, size, threshold):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 26, size=2))
    labels = moved_blocks(rng, shape, [0, 3, 4, 90000]).astype(np.int32)
    segments = [90000, 3, 4, 5]
    patches = []
    for crop in crop_segments(labels, segments):
        corners = find_patches(crop, *shape, size, threshold)
        patches.append((corners, eighths(rng, (len(corners), size, size))))
    before = labels.copy()
    found = reassemble_partition(labels, segments, patches)
    assert found.dtype == labels.dtype and np.array_equal(labels, before)
    assert np.array_equal(found, claims_by_hand(labels, segments, patches))
    assert set(np.unique(found)) <= set(np.unique(labels))


def oracle(coarse_crop, truth, size, threshold):
    corners = find_patches(coarse_crop, *truth.shape, size, threshold)
    return corners, cut_patches(crop_array(truth), corners, size).astype(np.float32)


def real_segments(real_data, suffix):
    labels = read_label_png(sorted((real_data / "cityscapes").rglob(f"*_{suffix}.png"))[0])
    coarse = np.roll(labels, (3, -2), axis=(0, 1))
    return labels, coarse


@pytest.mark.parametrize("threshold", [0.25, 0.55])
def test_oracle_gives_real_instances_back(real_data, threshold):
    labels, coarse = real_segments(real_data, "instanceIds")
    better = 0
    for segment in np.unique(coarse[coarse >= 1000]):
        truth, crop = labels == segment, crop_array(coarse == segment)
        corners, foreground = oracle(crop, truth, 64, threshold)
        found = paste(reassemble(crop, corners, foreground, *labels.shape), *labels.shape)
        band = np.zeros(labels.shape, bool)
        for y, x in corners:
            band[y : y + 64, x : x + 64] = True
        assert np.array_equal(found[band], truth[band])
        assert np.array_equal(found[~band], (coarse == segment)[~band])
        better += np.array_equal(found, truth)
    assert better > 5


@pytest.mark.parametrize("suffix", ["labelIds", "instanceIds"])  # as semantic and as panoptic maps
def test_oracle_gives_real_partitions_back(real_data, suffix):
    labels, coarse = real_segments(real_data, suffix)
    segments = np.unique(coarse).tolist()
    patches = [oracle(crop, labels == s, 64, 0.25) for s, crop in zip(segments, crop_segments(coarse, segments))]
    found = reassemble_partition(coarse, segments, patches)
    own = np.zeros(labels.shape, bool)  # pixels that patches of the true segment and of the coarse one cover
    for source in (labels, coarse):
        covered = np.zeros(labels.shape, bool)
        for segment, (corners, _) in zip(segments, patches):
            mine = np.zeros(labels.shape, bool)
            for y, x in corners:
                mine[y : y + 64, x : x + 64] = True
            covered |= mine & (source == segment)
        own = covered if source is labels else own & covered
    assert np.array_equal(found[own], labels[own])
    # Elsewhere nothing is made worse.
    assert ((found != labels) <= (coarse != labels)).all()
    assert (found != labels).mean() < 0.1 * (coarse != labels).mean()


def test_nothing_to_refine():
    empty = crop_array(np.zeros((5, 6), bool))
    nothing = np.zeros((0, 2), np.int32), np.zeros((0, 8, 8), np.float32)
    assert reassemble(empty, *nothing, 5, 6) is empty
    labels = np.zeros((5, 6), np.uint8)
    assert np.array_equal(reassemble_partition(labels, [0], [nothing]), labels)


def test_errors():
    crop = crop_array(np.ones((5, 6), bool))
    with pytest.raises(UserError, match=r"corners are \(1, 2\) int64, expected \(N, 2\) int32"):
        reassemble(crop, np.zeros((1, 2), np.int64), np.zeros((1, 8, 8), np.float32), 5, 6)
    with pytest.raises(UserError, match=r"probabilities are \(2, 8, 8\) float32, expected \(1, size, size\)"):
        reassemble(crop, np.zeros((1, 2), np.int32), np.zeros((2, 8, 8), np.float32), 5, 6)
