"""Grouping against its rules written as loops, and what it does with fields of any kind."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.formats.label_png import read_panoptic_png
from pnm.panoptic_grouping.encoding import InstanceFields, instance_fields
from pnm.panoptic_grouping.grouping import GroupingSettings, group_pixels
from pnm.panoptic_grouping.nearest_centers import cell_lists
from pnm.panoptic_grouping.panoptic_map import numbered
from pnm.panoptic_grouping.peaks import find_peaks

sys.path.insert(0, str(Path(__file__).resolve().parent))
from brute_grouping import group, peaks  # noqa: E402

LETTER = GroupingSettings(center_box="center", duplicate_iou=1.0, unmatched="remove")
SETTINGS = {
    "default": GroupingSettings(),
    "letter": LETTER,
    "nearest centre": GroupingSettings(use_boxes=False),
    "few centres": GroupingSettings(most_centers=3, nms_kernel=3, duplicate_iou=0.3),
    "removed": GroupingSettings(unmatched="remove"),
}


def random_case(seed, levels=0):
    """Fields of random instances with noise, and a foreground; with ``levels``, coarse values, so that ties abound."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 90, 2))
    count = int(rng.integers(0, 12))
    numbers = np.zeros((height, width), np.int32)
    for n in range(1, count + 1):
        y, x = rng.integers(height), rng.integers(width)
        numbers[y : y + rng.integers(1, 40), x : x + rng.integers(1, 40)] = n
    fields = instance_fields(numbers, count, 2.0)
    noisy = [part + rng.normal(0, scale, part.shape) for part, scale in zip(fields, (0.05, 4, 3))]
    if levels:
        noisy = [np.round(noisy[0] * levels) / levels, np.round(noisy[1] / 4) * 4, np.round(noisy[2] / 4) * 4]
    foreground = (numbers > 0) ^ (rng.random((height, width)) < 0.1)
    return InstanceFields(*(part.astype(np.float32) for part in noisy)), foreground


def assert_equal_groups(fields, foreground, settings):
    labels, centers = group(fields, foreground, settings)
    result = group_pixels(fields, foreground, settings)
    assert result.centers.tolist() == [list(map(int, center)) for center in centers]
    np.testing.assert_array_equal(result.labels, labels)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("levels", [0, 4])
def test_same_as_the_loop(name, levels):
    for seed in range(12):
        assert_equal_groups(*random_case(seed, levels), SETTINGS[name])


def test_many_voters_are_asked_at_a_fixed_stride():
    fields, foreground = random_case(3)
    big = InstanceFields(*(np.tile(part, (1,) * (part.ndim - 2) + (3, 3)) for part in fields))
    assert_equal_groups(big, np.ones(big.heat.shape, bool), GroupingSettings(most_centers=2))


@pytest.mark.parametrize("levels", [3, 1000])
def test_peaks_are_those_of_the_loop(levels):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        heat = (rng.integers(0, levels, rng.integers(1, 40, 2)) / levels).astype(np.float32)
        for kernel in (3, 7):
            found, heights = find_peaks(heat, threshold=0.2, kernel_px=kernel, most=20)
            wanted = peaks(heat, 0.2, kernel, 20)
            assert [tuple(center) for center in found.tolist()] == wanted
            assert heights.tolist() == [heat[center] for center in wanted]


def test_equal_heights_are_all_found():
    """Detectron2's top-k takes none of 400 equal peaks, and 199 of 400 distinct ones."""
    heat = np.zeros((80, 80), np.float32)
    heat[::4, ::4] = 0.5
    assert len(find_peaks(heat, threshold=0.2, kernel_px=3, most=200)[0]) == 200
    heat[::4, ::4] += np.arange(400).reshape(20, 20) / 1000
    assert len(find_peaks(heat, threshold=0.2, kernel_px=3, most=200)[0]) == 200


def test_a_flat_map_is_one_centre():
    assert find_peaks(np.full((9, 9), 0.7, np.float32), threshold=0.2, kernel_px=3, most=9)[0].tolist() == [[0, 0]]


def test_lists_of_cells_hold_all_centres_in_order_of_their_least_distance():
    rng = np.random.default_rng(0)
    centers = np.stack([rng.integers(0, 50, 9), rng.integers(0, 70, 9)], 1)
    order, least = cell_lists(centers, 50, 70, 32)
    assert order.shape == (2, 3, 9) and (np.sort(order, -1) == np.arange(9)).all()
    assert (np.diff(least, axis=-1) >= 0).all()
    for place in rng.uniform(0, (50, 70), (200, 2)):
        cell = tuple(int(v) // 32 for v in place)
        away = ((place - centers[order[cell]]) ** 2).sum(1)
        assert (away >= least[cell]).all()


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_whatever_the_fields_hold_instances_come_out(part, value):
    fields, foreground = random_case(5)
    spoiled = [field.copy() for field in fields]
    spoiled[part][..., ::2, :] = value
    for settings in SETTINGS.values():
        result = group_pixels(InstanceFields(*spoiled), foreground, settings)
        assert result.labels.min() >= 0 and result.labels.max() <= len(result.centers)
        assert not result.labels[~foreground].any()


def test_the_order_of_equal_centres_is_by_place():
    heat = np.zeros((9, 30), np.float32)
    heat[4, [5, 15, 25]] = 0.9
    fields = InstanceFields(heat, np.zeros((2, 9, 30), np.float32), np.full((4, 9, 30), 30, np.float32))
    result = group_pixels(fields, np.ones((9, 30), bool), GroupingSettings(use_boxes=False))
    assert result.centers[:, 1].tolist() == [5, 15, 25]
    assert result.labels[4, 10] == 1  # as near to the second


def test_two_peaks_in_one_instance_are_joined_by_their_box():
    numbers = np.zeros((40, 60), np.int32)
    numbers[5:30, 5:50] = 1
    fields = instance_fields(numbers, 1, 3.0)
    fields.heat[10, 10] = 0.8
    fields.offsets[:, :, :25] = (np.array([10, 10])[:, None, None] - np.mgrid[:40, :25]).astype(np.float32)
    assert group_pixels(fields, numbers > 0, GroupingSettings()).labels.max() == 1
    assert group_pixels(fields, numbers > 0, GroupingSettings(use_boxes=False)).labels.max() == 2


def test_an_instance_around_its_centre_needs_votes():
    """A ring's centre lies on the background, where no box is learned: the paper's rule loses it."""
    numbers = np.zeros((41, 41), np.int32)
    grid = np.mgrid[:41, :41] - 20
    numbers[(np.hypot(*grid) < 18) & (np.hypot(*grid) > 12)] = 1
    fields = instance_fields(numbers, 1, 2.0)
    assert (group_pixels(fields, numbers > 0, GroupingSettings()).labels == numbers).all()
    assert not group_pixels(fields, numbers > 0, LETTER).labels.any()


def test_targets_give_all_instances_of_drawn_scenes_back(shapes_root):
    """Of the 405 of the quick start's 100 scenes, too; the paper's box, at the centre's pixel, loses 105 there."""
    right = dict.fromkeys(("votes", "center"), 0)
    for split in ("train", "val"):
        content = json.loads((shapes_root / f"shapes/annotations/panoptic_{split}.json").read_text())
        things = {c["id"] for c in content["categories"] if c["isthing"]}
        for annotation in content["annotations"]:
            ids = read_panoptic_png(shapes_root / f"shapes/panoptic_{split}" / annotation["file_name"])
            instances = [s["id"] for s in annotation["segments_info"] if s["category_id"] in things]
            numbers = numbered(ids, instances)
            fields = instance_fields(numbers, len(instances), 2.0)
            for center_box in right:
                settings = GroupingSettings(duplicate_iou=1.0, center_box=center_box, unmatched="remove")
                labels = group_pixels(fields, numbers > 0, settings).labels
                pairs = set(zip(numbers.ravel().tolist(), labels.ravel().tolist()))
                is_same = len(pairs) == len(instances) + 1 == len({label for _, label in pairs})
                right[center_box] += is_same
    assert right["votes"] == 18 and right["center"] < 9


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_turned_over_fields_give_turned_over_instances(axes):
    fields, foreground = random_case(7)
    signs = np.where([0 in axes, 1 in axes], -1, 1).astype(np.float32)[:, None, None]
    sides = [1, 0, 2, 3] if 0 in axes else [0, 1, 2, 3]
    sides = sides[:2] + ([3, 2] if 1 in axes else [2, 3])
    heat, mask = np.flip(fields.heat, axes), np.flip(foreground, axes)
    moved = tuple(axis + 1 for axis in axes)
    turned = InstanceFields(heat, np.flip(fields.offsets, moved) * signs, np.flip(fields.boxes, moved)[sides])
    settings = GroupingSettings(duplicate_iou=1.0)
    assert_same_instances(
        group_pixels(turned, mask, settings).labels, np.flip(group_pixels(fields, foreground, settings).labels, axes)
    )


def test_moved_fields_give_moved_instances():
    fields, foreground = random_case(9)
    padded = InstanceFields(*(np.pad(part, [(0, 0)] * (part.ndim - 2) + [(40, 3), (37, 5)]) for part in fields))
    mask = np.pad(foreground, [(40, 3), (37, 5)])
    height, width = foreground.shape
    moved = group_pixels(padded, mask, GroupingSettings()).labels[40 : 40 + height, 37 : 37 + width]
    labels = group_pixels(fields, foreground, GroupingSettings()).labels
    assert (moved != labels).mean() < 0.01  # an image's own size limits offsets and boxes


def assert_same_instances(labels, others):
    """The same pixels are together, whatever the numbers."""
    pairs = set(zip(labels.ravel().tolist(), others.ravel().tolist()))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_three_hundred_instances():
    numbers = np.kron(np.arange(1, 301, dtype=np.int32).reshape(15, 20), np.ones((12, 12), np.int32))
    fields = instance_fields(numbers, 300, 2.0)
    result = group_pixels(fields, numbers > 0, GroupingSettings(most_centers=400))
    assert_same_instances(result.labels, numbers)
    assert len(group_pixels(fields, numbers > 0, GroupingSettings()).centers) == 200


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 1), (33, 31)])
def test_small_images_without_and_with_an_instance(shape):
    empty = InstanceFields(np.zeros(shape, np.float32), np.zeros((2, *shape)), np.zeros((4, *shape)))
    for foreground in (np.zeros(shape, bool), np.ones(shape, bool)):
        assert not group_pixels(empty, foreground, GroupingSettings()).labels.any()
        whole = instance_fields(np.ones(shape, np.int32), 1)
        assert (group_pixels(whole, foreground, GroupingSettings()).labels == foreground).all()


@pytest.mark.parametrize("part", range(4))
def test_shapes_that_do_not_belong_together(part):
    fields, foreground = random_case(5)
    parts = [*fields, foreground]
    parts[part] = parts[part][..., :-1]
    with pytest.raises(UserError, match="heat, offsets and boxes are"):
        group_pixels(InstanceFields(*parts[:3]), parts[3], GroupingSettings())


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_no_pixel(shape):
    fields = instance_fields(np.zeros(shape, np.int32), 0)
    assert group_pixels(fields, np.zeros(shape, bool), GroupingSettings()).labels.shape == shape


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nms_kernel", 4, "an odd number, 3 to 999"),
        ("nms_kernel", 7.5, "an odd number, 3 to 999"),
        ("nms_kernel", 100001, "an odd number, 3 to 999"),
        ("most_centers", 0, "expected 1 to 5000"),
        ("most_centers", 10**6, "expected 1 to 5000"),
        ("threshold", float("nan"), "expected a number from 0 on"),
        ("box_margin", -1.0, "expected a number from 0 on"),
        ("duplicate_iou", 1.5, "expected 0 to 1"),
        ("match_iou", float("nan"), "expected 0 to 1"),
        ("center_box", "mean", "votes, center"),
        ("unmatched", "drop", "nearest, remove"),
    ],
)
def test_settings_that_cannot_be(key, value, message):
    with pytest.raises(UserError, match=message):
        replace(GroupingSettings(), **{key: value})
