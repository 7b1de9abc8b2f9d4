"""Distances, directions and targets against brute force, closed forms, and the flipped and transposed image."""

import cv2
import numpy as np
import pytest

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION, bin_borders, bin_of, bin_steps, turned_bins
from pnm.interior_offsets.distances import FAR, label_distances, nearest_of_other_label
from pnm.interior_offsets.targets import IGNORED, offset_targets

TURNS = {"horizontal": lambda a: a[:, ::-1], "vertical": lambda a: a[::-1], "transposed": lambda a: a.T}
WAYS = [("gradient", 3), ("gradient", 5), ("gradient", 9), ("nearest", 5)]


def label_maps():
    """Noise and blocks of one to four labels, up to 24 px wide, of several types."""
    rng = np.random.default_rng(0)
    for n in range(40):
        height, width = rng.integers(1, 25, 2)
        labels = rng.integers(0, rng.integers(1, 5), (24, 24))
        if n % 2:
            labels = np.kron(labels[:6, :6], np.ones((4, 4), int))
        yield labels[:height, :width].astype([np.uint8, np.int32, np.uint16, np.int64][n % 4])


def brute_force(labels):
    """Squared distances to the nearest other label (inf without any), and the sum of the vectors to all such pixels."""
    squared, sums = np.full(labels.shape, np.inf), np.zeros((*labels.shape, 2))
    yx = np.stack(np.mgrid[: labels.shape[0], : labels.shape[1]], axis=-1)
    for place in np.ndindex(labels.shape):
        vectors = yx[labels != labels[place]] - np.array(place)
        if len(vectors):
            distances = (vectors**2).sum(1)
            squared[place] = distances.min()
            sums[place] = vectors[distances == distances.min()].sum(0)
    return squared, sums


def plain_bins(labels, direction, kernel, bins=8, width=5):
    """Boundary and bins by the definition, with no trick; -1 where a direction is on a border of bins or undefined."""
    squared, sums = brute_force(labels)
    boundary = squared < (width + 1) ** 2
    vectors = -sums
    if direction == "gradient":
        r = kernel // 2
        y, x = np.mgrid[-r : r + 1, -r : r + 1].astype(float)
        norm = np.where((y == 0) & (x == 0), 1, y**2 + x**2)
        for place in zip(*np.nonzero(boundary)):
            own = np.where(labels == labels[place], np.sqrt(squared), 0)
            window = np.pad(own, r, mode="edge")[place[0] : place[0] + 2 * r + 1, place[1] : place[1] + 2 * r + 1]
            vectors[place] = (window * y / norm).sum(), (window * x / norm).sum()
    turns = (np.degrees(np.arctan2(vectors[..., 0], vectors[..., 1])) + 180) / 360 * bins
    unsure = (np.abs(vectors).max(-1) < 1e-5) | (np.abs(turns % 1 - 0.5) < 1e-4)
    return boundary, np.where(unsure, -1, np.rint(turns).astype(int) % bins)


@pytest.mark.parametrize("labels", list(label_maps()), ids=lambda a: f"{a.shape}-{a.dtype}")
def test_distances_and_vectors_equal_brute_force(labels):
    squared, sums = brute_force(labels)
    assert np.array_equal(label_distances(labels), np.sqrt(squared).astype(np.float32))
    for reach in (1, 3, 6, 40):
        near = nearest_of_other_label(labels, reach, with_vectors=True)
        inside = squared <= reach**2
        assert np.array_equal(near.squared, np.where(inside, squared, FAR))
        assert np.array_equal(near.sum_yx, np.where(inside[..., None], sums, 0))
        assert np.array_equal(nearest_of_other_label(labels, reach).squared, near.squared)


def test_distances_of_one_label_equal_opencvs():
    """Whose transform is the distance to the nearest 0; its accuracy is 1e-5."""
    mask = np.zeros((70, 90), np.uint8)
    cv2.circle(mask, (40, 30), 22, 1, -1)
    cv2.line(mask, (0, 60), (89, 66), 1, 1)
    ours = label_distances(mask)
    np.testing.assert_allclose(
        ours[mask > 0], cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[mask > 0]
    )


@pytest.mark.parametrize(("direction", "kernel"), WAYS)
def test_targets_equal_brute_force(direction, kernel):
    compared = 0
    for bins in (8, 16):
        for labels in list(label_maps())[:24]:
            boundary, wanted = plain_bins(labels, direction, kernel, bins)
            targets = offset_targets(labels, bins=bins, direction=direction, kernel_px=kernel)
            assert np.array_equal(targets.boundary == 1, boundary) and set(np.unique(targets.boundary)) <= {0, 1}
            assert (targets.directions[~boundary] == NO_DIRECTION).all()
            sure = boundary & (wanted >= 0)
            assert np.array_equal(targets.directions[sure], wanted[sure])
            compared += sure.sum()
    assert compared > 4000


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("direction", "kernel"), WAYS)
def test_flips_and_transposition_turn_bins_exactly(direction, kernel, turn):
    for bins in (8, 16, 24):
        of_bin = np.concatenate([turned_bins(bins, turn), np.full(256 - bins, NO_DIRECTION)])
        for labels in label_maps():
            options = {"bins": bins, "direction": direction, "kernel_px": kernel, "ignore_label": 0}
            one, other = offset_targets(labels, **options), offset_targets(TURNS[turn](labels), **options)
            assert np.array_equal(TURNS[turn](one.boundary), other.boundary)
            assert np.array_equal(of_bin[TURNS[turn](one.directions)], other.directions)


@pytest.mark.parametrize(("direction", "kernel"), WAYS)
def test_a_pole_points_inwards_from_both_sides(direction, kernel):
    """Vertical edges point straight left and right, and the one column in the middle nowhere."""
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 20:27] = 1
    directions = offset_targets(labels, direction=direction, kernel_px=kernel).directions
    left, right, none = [0], [4], [NO_DIRECTION]
    inside = directions[:, 20:27]
    assert np.array_equal(inside, np.tile(right * 3 + none + left * 3, (40, 1)))
    assert np.array_equal(directions[:, 15:20], np.zeros((40, 5))) and np.array_equal(
        directions[:, 27:32], np.full((40, 5), 4)
    )


@pytest.mark.parametrize(("direction", "kernel"), WAYS)
def test_special_images(direction, kernel):
    options = {"direction": direction, "kernel_px": kernel}
    for shape in ((1, 1), (1, 30), (50, 40)):
        targets = offset_targets(np.full(shape, 7, np.uint8), **options)
        assert not targets.boundary.any() and (targets.directions == NO_DIRECTION).all()
        assert np.isinf(label_distances(np.full(shape, 7))).all()
    empty = offset_targets(np.zeros((0, 5), np.uint8), **options)
    assert empty.boundary.shape == empty.directions.shape == (0, 5)
    point = np.zeros((21, 21), np.uint8)
    point[10, 10] = 1
    targets = offset_targets(point, **options)
    assert targets.boundary[10, 10] == 1 and targets.directions[10, 10] == NO_DIRECTION
    assert targets.directions[10, 9] == 0 and targets.directions[9, 10] == 2 and targets.directions[11, 11] == 5
    corner = np.zeros((30, 30), np.uint8)  # an object that touches the frame has no edge there
    corner[:12, :12] = 1
    targets = offset_targets(corner, **options)
    assert not targets.boundary[:6, :6].any() and targets.boundary[0, 11] == 1 and targets.directions[0, 11] == 0


def test_void_is_another_label_and_ignored():
    labels = np.zeros((20, 30), np.int32)
    labels[:, 15:] = -1
    targets = offset_targets(labels, ignore_label=-1)
    assert (targets.boundary[:, 10:15] == 1).all() and (targets.directions[:, 10:15] == 0).all()
    assert (targets.boundary[:, 15:] == IGNORED).all() and (targets.directions[:, 15:] == NO_DIRECTION).all()


def test_bins_and_their_steps():
    # (dy, dx) of the public code's bins
    expected = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)]
    assert bin_steps(8).tolist() == [list(step) for step in expected]
    assert bin_steps(16, 2).tolist()[1] == [-1, -2] and np.abs(bin_steps(24, 5)).max(1).tolist() == [5] * 24
    rng = np.random.default_rng(0)
    for bins in (8, 16, 24):
        for y, x in rng.normal(size=(500, 2)):
            wanted = round((np.degrees(np.arctan2(y, x)) + 180) / (360 / bins)) % bins
            assert bin_of(y, x, bin_borders(bins)) == wanted
        for k, (y, x) in enumerate(bin_steps(bins, 50)):
            assert bin_of(float(y), float(x), bin_borders(bins)) == k


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bins": 12}, "directions have 12 bins, expected a multiple of 8"),
        ({"direction": "sobel"}, "direction is 'sobel', expected one of gradient, nearest"),
        ({"width_px": 0}, "0 px wide, expected at least 1"),
        ({"kernel_px": 4}, "kernel is 4 px wide, expected an odd number"),
        ({"width_px": 200}, "too wide"),
        ({"labels": np.zeros((3, 3))}, r"labels are \(3, 3\) float64, expected an \(H, W\) array of integers"),
        ({"labels": [[1]]}, "labels are list"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(UserError, match=message):
        offset_targets(**{"labels": np.zeros((3, 3), np.uint8), **change})
    with pytest.raises(UserError, match="reach_px is 121, expected 1 to 120"):
        nearest_of_other_label(np.zeros((3, 3), np.uint8), 121)
    with pytest.raises(UserError, match="turn is 'left'"):
        turned_bins(8, "left")
