"""Changes of segments: hand-made scenes of each kind, and random maps against a loop over masks."""

import numpy as np
import pytest

from pnm.predictions import Partition
from pnm.predictions.relisting import with_kept_ids
from pnm.predictions.segment_changes import segment_changes

CAT, DOG = 1, 2
KINDS = ("kept", "inserted", "deleted", "reclassed", "split", "merged")
MIRRORED = ("kept", "deleted", "inserted", "reclassed", "merged", "split")


def partition(labels, categories):
    """Of labels with categories in the order of that dict."""
    return Partition(np.array(labels), tuple(categories), tuple(categories.values()))


def lists(changes):
    """All but the partition."""
    return changes._asdict() | {"refined": None}


def expected(kept=(), inserted=(), deleted=(), reclassed=(), split=None, merged=None):
    rows = {"kept": kept, "inserted": inserted, "deleted": deleted, "reclassed": reclassed}
    return {"refined": None, **rows, "split": split or {}, "merged": merged or {}}


def changes_slowly(base, refined):
    """By masks; of the refined partition in kept ids."""
    of_base, of_refined = (
        {n: (part.labels == n, c) for n, c in zip(part.segments, part.categories) if (part.labels == n).any()}
        for part in (base, refined)
    )

    def iou(b, r):
        return (of_base[b][0] & of_refined[r][0]).sum() / (of_base[b][0] | of_refined[r][0]).sum()

    def parts(wholes, pieces, whole):
        mask, category = wholes[whole]
        return tuple(
            n
            for n, (piece, other) in pieces.items()
            if category == other and (piece & mask).sum() / piece.sum() > 0.5 and piece.sum() / mask.sum() >= 0.1
        )

    kept = tuple(n for n in of_base if n in of_refined)
    reclassed = tuple((b, r) for b in of_base for r in of_refined if not {b, r} & set(kept) and iou(b, r) > 0.5)
    split = {b: parts(of_base, of_refined, b) for b in of_base if len(parts(of_base, of_refined, b)) > 1}
    merged = {r: parts(of_refined, of_base, r) for r in of_refined if len(parts(of_refined, of_base, r)) > 1}
    old = [*kept, *(b for b, _ in reclassed), *split, *(n for row in merged.values() for n in row)]
    new = [*kept, *(r for _, r in reclassed), *merged, *(n for row in split.values() for n in row)]
    inserted, deleted = tuple(n for n in of_refined if n not in new), tuple(n for n in of_base if n not in old)
    return expected(kept, inserted, deleted, reclassed, split, merged)


def random_partition(rng, size, ids):
    chosen = rng.permutation(ids).tolist()
    blocks = np.kron(rng.choice([0, *chosen], [-(-n // 4) for n in size]), np.ones((4, 4), int))
    return partition(blocks[: size[0], : size[1]], {n: int(rng.choice([CAT, DOG, 9])) for n in chosen})


def edited(rng, base):
    """A base partition with its segments cut, joined, re-classed and removed by chance, in ids of its own."""
    labels, category = base.labels.copy(), dict(zip(base.segments, base.categories))
    for number in base.segments:
        mask, act = labels == number, rng.integers(0, 6)
        other = int(rng.choice(base.segments))
        if act == 0:
            half = mask.copy()
            half[:, : labels.shape[1] // 2] = False
            labels[half] = number + 1
            category[number + 1] = category[number]
        elif act == 1 and number != other:
            labels[mask] = other
        elif act == 2:
            category[number] = int(rng.choice([CAT, DOG, 9]))
        elif act == 3:
            labels[mask] = 0
    labels[rng.random(labels.shape) < 0.1] = 0
    labels[:2, :3], category[5] = 5, CAT
    return partition(np.where(labels > 0, 3 * labels, 0), {3 * n: c for n, c in category.items()})


@pytest.mark.parametrize("seed", range(60))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(3, 40, 2)
    base = random_partition(rng, size, [1, 7, 300, 26001, 70000])
    refined = random_partition(rng, size, [1, 7, 11, 12]) if seed % 3 == 0 else edited(rng, base)
    changes = segment_changes(base, refined)
    wanted = changes_slowly(base, with_kept_ids(base, refined))
    assert lists(changes) == wanted
    assert changes.number == sum(len(wanted[kind]) for kind in wanted if kind not in ("refined", "kept"))
    assert lists(segment_changes(base, changes.refined)) == wanted
    back = changes_slowly(refined, with_kept_ids(refined, base))
    assert lists(segment_changes(refined, base)) == back
    assert [len(back[kind]) for kind in KINDS] == [len(wanted[kind]) for kind in MIRRORED]


def test_the_example_of_the_module():
    base = partition([[1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 0]], {1: DOG, 2: DOG, 3: DOG, 4: CAT, 5: DOG, 6: DOG})
    labels = [[7, 7, 8, 8, 9, 9, 9, 9, 10, 10, 0, 6, 6, 11]]
    changes = segment_changes(base, partition(labels, dict.fromkeys((6, 7, 8, 9, 10, 11), DOG)))
    assert lists(changes) == expected((6,), (11,), (5,), ((4, 10),), {1: (7, 8)}, {9: (2, 3)})
    assert changes.refined.labels.tolist() == labels and changes.number == 5


def test_any_ids():
    base = partition([[3, 3, 3, 8, 8, 0]], {8: DOG, 3: CAT})
    refined = partition([[8, 8, 8, 3, 3, 5]], {5: CAT, 3: CAT, 8: CAT})
    assert lists(segment_changes(base, refined)) == expected((3,), (9,), (), ((8, 10),))


def test_a_kept_segment_may_be_split_or_merged():
    whole, apart = [[1] * 10], [[1] * 7 + [2] * 3]
    one, two = {1: DOG}, {1: DOG, 2: DOG}
    assert lists(segment_changes(partition(whole, one), partition(apart, two))) == expected((1,), split={1: (1, 2)})
    assert lists(segment_changes(partition(apart, two), partition(whole, one))) == expected((1,), merged={1: (1, 2)})
    other = {1: DOG, 2: CAT}
    assert lists(segment_changes(partition(whole, one), partition(apart, other))) == expected((1,), (2,))
    assert lists(segment_changes(partition(apart, other), partition(whole, one))) == expected((1,), (), (2,))


@pytest.mark.parametrize("small, is_part", [(9, False), (10, True)])
def test_a_part_is_at_least_a_tenth(small, is_part):
    whole, apart = np.ones((1, 100), int), np.ones((1, 100), int)
    apart[:, :small] = 2
    one, two = {1: DOG}, {1: DOG, 2: DOG}
    split = segment_changes(partition(whole, one), partition(apart, two))
    merged = segment_changes(partition(apart, two), partition(whole, one))
    assert split.split == ({1: (1, 2)} if is_part else {}) and split.inserted == (() if is_part else (2,))
    assert merged.merged == ({1: (1, 2)} if is_part else {}) and merged.deleted == (() if is_part else (2,))


def test_a_part_has_more_than_half_of_its_area_in_the_whole():
    base = partition([[1] * 8 + [0] * 3], {1: DOG})
    for beyond, split in ((2, {1: (1, 2)}), (3, {})):
        refined = partition([[1] * 5 + [2] * (3 + beyond) + [0] * (3 - beyond)], {1: DOG, 2: DOG})
        assert segment_changes(base, refined).split == split


def test_nothing_and_segments_without_pixels():
    empty, base = partition([[0, 0]], {}), partition([[4, 0]], {4: DOG, 6: CAT})
    assert lists(segment_changes(empty, empty)) == expected()
    assert lists(segment_changes(base, empty)) == expected(deleted=(4,))
    assert lists(segment_changes(empty, base)) == expected(inserted=(1,))
    assert lists(segment_changes(base, base)) == expected((4,))


def test_labels_that_are_no_segments_are_void():
    base = partition([[9, 9, 4]], {4: DOG})
    assert lists(segment_changes(base, partition([[9, 9, 4]], {9: CAT, 4: DOG}))) == expected((4,), (5,))


def test_errors():
    with pytest.raises(ValueError, match="expected one size"):
        segment_changes(partition([[1]], {1: CAT}), partition([[1, 1]], {1: CAT}))
    with pytest.raises(ValueError, match=r"\[7\] are none of the refined segments"):
        segment_changes(partition([[1]], {1: CAT}), partition([[7]], {1: CAT}))
