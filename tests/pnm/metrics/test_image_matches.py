"""Which segments match: as many as PQ counts, by name in a scene by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.metrics.panoptic_quality import ImageMatches, PanopticQuality

sys.path.append(str(Path(__file__).resolve().parents[2]))
from panoptic_scenes import ISTHING, random_images  # noqa: E402


def numbers(ids, segments):
    """How many of the ids each category has."""
    category = {segment["id"]: segment["category_id"] for segment in segments}
    return [sum(category[number] == k for number in ids) for k in ISTHING]


@pytest.mark.parametrize("seed", range(25))
def test_as_many_as_the_statistics_say(seed):
    quality, with_boundary = PanopticQuality(ISTHING), PanopticQuality(ISTHING, boundary_px=1)
    for image in random_images(seed, crowds=True):
        matches, (_, gt, _, pred) = quality.image_matches(*image), image
        counts = quality.image_statistics(*image)
        assert numbers(matches.matched, gt) == counts[0].tolist()
        assert numbers(matches.false_positives, pred) == counts[1].tolist()
        assert numbers(matches.missed, gt) == counts[2].tolist()
        assert with_boundary.image_matches(*image) == matches
        assert not quality.statistics.any()


def test_by_hand():
    """2 is found as 20; 4 is missed, as 40 is of another category; 50 lies on the crowd 5 and 60 on void."""
    truth = np.array([[2, 2, 4, 4, 5, 5, 0, 0, 7, 7]])
    pred = np.array([[20, 20, 40, 40, 50, 50, 60, 60, 0, 0]])
    listed = [{"id": n, "category_id": 1, "iscrowd": int(n == 5)} for n in (7, 2, 4, 5)]
    predicted = [{"id": n, "category_id": 7 if n == 40 else 1} for n in (60, 50, 40, 20)]
    assert PanopticQuality(ISTHING).image_matches(truth, listed, pred, predicted) == ImageMatches((2,), (4, 7), (40,))
    assert PanopticQuality(ISTHING).image_matches(truth * 0, [], pred * 0, []) == ImageMatches((), (), ())


def test_errors_are_those_of_the_statistics():
    ids = np.array([[1, 2]])
    with pytest.raises(UserError, match=r"segment ids \[2\] are in the map but not in segments_info"):
        PanopticQuality(ISTHING).image_matches(ids, [], ids, [{"id": 1, "category_id": 1}])
    with pytest.raises(UserError, match="has category 3, which the data set doesn't have"):
        PanopticQuality(ISTHING).image_matches(ids, [{"id": 1, "category_id": 3}], ids, [])
