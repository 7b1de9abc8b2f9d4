"""``MODEL.REFINING_STRENGTH``: which refiners have it, and what is said of others."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pnm.errors import UserError
from pnm.interior_offsets.field import InteriorOffsets
from pnm.masks.crops import crop_array
from pnm.projects.launcher.config import load_config


def config(name: str, strength: float):
    return load_config(f"quickstart/{name}.yaml", ["MODEL.REFINING_STRENGTH", str(strength)])


def test_segfix_moves_what_is_surer_of_a_boundary():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    boundary = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    offsets = InteriorOffsets(boundary, rng.integers(0, 8, (20, 30)).astype(np.uint8), 8)
    pixels = {}
    for strength in (0.0, 0.4, 1.0):
        model = build_model(config("segfix", strength))
        shift = model.shift(offsets)
        least = 1 - strength * (1 - model.settings.threshold)
        assert np.array_equal(shift.pixels, np.flatnonzero(boundary > least * 255))
        pixels[strength] = dict(zip(shift.pixels.tolist(), shift.sources.tolist()))
    assert not pixels[0.0] and 0 < len(pixels[0.4]) < len(pixels[1.0])
    assert pixels[0.4].items() <= pixels[1.0].items()


def test_bpr_takes_it_and_0_changes_nothing():
    model = build_model(config("bpr_instance", 0.0)).eval()
    image, mask = torch.zeros(3, 40, 50, dtype=torch.uint8), np.zeros((40, 50), np.bool_)
    mask[5:20, 5:30] = True

    (one,) = model.object_confidences(image, [crop_array(mask)])
    assert one.changed == 0 and one.confidence == 1 and one.crop.pixels.all()


def test_models_without_one_and_other_numbers_are_told():
    with pytest.raises(UserError, match="MODEL.REFINING_STRENGTH is 0.5, and GeneralizedRCNN has none"):
        config("mask_rcnn_R_18_FPN_PNM", 0.5)
    with pytest.raises(UserError, match="MODEL.REFINING_STRENGTH is 1.5, expected a number from 0"):
        config("bpr_instance", 1.5)
