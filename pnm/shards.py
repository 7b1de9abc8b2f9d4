"""One of N parts of a run over images, so that any scheduler can spread it over machines.

Image i of the list, counted from 0, belongs to shard 1 + i mod N: the parts differ by one image at most, and
neighbours, which are often of one size, city or video, go to different ones, so that shards take about equally long.
The rule asks for the list alone, so that shards need not know of each other. With N = 3::

    images   a b c d e f g
    shard    1 2 3 1 2 3 1
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pnm.errors import UserError, listed, print_lines

MOST = 100_000  # shards of a run
_TEXT = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_FOLDER = re.compile(r"([0-9]{1,6})-of-([0-9]{1,6})")
Item = TypeVar("Item")


class Shard(NamedTuple):
    """The part ``number``, from 1, of a run that is split into ``of`` parts."""

    number: int
    of: int

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those of the items that are in this part, in their order."""
        return items[self.number - 1 :: self.of]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder_name(self) -> str:
        """Of a folder with what the shard made."""
        return f"{self.number}-of-{self.of}"


WHOLE = Shard(1, 1)  # all of a run


def shard_of(text: str) -> Shard:
    """The shard that ``--shard K/N`` names; a UserError unless K is from 1 to N."""
    match = _TEXT.fullmatch(text)
    shard = Shard(*map(int, match.groups())) if match else None
    if shard is None or not 1 <= shard.number <= shard.of <= MOST:
        raise UserError(f"--shard is {text!r}, expected K/N with K from 1 to N, and N up to {MOST}, like 3/8")
    return shard


def all_shards(of: int) -> list[Shard]:
    """All shards of a run, in order; a UserError for a number that ``--merge N`` can't have."""
    if not 1 <= of <= MOST:
        raise UserError(f"--merge is {of}, expected the number of shards, from 1 to {MOST}")
    return [Shard(number, of) for number in range(1, of + 1)]


def counts_in(folder_names: Sequence[str]) -> set[int]:
    """The N of the shards that folders are named after."""
    matches = [_FOLDER.fullmatch(name) for name in folder_names]
    return {int(match[2]) for match in matches if match}


def check_one_count(folder_names: Sequence[str], of: int, place: object) -> None:
    """A UserError if some of the folders in a place are of shards of another number."""
    other = sorted(counts_in(folder_names) - {of})
    if other:
        raise UserError(
            f"{place} holds shards of a run in {listed(other)} parts, and this one is in {of}: give all shards the "
            "same N, or delete what the others left"
        )


def raise_faults(faults: dict[Shard, str], of: int) -> None:
    """A UserError that names the shards to run again, after a line on each of them; nothing without faults."""
    if not faults:
        return
    print_lines([f"shard {shard}: {fault}" for shard, fault in faults.items()])
    again = listed([f"--shard {shard}" for shard in faults], 20)
    raise UserError(
        f"{len(faults)} of {of} shards are not whole, see above: run the same command with {again} in the place of "
        "--merge, and then this one again"
    )
