"""Which refined segments are the coarse ones, by a loop over all pairs; and what ids the others get."""

import numpy as np
import pytest

from pnm.predictions import Partition
from pnm.predictions.relisting import with_kept_ids


def partition(labels, categories):
    """Of labels with categories in the order of that dict."""
    return Partition(np.array(labels), tuple(categories), tuple(categories.values()))


def same(a, b):
    return np.array_equal(a.labels, b.labels) and (a.segments, a.categories) == (b.segments, b.categories)


def relisted_slowly(coarse, refined):
    """(base id or None, label) of each refined segment with pixels, kept ones in the base's order."""
    pairs = []
    for base, base_category in zip(coarse.segments, coarse.categories):
        for label, category in zip(refined.segments, refined.categories):
            a, b = coarse.labels == base, refined.labels == label
            if base_category == category and (a & b).sum() / max((a | b).sum(), 1) > 0.5:
                pairs.append((base, label))
    used = [label for _, label in pairs]
    return pairs + [(None, n) for n in refined.segments if n not in used and (refined.labels == n).any()]


def random_partition(rng, size, labels):
    chosen = rng.permutation(labels).tolist()
    ids = np.kron(rng.choice([0, *chosen], [-(-n // 3) for n in size]), np.ones((3, 3), int))[: size[0], : size[1]]
    return partition(ids, {label: int(rng.integers(1, 4)) for label in chosen})


@pytest.mark.parametrize("seed", range(40))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 20, 2)
    coarse = random_partition(rng, size, [1, 7, 300, 26001, 70000])
    labels = np.where(rng.random(size) < 0.2, 5, coarse.labels + 3 * (coarse.labels > 0))  # moved, with noise
    shuffled = rng.permutation(np.array([4, 10, 303, 26004, 70003, 5, 99])).tolist()
    category = {base + 3: k for base, k in zip(coarse.segments, coarse.categories)} | {5: 1, 99: 2}
    category[10] = int(rng.integers(1, 4))
    refined = partition(labels, {label: category[label] for label in shuffled})
    if seed % 4 == 0:
        refined = random_partition(rng, size, [1, 2, 3])
    result, wanted = with_kept_ids(coarse, refined), relisted_slowly(coarse, refined)
    numbers = iter(range(70001, 70100))
    number_of = {label: next(numbers) if base is None else base for base, label in wanted}
    of_refined = dict(zip(refined.segments, refined.categories))
    assert result.segments == tuple(number_of.values())
    assert result.categories == tuple(of_refined[label] for label in number_of)
    np.testing.assert_array_equal(result.labels, np.vectorize(lambda label: number_of.get(label, 0))(refined.labels))
    assert same(with_kept_ids(coarse, result), result)


def test_the_example_of_the_module():
    coarse = partition([[5, 5, 5, 7, 7, 7, 0, 0]], {5: 1, 7: 1})
    result = with_kept_ids(coarse, partition([[8, 8, 8, 8, 0, 0, 9, 9]], {8: 1, 9: 1}))
    assert result.labels.tolist() == [[5, 5, 5, 5, 0, 0, 8, 8]] and result.segments == (5, 8)


def test_half_is_no_match():
    coarse = partition([[4, 4, 0, 0]], {4: 1})
    for labels, wanted in (([[1, 0, 0, 0]], 5), ([[1, 1, 1, 1]], 5), ([[1, 1, 1, 0]], 4)):
        assert with_kept_ids(coarse, partition(labels, {1: 1})).segments == (wanted,)


def test_an_equal_segment_of_another_category_is_new_even_if_it_has_the_id():
    result = with_kept_ids(partition([[3, 3]], {3: 1}), partition([[3, 3]], {3: 2}))
    assert same(result, partition([[4, 4]], {4: 2}))


def test_ids_of_vanished_segments_are_not_used_again():
    coarse = partition([[1, 1, 2, 2]], {1: 1, 9: 1, 2: 1})  # 9 had no pixel before either
    assert same(
        with_kept_ids(coarse, partition([[1, 1, 6, 6]], {6: 2, 1: 1})), partition([[1, 1, 10, 10]], {1: 1, 10: 2})
    )


def test_nothing_on_either_side():
    empty = partition(np.zeros((2, 3), int), {})
    assert same(with_kept_ids(empty, empty), empty)
    some = partition([[0, 8, 8], [3, 3, 0]], {8: 5, 3: 5})
    assert same(with_kept_ids(some, empty), empty)
    assert same(with_kept_ids(empty, some), partition([[0, 1, 1], [2, 2, 0]], {1: 5, 2: 5}))
    assert with_kept_ids(partition(np.zeros((0, 3), int), {}), partition(np.zeros((0, 3), int), {4: 1})).segments == ()


def test_arguments_stay_and_small_types_are_no_limit():
    coarse = Partition(np.array([[255, 255, 0]], np.uint8), (255,), (1,))
    refined = Partition(np.array([[1, 1, 2]], np.uint8), (1, 2), (1, 1))
    before = refined.labels.copy()
    assert with_kept_ids(coarse, refined).labels.tolist() == [[255, 255, 256]]
    assert np.array_equal(refined.labels, before)


@pytest.mark.parametrize(
    "labels, categories, message",
    [
        ([[1, 1, 1]], {1: 1}, r"the refined labels are \(1, 3\), the coarse ones \(1, 2\): expected one size"),
        ([[1, 7]], {1: 1}, r"the refined labels \[7\] are none of the refined segments: list them, or use 0"),
        ([[-1, 1]], {1: 1}, "segment ids must lie in 0.."),
        (
            [[1, 2]],
            {1: 2, 2: 2},
            "2 new segments need ids from 16777215 on, but the largest that a PNG holds is 16777215",
        ),
    ],
)
def test_errors(labels, categories, message):
    with pytest.raises(ValueError, match=message):
        with_kept_ids(partition([[2**24 - 2, 0]], {2**24 - 2: 1}), partition(labels, categories))
