"""Parts of a run: the rule, what is accepted as one, and how those that lack something are named."""

import pytest

from pnm.errors import UserError
from pnm.shards import MOST, Shard, all_shards, check_one_count, raise_faults, shard_of


@pytest.mark.parametrize("items", [0, 1, 7, 8, 100])
@pytest.mark.parametrize("of", [1, 3, 8])
def test_every_item_is_in_one_shard_and_shards_are_even(items, of):
    parts = [shard.part(range(items)) for shard in all_shards(of)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(item % of + 1 == shard.number for shard, part in zip(all_shards(of), parts) for item in part)


def test_shards_by_name():
    assert shard_of("3/8") == Shard(3, 8) == (3, 8)
    assert str(Shard(3, 8)) == "3/8" and Shard(3, 8).folder_name == "3-of-8"


@pytest.mark.parametrize(
    "text", ["", "3", "0/8", "9/8", "-1/8", "1/0", "1/2/3", "a/b", "1.0/2", "٣/8", " 1/2", "1/1000000"]
)
def test_what_is_no_shard(text):
    with pytest.raises(UserError, match=f"expected K/N with K from 1 to N, and N up to {MOST}, like 3/8"):
        shard_of(text)


@pytest.mark.parametrize("of", [0, -2, MOST + 1])
def test_numbers_of_shards_that_cannot_be(of):
    with pytest.raises(UserError, match=f"--merge is {of}, expected the number of shards, from 1 to {MOST}"):
        all_shards(of)


def test_shards_of_two_runs():
    check_one_count(["1-of-8", "2-of-8", "new-1", "7"], 8, "here")
    with pytest.raises(UserError, match="here holds shards of a run in 4 parts, and this one is in 8: give all"):
        check_one_count(["1-of-8", "2-of-4"], 8, "here")


def test_shards_to_run_again_are_named(capsys):
    raise_faults({}, 8)
    with pytest.raises(
        UserError, match="2 of 8 shards are not whole, .* with --shard 2/8, --shard 7/8 in the place of"
    ):
        raise_faults({Shard(2, 8): "is damaged", Shard(7, 8): "is missing"}, 8)
    assert capsys.readouterr().err == "shard 2/8: is damaged\nshard 7/8: is missing\n"
