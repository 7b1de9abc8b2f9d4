"""A refined partition whose segments aren't those of the coarse one: which keep their ids, and which are new.

An example, all segments of one category::

    base       5 5 5 7 7 7 0 0
    refined    8 8 8 8 0 0 9 9      IoU of 8 and 5 is 3/4
    result     5 5 5 5 0 0 8 8      segments (5, 8): 7 is gone, and its id isn't used again
"""

from collections import Counter

import numpy as np

from pnm.errors import UserError
from pnm.formats.coco_panoptic import MOST_ID, VOID
from pnm.metrics.segment_pairs import count_pairs
from pnm.predictions.image_predictions import Partition


def with_kept_ids(coarse: Partition, refined: Partition) -> Partition:
    """A refined partition in the ids of the coarse one, the base, where segments are the same, and in new ids.

    Segments are the same if their categories agree and IoU > 0.5 over all pixels, which no segment has with two others.
    The rest gets ids above the largest of the base's, in its order. Applied to its own result, this changes nothing.

    Args:
        coarse: the base; 0 is void.
        refined: of the same image, of any labels above 0; 0 is void. Segments without pixels are left out.

    Returns:
        Labels in int64; segments that are the base's in its order, then the new ones.

    Raises:
        UserError: another size; a label that isn't in the list of segments; an id that a PNG can't hold.
    """
    if refined.size != coarse.size:
        raise UserError(f"the refined labels are {refined.size}, the coarse ones {coarse.size}: expected one size")
    category, base_category = (dict(zip(side.segments, side.categories)) for side in (refined, coarse))
    counts = count_pairs(coarse.labels, refined.labels)
    pairs = list(zip(counts.gt.tolist(), counts.pred.tolist(), counts.shared.tolist()))
    area, base_area = Counter[int](), Counter[int]()
    for base, label, shared in pairs:
        area[label] += shared
        base_area[base] += shared
    unlisted = sorted(area.keys() - category.keys() - {VOID})
    if unlisted:
        raise UserError(f"the refined labels {unlisted[:5]} are none of the refined segments: list them, or use {VOID}")
    label_of = {
        base: label
        for base, label, shared in pairs
        if label in category
        and category[label] == base_category.get(base)
        and 2 * shared > area[label] + base_area[base] - shared
    }
    kept = [(base, label_of[base]) for base in coarse.segments if base in label_of]
    same = set(label_of.values())
    others = [label for label in refined.segments if label in area and label not in same]
    first = max((VOID, *coarse.segments)) + 1
    if others and first + len(others) - 1 > MOST_ID:
        raise UserError(
            f"{len(others)} new segments need ids from {first} on, but the largest that a PNG holds is {MOST_ID}: "
            "renumber the segments of the coarse prediction"
        )
    rows = [*kept, *enumerate(others, first)]
    return Partition(
        _renumbered(refined.labels, {label: number for number, label in rows}),
        tuple(number for number, _ in rows),
        tuple(int(category[label]) for _, label in rows),
    )


def _renumbered(labels: np.ndarray, number_of: dict[int, int]) -> np.ndarray:
    """(H, W) int64: the number of each label, all of which have one but void."""
    before = np.array(sorted({VOID, *number_of}), np.int64)
    after = np.array([number_of.get(label, VOID) for label in before.tolist()], np.int64)
    return after[np.searchsorted(before, labels)]
