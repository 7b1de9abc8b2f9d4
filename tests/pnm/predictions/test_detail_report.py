"""What became of objects and segments, by steps that say how sure they are, and by those that don't."""

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.masks.crops import EMPTY, MaskCrop, crop_array
from pnm.predictions.detail_report import DetailReport, changes_file, details_file
from pnm.predictions.image_predictions import Objects, Partition
from pnm.predictions.refinement import Chain
from pnm.predictions.refinement_details import Detailed, changed_pixels, details_of


class Grown:
    """Gives each mask a row more; says a confidence or none."""

    fingerprint = "grown"

    def __init__(self, confidence=None):
        self.confidence = confidence
        if confidence is not None:
            self.refine_detailed = lambda content, prediction: Detailed(
                self.refine(content, prediction), {0: confidence}
            )

    def read(self, image_file):
        return None

    def refine(self, content, prediction):
        return [MaskCrop(np.ones((one.pixels.shape[0] + 1, 3), bool), one.top, one.left) for one in prediction.masks]


OBJECTS = Objects((9, 9), (MaskCrop(np.ones((2, 3), bool), 1, 2),), (1.0,), (1,))


def chained(*steps):
    chain = Chain(steps)
    return details_of(OBJECTS, chain.refine_detailed({step.read: None for step in steps}, OBJECTS), "a")


def test_the_lowest_stated_confidence_counts_and_changes_are_those_of_the_whole_chain():
    (one,) = chained(Grown())
    assert one == (None, 3, (2, 1, 3, 3), None)
    assert chained(Grown(0.7), Grown(), Grown(0.9))[0] == (0.7, 9, (2, 1, 3, 5), None)


def test_changed_pixels_of_random_crops():
    rng = np.random.default_rng(0)
    for _ in range(50):
        masks = np.zeros((2, 12, 12), bool)
        for mask in masks:
            top, left, bottom, right = rng.integers(0, 13, 4)
            mask[min(top, bottom) : max(top, bottom), min(left, right) : max(left, right)] = True
        assert changed_pixels(*map(crop_array, masks)) == (masks[0] != masks[1]).sum()
    assert changed_pixels(EMPTY, EMPTY) == 0


def test_segments_without_pixels_are_left_out():
    labels = np.repeat(np.array([1, 1, 2, 3]), 3).reshape(4, 3)
    refined = np.where(labels == 2, 1, labels)
    details = details_of(Partition(labels, (1, 2, 3), (7, 7, 7)), Detailed(refined, {3: 0.5}), "a")
    assert details == [(None, 3, (0, 0, 3, 3), 1), (0.5, 0, (0, 3, 3, 1), 3)]


def test_names_of_files(tmp_path):
    assert details_file(tmp_path, 42) == tmp_path / "42.json"
    assert details_file(tmp_path, "../a/b.png") == tmp_path / "a/b.png.json"
    assert changes_file(tmp_path, "/c.png") == tmp_path / "c.png_changes.png"


def test_a_run_that_is_gone_on_with_has_details_of_all(tmp_path):
    report = DetailReport(tmp_path)
    report.check_done([])
    with pytest.raises(UserError, match="left no details of image 3 .* leave --details out, or delete"):
        report.check_done([3])
    report.add(3, OBJECTS, Detailed(list(OBJECTS.masks), {}))
    report.check_done([3])
    DetailReport().check_done([3])
