"""Degraded maps are partitions, wrong as often as promised, and each event does what its name says."""

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.panoptic_grouping import degradation_events as events
from pnm.panoptic_grouping import degraded_maps
from pnm.panoptic_grouping.degraded_maps import RATES, EventRates, degraded_map
from pnm.panoptic_grouping.map_draft import FREED, Draft
from pnm.panoptic_grouping.panoptic_map import PanopticMap

THINGS, STUFF = 3, 2  # classes 0 to 2, and 3 and 4
NONE = EventRates(*[0.0] * len(EventRates._fields))


def disk(shape, y, x, radius):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


def scene(rows=2, columns=3, radius=6, pitch=32):
    """Far apart disks of classes 0, 1, 2, 0, ..., over two halves of stuff, which are the last two segments."""
    shape = rows * pitch, columns * pitch
    count = rows * columns
    labels = np.full(shape, count + 1, np.int32)
    labels[:, shape[1] // 2 + 5 :] = count + 2
    for n in range(count):
        y, x = pitch // 2 + pitch * (n // columns), pitch // 2 + pitch * (n % columns)
        labels[disk(shape, y, x, radius)] = n + 1
    return PanopticMap(labels, (*(n % THINGS for n in range(count)), THINGS, THINGS + 1))


def crowd(count, rng):
    """As many small squares on 160 x 200 pixels of stuff with some void."""
    labels = np.full((160, 200), count + 1, np.int32)
    labels[:20] = 0
    for n in range(count):
        y, x = 8 * (n // 25), 8 * (n % 25)
        labels[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = n + 1
    return PanopticMap(labels, (*rng.integers(0, THINGS, count).tolist(), THINGS))


def draft_of(truth, things=THINGS, stuff=STUFF):
    return Draft.of(truth, things, stuff)


def assert_valid(result, shape, things, stuff):
    assert result.labels.shape == shape and result.labels.dtype == np.int32
    present = np.unique(result.labels)
    assert present[present > 0].tolist() == list(range(1, len(result.classes) + 1)) and present[0] >= 0
    assert all(isinstance(kind, int) and 0 <= kind < things + stuff for kind in result.classes)
    kinds = [kind for kind in result.classes if kind >= things]
    assert len(kinds) == len(set(kinds))


def assert_same(a, b):
    assert np.array_equal(a.labels, b.labels) and a.classes == b.classes


def assert_share(count, trials, expected):
    """Within four standard deviations of a binomial distribution."""
    assert abs(count - trials * expected) <= 4 * np.sqrt(trials * expected * (1 - expected)), count / trials


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5, 50.0])
def test_a_partition_that_leaves_its_input_and_follows_the_seed(strength):
    truth = scene()
    before = truth.labels.copy()
    truth.labels.setflags(write=False)
    changed = 0
    for seed in range(60):
        result = degraded_map(truth, THINGS, STUFF, np.random.default_rng(seed), strength=strength)
        assert_valid(result, truth.labels.shape, THINGS, STUFF)
        assert_same(result, degraded_map(truth, THINGS, STUFF, np.random.default_rng(seed), strength=strength))
        assert not np.shares_memory(result.labels, truth.labels)
        changed += not np.array_equal(result.labels, truth.labels)
    assert np.array_equal(truth.labels, before) and changed > 45


def test_no_strength_changes_nothing_but_numbers():
    truth = scene()
    for seed in range(20):
        assert_same(degraded_map(truth, THINGS, STUFF, np.random.default_rng(seed), strength=0), truth)
    gap = PanopticMap(np.array([[0, 3], [1, 1]]), (0, 1, 2))
    result = degraded_map(gap, THINGS, STUFF, np.random.default_rng(0), strength=0)
    assert result.labels.tolist() == [[0, 2], [1, 1]] and result.labels.dtype == np.int32 and result.classes == (0, 2)


def test_share_of_unchanged_images():
    truth = scene()
    unchanged = 0
    for seed in range(800):
        result = degraded_map(truth, THINGS, STUFF, np.random.default_rng(seed))
        unchanged += np.array_equal(result.labels, truth.labels) and result.classes == truth.classes
    assert_share(unchanged, 800, 0.05)


DEGENERATE = {
    "no instance": PanopticMap(np.repeat(np.array([[1, 2]], np.int32), 20, 1), (THINGS, THINGS + 1)),
    "all void": PanopticMap(np.zeros((20, 30), np.int32), ()),
    "one pixel of a thing": PanopticMap(np.ones((1, 1), np.int32), (0,)),
    "one pixel of stuff": PanopticMap(np.ones((1, 1), np.int32), (THINGS,)),
    "one pixel of void": PanopticMap(np.zeros((1, 1), np.int32), ()),
    "one thing": PanopticMap(np.ones((9, 40), np.int32), (1,)),
    "a row": PanopticMap(np.repeat(np.array([[1, 2, 3, 0]], np.int32), 5, 1), (0, 0, THINGS)),
    "300 instances": crowd(300, np.random.default_rng(0)),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_degenerate_maps(name, strength):
    truth = DEGENERATE[name]
    for seed in range(20):
        result = degraded_map(truth, THINGS, STUFF, np.random.default_rng(seed), strength=strength)
        assert_valid(result, truth.labels.shape, THINGS, STUFF)


@pytest.mark.parametrize(("things", "stuff"), [(1, 2), (1, 0), (3, 0), (0, 2)])
def test_few_classes(things, stuff):
    labels = scene().labels
    classes = tuple(n % things if things and (n < 6 or not stuff) else things + n % stuff for n in range(8))
    for seed in range(40):
        result = degraded_map(PanopticMap(labels, classes), things, stuff, np.random.default_rng(seed), strength=4.0)
        assert_valid(result, labels.shape, things, stuff)


def test_wrong_arguments():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError):
        degraded_map(scene(), THINGS, 1, rng)
    with pytest.raises(UserError):
        degraded_map(PanopticMap(np.ones((2, 2), np.int32), (-1,)), THINGS, STUFF, rng)
    for strength in (-1.0, float("nan")):
        with pytest.raises(UserError):
            degraded_map(scene(), THINGS, STUFF, rng, strength=strength)


def test_scaled_rates():
    doubled = RATES.scaled(2)
    assert doubled.outline == 1 and doubled.drop == 2 * RATES.drop and doubled.invented == 2 * RATES.invented
    assert RATES.scaled(10).invented == 10 * RATES.invented and RATES.scaled(0) == NONE


@pytest.mark.parametrize("field", EventRates._fields)
def test_each_rate_is_read(field, monkeypatch):
    """With one rate alone, the map changes, and with none it doesn't."""
    truth = scene(radius=13)
    rng = np.random.default_rng(0)
    same_class = truth._replace(classes=(0,) * 6 + truth.classes[6:])
    monkeypatch.setattr(degraded_maps, "RATES", NONE)
    assert_same(degraded_map(same_class, THINGS, STUFF, rng), same_class)
    monkeypatch.setattr(degraded_maps, "RATES", NONE._replace(**{field: 1.0}))
    results = [degraded_map(same_class, THINGS, STUFF, rng) for _ in range(10)]
    assert any(
        not np.array_equal(result.labels, same_class.labels) or result.classes != same_class.classes
        for result in results
    )


def test_merge_needs_the_same_class_nearby():
    labels = np.zeros((30, 80), np.int32)
    labels[5:25, 2:12], labels[5:25, 20:30], labels[5:25, 41:50], labels[5:25, 51:60] = 1, 2, 3, 4
    for classes, owners in (
        ((0, 0, 1, 2), [1, 1, 2, 3]),  # 9 px apart, then 1 px
        ((0, 1, 1, 0), [1, 2, 3, 4]),  # the two of class 1 are 12 px apart
        ((0, 0, 0, 0), [1, 1, 2, 2]),
    ):
        draft = draft_of(PanopticMap(labels, classes))
        events.merge_instances(draft, np.random.default_rng(0), 1.0)
        result = draft.renumbered()
        assert np.array_equal(result.labels, np.array([0, *owners])[labels])
        assert_valid(result, labels.shape, THINGS, STUFF)


def test_split_parts_are_the_old_mask():
    truth = scene()
    for seed in range(20):
        draft = draft_of(truth)
        events.split_instances(draft, np.random.default_rng(seed), 1.0)
        result = draft.renumbered()
        assert len(result.classes) == len(truth.classes) + 6
        for n in range(1, 7):
            parts = np.unique(result.labels[truth.labels == n])
            assert len(parts) == 2 and np.array_equal(np.isin(result.labels, parts), truth.labels == n)
            assert {result.classes[part - 1] for part in parts} == {truth.classes[n - 1]}
            areas = [np.count_nonzero(result.labels == part) for part in parts]
            assert min(areas) > 0.35 * sum(areas)  # a disk is halved, but for pixels on the line


def test_dropped_instances_are_as_often_void_and_as_often_dropped_as_promised():
    truth, rng = scene(), np.random.default_rng(1)
    dropped = void = 0
    for _ in range(300):
        draft = draft_of(truth)
        events.drop_instances(draft, rng, RATES.drop)
        for n in range(1, 7):
            now = draft.labels[truth.labels == n]
            assert (now == n).all() or (now == 0).all() or np.isin(now, (7, 8)).all()
            dropped += not (now == n).any()
            void += (now == 0).all()
    assert_share(dropped, 1800, 0.10)
    assert_share(void, dropped, events.VOID_INSTEAD)


def test_wrong_classes():
    truth, rng = scene(), np.random.default_rng(2)
    changed = as_stuff = 0
    for _ in range(400):
        draft = draft_of(truth)
        events.change_classes(draft, rng, RATES.wrong_class)
        result = draft.renumbered()
        assert_valid(result, truth.labels.shape, THINGS, STUFF)
        for n in range(1, 7):
            label = result.labels[truth.labels == n][0]
            assert (result.labels[truth.labels == n] == label).all()
            changed += result.classes[label - 1] != truth.classes[n - 1]
            as_stuff += result.classes[label - 1] >= THINGS
    assert_share(changed, 2400, 0.05)
    assert_share(as_stuff, changed, 1 - events.WRONG_THING)


@pytest.mark.parametrize(("things", "stuff", "kinds"), [(1, 1, {1}), (1, 0, {0}), (2, 0, {1})])
def test_wrong_classes_that_there_are(things, stuff, kinds):
    truth = PanopticMap(np.ones((3, 3), np.int32), (0,))
    for seed in range(10):
        draft = draft_of(truth, things, stuff)
        events.change_classes(draft, np.random.default_rng(seed), 1.0)
        assert set(draft.renumbered().classes) <= kinds


def test_holes():
    truth, rng = scene(radius=10), np.random.default_rng(3)
    shares, inner = [], 0
    for _ in range(60):
        draft = draft_of(truth)
        events.make_holes(draft, rng, 1.0)
        for n in range(1, 7):
            mask = truth.labels == n
            holes = mask & (draft.labels != n)
            shares.append(holes.sum() / mask.sum())
            assert np.isin(draft.labels[holes], (0, 7, 8)).all()  # not the instance itself, and no other
            inner += not (holes & (np.pad(mask, 1)[2:, 1:-1] < mask)).any()
        assert np.array_equal(draft.labels[truth.labels > 6], truth.labels[truth.labels > 6])
    assert 0.05 <= min(shares) < 0.07 and 0.23 < max(shares) <= 0.25
    assert inner > 180


def test_holes_of_the_smallest():
    for area, most in ((1, 0), (3, 0), (4, 1), (9, 2)):
        truth = PanopticMap(np.array([[1] * area + [2] * 5], np.int32), (0, THINGS))
        for seed in range(10):
            draft = draft_of(truth)
            events.make_holes(draft, np.random.default_rng(seed), 1.0)
            assert min(1, most) <= np.count_nonzero(draft.labels[0, :area] != 1) <= most


def test_redrawn_outlines_stay_near():
    truth, changed = scene(radius=10), 0
    for seed in range(20):
        draft = draft_of(truth)
        events.redraw_instances(draft, np.random.default_rng(seed), 1.0)
        for n in range(1, 7):
            mask, now = truth.labels == n, draft.labels == n
            assert (mask & now).sum() > 0.6 * (mask | now).sum()
            changed += (mask != now).any()
    assert changed > 90
    speck = PanopticMap(np.pad(np.ones((1, 1), np.int32), 4, constant_values=2), (0, THINGS))
    for seed in range(20):
        draft = draft_of(speck)
        events.redraw_instances(draft, np.random.default_rng(seed), 1.0)
        assert (draft.labels == 1).any()


def test_invented_instances():
    truth, rng = scene(), np.random.default_rng(4)
    counts, above = [], 0
    for _ in range(400):
        draft = draft_of(truth)
        events.invent_instances(draft, rng, RATES.invented)
        new = draft.classes.keys() - range(9)
        counts.append(len(new))
        assert all(draft.classes[label] < THINGS for label in new)
        above += np.isin(draft.labels[(truth.labels <= 6)], list(new)).any()
    assert abs(np.mean(counts) - 0.4) < 4 * np.sqrt(0.4 / 400)
    assert abs(np.var(counts) - 0.4) < 0.15
    assert above > 5


def test_half_of_the_invented_lie_beneath():
    truth = PanopticMap(np.array([[1, 1, 1, 1, 2]], np.int32), (0, THINGS))
    rng, above, drawn = np.random.default_rng(5), 0, 0
    for _ in range(400):
        draft = draft_of(truth)
        events.invent_instances(draft, rng, 1.0)
        if len(draft.classes) == 3:  # one alone: four pixels long, on three of the instance's at least
            drawn += 1
            above += (draft.labels[0, 1:4] == 3).all()
    assert drawn > 80
    assert_share(above, drawn, 0.5)


def test_invented_without_a_model_are_ellipses():
    draft = draft_of(PanopticMap(np.ones((60, 80), np.int32), (THINGS,)))
    events.invent_instances(draft, np.random.default_rng(6), 3.0)
    new = [label for label in draft.classes if label > 1]
    assert new and all(0 < (draft.labels == label).sum() < 24 * 18 for label in new)
    draft = draft_of(PanopticMap(np.ones((6, 8), np.int32), (0,)), 0, 1)
    events.invent_instances(draft, np.random.default_rng(0), 9.0)
    assert list(draft.classes) == [1]


def test_stuff_joins_other_stuff_or_becomes_void():
    truth, rng = scene(), np.random.default_rng(7)
    joined = void = 0
    for _ in range(600):
        draft = draft_of(truth)
        events.change_stuff(draft, rng, RATES.stuff_joined, RATES.stuff_void)
        seven, eight = (set(draft.labels[truth.labels == n].tolist()) for n in (7, 8))
        assert len(seven) == len(eight) == 1
        joined += seven == {8} or eight == {7}
        void += seven == {0}
        assert np.array_equal(draft.labels[truth.labels < 7], truth.labels[truth.labels < 7])
    assert_share(joined, 600, 1 - (1 - 0.1) * (1 - 0.1 * (1 - 0.9 * 0.05)))  # not where the first has become void
    assert_share(void, 600, (0.9 + 0.1 * 0.1) * 0.05)


def test_stuff_outlines_move_only_between_stuff():
    rng = np.random.default_rng(8)
    labels = np.where(rng.random((40, 60)) < 0.5, 2, 3).astype(np.int32)
    labels[:, :20], labels[:, 40:] = 2, 3
    labels[10:20, 10:50], labels[30:36, 28:50] = 1, 0
    draft = draft_of(PanopticMap(labels, (0, THINGS, THINGS + 1)))
    events.redraw_stuff(draft, rng, 1.0)
    assert np.array_equal(draft.labels[labels < 2], labels[labels < 2])
    assert np.isin(draft.labels[labels >= 2], (2, 3)).all()
    noise = labels >= 2
    noise[:, :20] = noise[:, 40:] = False
    changes = np.count_nonzero((draft.labels[:, 1:] != draft.labels[:, :-1]) & noise[:, 1:] & noise[:, :-1])
    before = np.count_nonzero((labels[:, 1:] != labels[:, :-1]) & noise[:, 1:] & noise[:, :-1])
    assert 0 < changes < before / 4
    assert (draft.labels[noise] != labels[noise]).mean() > 0.2


def test_stuff_without_a_neighbour_and_straight_borders_stay():
    labels = np.repeat(np.array([[1, 2]], np.int32), 16, 1).repeat(8, 0)
    for classes in ((THINGS, THINGS + 1), (0, THINGS)):
        draft = draft_of(PanopticMap(labels, classes))
        events.redraw_stuff(draft, np.random.default_rng(0), 1.0)
        assert np.array_equal(draft.labels, labels)


def test_void_borders():
    labels = np.repeat(np.array([[1, 2]], np.int32), 20, 1).repeat(30, 0)
    rng, widths = np.random.default_rng(9), []
    for _ in range(400):
        draft = draft_of(PanopticMap(labels, (0, THINGS)))
        events.void_borders(draft, rng, RATES.void_borders)
        width = (draft.labels[0] == 0).sum()
        void = np.flatnonzero(draft.labels[0] == 0)
        assert (draft.labels == draft.labels[0]).all() and set(void.tolist()) <= {18, 19, 20}
        widths.append(int(width))
    assert set(widths) == {0, 1, 2, 3}
    assert_share(np.count_nonzero(widths), 400, 0.3)


def test_freed_pixels_take_the_nearest_label():
    """By a search of all pairs; seams of void are looked across, wide void isn't."""
    labels = np.full((24, 40), 1, np.int32)
    labels[:, 20:] = 2
    labels[4:20, 10:30] = FREED
    labels[3, 8:32] = 0  # a seam
    draft = Draft(labels.copy(), {1: 0, 2: THINGS}, THINGS, STUFF)
    draft.fill_freed()
    places = np.argwhere(labels > 0)
    for y, x in np.argwhere(labels == FREED):
        distances = ((places - (y, x)) ** 2).sum(axis=1)
        nearest = {int(labels[tuple(place)]) for place in places[distances <= (np.sqrt(distances.min()) + 0.3) ** 2]}
        assert draft.labels[y, x] in nearest
    assert np.array_equal(draft.labels[labels != FREED], labels[labels != FREED])

    labels = np.zeros((60, 60), np.int32)
    labels[20:26, 20:26], labels[:, 58:] = FREED, 1
    draft = Draft(labels.copy(), {1: 0}, THINGS, STUFF)
    draft.fill_freed()
    assert np.array_equal(draft.labels == 1, labels == 1) and draft.labels.min() == 0
