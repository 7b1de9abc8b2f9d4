"""Confidences of objects and of segments, by every refiner that says one, in the same way."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pnm.interior_offsets.field import InteriorOffsets
from pnm.interior_offsets.stored import OffsetSource
from pnm.masks.crops import crop_array, crop_segments, paste
from pnm.predictions import Objects, Partition
from pnm.predictions.offset_refiner import OffsetRefiner
from pnm.predictions.refinement_details import details_of
from pnm.projects.launcher.config import load_config
from pnm.projects.refining import TrainedRefiner

SIZE = 40, 56
LABELS = np.where(np.arange(SIZE[1]) < 25, 1, 2) + np.where(np.arange(SIZE[0]) < 18, 0, 4)[:, None]
SEGMENTS = (1, 2, 5, 6)
SMALL = ["MODEL.BPR.NETWORK", "patch_unet", "MODEL.BPR.PATCH_SIZE", "16", "MODEL.BPR.INPUT_SIZE", "32"]


def noise():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def bpr():
    torch.manual_seed(0)
    task = ["MODEL.BPR.TASK", "semantic"]
    return TrainedRefiner(build_model(load_config("quickstart/bpr_instance.yaml", SMALL + task)).eval(), "semantic")


@pytest.fixture
def offsets():
    rng = np.random.default_rng(1)
    return InteriorOffsets(rng.integers(0, 256, SIZE, np.uint8), rng.integers(0, 8, SIZE, np.uint8), 8)


@pytest.fixture
def segfix(offsets, monkeypatch):
    model = build_model(load_config("quickstart/segfix.yaml", [])).eval()
    monkeypatch.setattr(model, "offsets", lambda image: offsets)
    return TrainedRefiner(model, "semantic")


def means(before, after, probs):
    """Of changed pixels of each segment, by its label."""
    return {
        k: probs[(before != after) & ((before == k) | (after == k))].mean(dtype=np.float64)
        for k in SEGMENTS
        if ((before != after) & ((before == k) | (after == k))).any()
    }


@pytest.mark.parametrize("name", ["bpr", "segfix"])
def test_segments_say_the_mean_probability_of_what_changed(name, request):
    refiner, prediction = request.getfixturevalue(name), Partition(LABELS, SEGMENTS, SEGMENTS)
    told = refiner.refine_detailed(noise(), prediction)
    labels, probs = refiner.model.partition_certainties(refiner.image_tensor(noise(), SIZE), LABELS, SEGMENTS)
    assert np.array_equal(told.refined, labels) and (labels != LABELS).any()
    expected = means(LABELS, labels, probs)
    assert expected and min(expected.values()) > 0.5
    assert told.confidences == pytest.approx({k: expected.get(k, 1.0) for k in SEGMENTS}, abs=1e-6)
    for one in details_of(prediction, told, "a"):
        assert one.confidence == told.confidences[one.label]


def test_objects_of_segfix_with_and_without_a_store(segfix, offsets):
    crops = tuple(crop_segments(LABELS, SEGMENTS))
    objects = Objects(SIZE, crops, (1.0,) * 4, (0,) * 4)
    told = segfix.refine_detailed(noise(), objects)
    stored = OffsetRefiner(type("Stored", (), {"source": OffsetSource("m", 8, 0.5, 1.0, 8)})())
    again = stored.refine_detailed(offsets, objects)
    assert again.confidences == told.confidences
    for n, (before, after) in enumerate(zip(crops, told.refined)):
        changed = paste(before, *SIZE) != paste(after, *SIZE)
        assert told.confidences[n] == pytest.approx(offsets.boundary[changed].mean() / 255)
    partition = Partition(LABELS, SEGMENTS, SEGMENTS)
    assert (
        stored.refine_detailed(offsets, partition).confidences == segfix.refine_detailed(noise(), partition).confidences
    )


def test_an_object_that_did_not_change_is_sure(segfix, monkeypatch):
    nothing = InteriorOffsets(np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8), 8)
    monkeypatch.setattr(segfix.model, "offsets", lambda image: nothing)
    objects = Objects(SIZE, (crop_array(LABELS == 1),), (1.0,), (0,))
    assert segfix.refine_detailed(noise(), objects).confidences == {0: 1.0}
    assert segfix.refine_detailed(noise(), Partition(LABELS, SEGMENTS, SEGMENTS)).confidences == dict.fromkeys(
        SEGMENTS, 1.0
    )


def test_no_object_vanishes_in_python_either(segfix, monkeypatch):
    """Of an object of one pixel, which looks away from it."""
    labels = np.ones(SIZE, np.uint8)
    labels[20, 30] = 9
    away = InteriorOffsets(np.where(labels == 9, np.uint8(255), np.uint8(0)), np.zeros(SIZE, np.uint8), 8)
    monkeypatch.setattr(segfix.model, "offsets", lambda image: away)
    objects = Objects(SIZE, (crop_array(labels == 9),), (1.0,), (0,))
    told = segfix.refine_detailed(noise(), objects)
    assert told.confidences == {0: 0.0} and np.array_equal(paste(told.refined[0], *SIZE), labels == 9)
    assert np.array_equal(segfix.refine(noise(), Partition(labels, (1, 9), (1, 9))), labels)
    assert np.array_equal(segfix(noise(), labels), labels)
    segfix.task = "instance"
    assert np.array_equal(segfix(noise(), labels == 9), labels == 9)
