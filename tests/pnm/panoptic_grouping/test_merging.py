"""Votes, stuff, other sizes, and what comes out when targets are taken for outputs."""

import numpy as np
import pytest

from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.panoptic_grouping.encoding import instance_fields
from pnm.panoptic_grouping.grouping import GroupingSettings, group_pixels
from pnm.panoptic_grouping.merging import (
    NO_CLASS,
    PixelVotes,
    instance_classes,
    merge_segments,
    resized_labels,
    small_stuff,
    without_holes,
)
from pnm.panoptic_grouping.panoptic_map import PanopticMap

EXACT = GroupingSettings(duplicate_iou=1.0)


def votes_of(things, probs, stuff):
    return PixelVotes(*(np.asarray(part) for part in (things, probs, stuff)))


def test_votes_against_a_loop():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        shape, things, count = tuple(rng.integers(1, 20, 2)), int(rng.integers(1, 5)), int(rng.integers(1, 6))
        labels = rng.integers(0, count + 1, shape).astype(np.int32)
        kinds, probs = rng.integers(0, things, shape), (rng.integers(1, 5, shape) / 4).astype(np.float32)
        classes = instance_classes(labels, count, votes_of(kinds, probs, kinds), things=things)
        for n in range(1, count + 1):
            mine = labels == n
            ranks = [((mine & (kinds == k)).sum(), probs[mine & (kinds == k)].sum(), -k) for k in range(things)]
            assert classes[n - 1] == max(range(things), key=ranks.__getitem__)


def test_ties_go_to_the_more_probable_class_then_to_the_lower():
    labels = np.ones((1, 4), np.int32)
    votes = [[2, 1, 1, 2]]
    assert instance_classes(labels, 1, votes_of(votes, np.float32([[0.9, 0.5, 0.5, 0.9]]), votes), things=3) == [2]
    assert instance_classes(labels, 1, votes_of(votes, np.float32([[0.5] * 4]), votes), things=3) == [1]
    assert instance_classes(labels, 1, votes_of(votes, np.float32([[np.nan] * 4]), votes), things=3) == [1]


def test_stuff_below_the_limit_but_never_the_largest():
    stuff = np.array([[5, 5, 5, 6, 7, 7, NO_CLASS]])
    assert small_stuff(np.zeros((1, 7), int), stuff, 2) == {6}
    assert small_stuff(np.zeros((1, 7), int), stuff, 100) == {6, 7}
    assert small_stuff(np.array([[1, 1, 1, 0, 0, 0, 0]]), stuff, 2) == {6}
    assert small_stuff(np.ones((1, 7), int), stuff, 2) == set()


def test_a_merged_map_numbers_what_has_pixels():
    labels = np.array([[1, 1, 3, 0, 0, 0]], np.int32)
    merged = merge_segments(labels, (4, 5, 6), np.array([[9, 9, 9, 9, 8, NO_CLASS]]))
    assert merged.labels.tolist() == [[1, 1, 2, 4, 3, 0]] and merged.classes == (4, 6, 8, 9)
    empty = merge_segments(np.zeros((2, 2), np.int32), (), np.full((2, 2), NO_CLASS))
    assert not empty.labels.any() and empty.classes == ()


def test_holes_take_the_nearest_segment_where_one_was():
    refined = PanopticMap(np.array([[1, 0, 0, 0, 0, 2]], np.int32), (0, 1))
    was = np.array([[True, True, True, False, True, True]])
    assert without_holes(refined, was).labels.tolist() == [[1, 1, 1, 0, 2, 2]]
    nothing = PanopticMap(np.zeros((1, 6), np.int32), ())
    assert not without_holes(nothing, was).labels.any()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_numbers_at_a_multiple_of_the_size(scale):
    rng = np.random.default_rng(scale)
    labels = rng.integers(0, 4, (7, 9)).astype(np.int32)
    larger = np.kron(labels, np.ones((scale, scale), np.int32))
    foreground = larger > 0
    assert (resized_labels(labels, foreground, labels > 0) == larger).all()


def test_new_foreground_takes_the_nearest_instance_and_ungrouped_foreground_none():
    labels = np.array([[1, 0, 0, 0, 0, 2]], np.int32)
    was = np.array([[True, False, False, False, True, True]])
    now = np.array([[True, True, True, True, True, False]])
    assert resized_labels(labels, now, was).tolist() == [[1, 1, 1, 2, 0, 0]]


def nearest_places(size, source):
    """Row and column that each of another size is nearest to, middles on middles."""
    return ((2 * np.arange(a) + 1) * b // (2 * a) for a, b in zip(size, source))


def regrouped(truth, things, *, size=None, settings=EXACT):
    """A map whose own fields and classes are taken for a network's output, at its own or another size."""
    table = np.array([NO_CLASS, *truth.classes])
    is_thing = np.array([False, *(k < things for k in truth.classes)])
    numbers = np.where(is_thing, np.cumsum(is_thing), 0).astype(np.int32)[truth.labels]
    fields, foreground = instance_fields(numbers, int(is_thing.sum()), 2.0), is_thing[truth.labels]
    grouped = group_pixels(fields, foreground, settings)
    rows, columns = nearest_places(size or truth.labels.shape, truth.labels.shape)
    large = table[truth.labels][rows][:, columns]
    labels = resized_labels(grouped.labels, foreground[rows][:, columns], foreground)
    votes = votes_of(np.clip(large, 0, things - 1), np.ones(large.shape, np.float32), np.maximum(large, things))
    classes = instance_classes(labels, len(grouped.centers), votes, things=things)
    return merge_segments(labels, classes.tolist(), np.where(large == NO_CLASS, NO_CLASS, votes.stuff))


def random_truth(seed):
    """Instances that cover each other over bands of stuff."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(24, 90, 2))
    labels = (1 + (np.arange(height) * 3 // height)[:, None]).repeat(width, 1).astype(np.int32)
    classes = [3, 4, 5]
    grid = np.mgrid[:height, :width]
    for _ in range(int(rng.integers(0, 9))):
        center, radii = rng.uniform(0, (height, width)), rng.uniform(4, 25, 2)
        inside = (((grid - center[:, None, None]) / radii[:, None, None]) ** 2).sum(0) < 1
        classes.append(int(rng.integers(0, 3)))
        labels[inside] = len(classes)
    labels[:, :2] = 0
    kept = [k for k in range(1, len(classes) + 1) if (labels == k).any()]
    table = np.zeros(len(classes) + 1, np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return PanopticMap(table[labels], tuple(classes[k - 1] for k in kept))


def distinct_centres(truth, things):
    """Whether no two instances have their rounded centres at one pixel, or at two that touch."""
    points = []
    for n, k in enumerate(truth.classes, 1):
        if k < things:
            points.append([int(np.floor(axis.mean() + 0.5)) for axis in np.nonzero(truth.labels == n)])
    return all(max(abs(a - c), abs(b - d)) > 3 for i, (a, b) in enumerate(points) for c, d in points[:i])


def quality(truth, refined, things, classes=6):
    score = PanopticQuality({k + 1: k < things for k in range(classes)})
    rows = [
        [{"id": n, "category_id": k + 1, "iscrowd": 0} for n, k in enumerate(some.classes, 1)]
        for some in (truth, refined)
    ]
    score.update(truth.labels.astype(np.int64), rows[0], refined.labels.astype(np.int64), rows[1])
    return score


def test_targets_as_outputs_give_the_map_back():
    checked = 0
    for seed in range(40):
        truth = random_truth(seed)
        if distinct_centres(truth, 3):
            checked += 1
            refined = regrouped(truth, 3)
            number_of = {n: refined.labels[truth.labels == n] for n in range(1, len(truth.classes) + 1)}
            assert all(len(set(numbers.tolist())) == 1 for numbers in number_of.values())
            assert sorted(refined.classes) == sorted(truth.classes)
            assert (refined.labels == 0).sum() == (truth.labels == 0).sum()
    assert checked > 20


@pytest.mark.parametrize("size", [(61, 83), (150, 200), (31, 47)])
def test_targets_at_another_size(size):
    for seed in range(12):
        truth = random_truth(seed)
        if distinct_centres(truth, 3):
            rows, columns = nearest_places(size, truth.labels.shape)
            wanted = PanopticMap(truth.labels[rows][:, columns], truth.classes)
            score = quality(wanted, regrouped(truth, 3, size=size), 3)
            assert score.compute().means["PQ"] > 0.95
