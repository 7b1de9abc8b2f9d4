"""Steps one after the other, some of which change the list of segments."""

import argparse

import numpy as np
import pytest
from PIL import Image

from pnm.predictions import Partition
from pnm.predictions.one_mask import refine_one
from pnm.predictions.refinement import Chain

from .steps import Gives

COARSE = Partition(np.array([[5, 5, 5, 9, 9, 9]]), (5, 9), (1, 2))


def refined_by(*steps):
    chain = Chain(steps)
    return chain.refine(chain.read(None), COARSE)


def shifted(prediction):
    return np.roll(prediction.labels, 1)


def relisted(prediction):
    """Two in three pixels of 5 stay, 9 becomes of class 3."""
    return Partition(np.array([[1, 1, 0, 2, 2, 2]]), (2, 1), (3, 1))


def test_labels_stay_labels():
    steps = Gives(shifted), Gives(shifted)
    assert refined_by(*steps).tolist() == np.roll(COARSE.labels, 2).tolist()
    assert steps[1].prediction.segments == COARSE.segments


def test_steps_between_see_the_ids_of_the_base():
    steps = Gives(shifted), Gives(relisted), Gives(shifted)
    result = refined_by(*steps)
    assert steps[1].prediction.labels.tolist() == [[9, 5, 5, 5, 9, 9]]
    before = steps[2].prediction
    assert before.labels.tolist() == [[5, 5, 0, 10, 10, 10]]
    assert before.segments == result.segments == (5, 10) and result.categories == (1, 3)
    assert isinstance(result, Partition) and result.labels.tolist() == [[10, 5, 5, 0, 10, 10]]


def test_the_last_list_counts():
    whole = Gives(lambda prediction: Partition(np.full((1, 6), 4), (4,), (1,)))
    result = refined_by(Gives(relisted), whole)
    assert result.segments == (4,) and result.labels.tolist() == [[4] * 6]
    assert refined_by(whole, Gives(relisted)).segments == (2, 1)


def test_one_png_has_no_classes(tmp_path):
    Image.fromarray(COARSE.labels.astype(np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(np.zeros(COARSE.labels.shape, np.uint8)).save(tmp_path / "i.jpg")
    args = argparse.Namespace(
        details=None,
        image=tmp_path / "i.jpg",
        mask=tmp_path / "mask.png",
        output=tmp_path / "out.png",
        resize_mask=False,
        mask_kind="auto",
        invert=False,
    )
    with pytest.raises(
        ValueError, match="mask.png is one picture, .* takes panoptic result files, a JSON and its PNGs"
    ):
        refine_one(args, Gives(relisted), "panoptic")
    assert not args.output.exists()
