"""What became of a base model's segments after refinement: kept, deleted, re-classed, split or merged, and new ones.

An example, in which 4 is a cat and all others are dogs::

    base       1 1 1 1   2 2 3 3   4  4   5   6 6    0
    refined    7 7 8 8   9 9 9 9  10 10   0   6 6   11
    changes    split {1: (7, 8)}, merged {9: (2, 3)}, reclassed (4, 10), deleted 5, kept 6, inserted 11
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pnm.metrics.segment_pairs import count_pairs
from pnm.predictions.image_predictions import Partition
from pnm.predictions.relisting import with_kept_ids

LEAST_PART = 10  # a part is at least the 10th part of the whole


class SegmentChanges(NamedTuple):
    """Changes of one image's segments; a base id that is in no refined segment's place any more is called gone.

    A segment may be in more than one of ``reclassed``, ``split`` and ``merged``, and a kept one in the last two. All
    are in the order of the lists of segments. Base segments without pixels are in none.

    Attributes:
        refined: the refined segments in the ids of :func:`pnm.predictions.relisting.with_kept_ids`, as below.
        kept: ids that both have: same category, IoU > 0.5.
        inserted: new refined ids that are in none of the following.
        deleted: gone base ids that are in none of the following.
        reclassed: (gone base id, new refined id) with IoU > 0.5; their categories differ, or it were kept.
        split: base id: two or more refined ids of its category, each with more than half of its own area in the base
            segment, and with an area of at least a tenth of the base segment's. One of them may be the kept one.
        merged: refined id: two or more base ids of its category, each with more than half of its own area in the
            refined segment, and with an area of at least a tenth of the refined segment's. One may be the kept one.
    """

    refined: Partition
    kept: tuple[int, ...]
    inserted: tuple[int, ...]
    deleted: tuple[int, ...]
    reclassed: tuple[tuple[int, int], ...]
    split: dict[int, tuple[int, ...]]
    merged: dict[int, tuple[int, ...]]

    @property
    def number(self) -> int:
        """How many changes these are; a split or merged segment is one."""
        return sum(map(len, (self.inserted, self.deleted, self.reclassed, self.split, self.merged)))


class _Overlap(NamedTuple):
    """Two segments that share pixels, and areas in pixels: what they share, and all of each."""

    base: int
    refined: int
    shared: int
    base_area: int
    area: int

    @property
    def is_same(self) -> bool:
        return 2 * self.shared > self.base_area + self.area - self.shared

    @property
    def is_part_of_base(self) -> bool:
        return 2 * self.shared > self.area and LEAST_PART * self.area >= self.base_area

    @property
    def is_part_of_refined(self) -> bool:
        return 2 * self.shared > self.base_area and LEAST_PART * self.base_area >= self.area


def segment_changes(base: Partition, refined: Partition) -> SegmentChanges:
    """Compares the segments of two partitions of one image, in time linear in its pixels.

    Args:
        base: 0 is void.
        refined: of any ids: those of segments that are the base's become the base's, and others new ones.

    Raises:
        UserError: another size; a refined label that isn't listed; ids that don't fit a PNG.
    """
    refined = with_kept_ids(base, refined)
    category, base_category = (dict(zip(side.segments, side.categories)) for side in (refined, base))
    overlaps, present = _overlaps(base, refined)
    kept = tuple(number for number in base.segments if number in category)
    pairs = {row.base: row.refined for row in overlaps if row.is_same and row.base not in category}
    parts, sources = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for row in overlaps:
        if base_category[row.base] == category[row.refined]:
            if row.is_part_of_base:
                parts[row.base].append(row.refined)
            if row.is_part_of_refined:
                sources[row.refined].append(row.base)
    reclassed = tuple((number, pairs[number]) for number in base.segments if number in pairs)
    split = _of_two_or_more(parts, base.segments, refined.segments)
    merged = _of_two_or_more(sources, refined.segments, base.segments)
    old = {*kept, *pairs, *split}.union(*merged.values())
    new = {*kept, *pairs.values(), *merged}.union(*split.values())
    return SegmentChanges(
        refined,
        kept,
        tuple(number for number in refined.segments if number not in new),
        tuple(number for number in base.segments if number in present and number not in old),
        reclassed,
        split,
        merged,
    )


def _overlaps(base: Partition, refined: Partition) -> tuple[list[_Overlap], set[int]]:
    """Pairs of segments that share pixels, void left out, and the base labels that have pixels."""
    counts = count_pairs(base.labels, refined.labels)
    pairs = list(zip(counts.gt.tolist(), counts.pred.tolist(), counts.shared.tolist()))
    base_area, area = Counter[int](), Counter[int]()
    for old, new, shared in pairs:
        base_area[old] += shared
        area[new] += shared
    segments, base_segments = set(refined.segments), set(base.segments)
    rows = [
        _Overlap(old, new, shared, base_area[old], area[new])
        for old, new, shared in pairs
        if old in base_segments and new in segments
    ]
    return rows, set(base_area)


def _of_two_or_more(
    parts: Mapping[int, list[int]], wholes: Sequence[int], order: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Those of the wholes that have two or more parts, which are sorted as in ``order``."""
    place = {number: n for n, number in enumerate(order)}
    return {
        whole: tuple(sorted(parts[whole], key=place.__getitem__)) for whole in wholes if len(parts.get(whole, ())) > 1
    }
