"""``MODEL.REFINING_STRENGTH`` of PRN, and the probabilities that it goes by."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from torch import nn

from pnm.panoptic_grouping.grouping import GroupingSettings
from pnm.projects.prn.inference import InferenceSettings, Predicted
from pnm.projects.prn.label_probabilities import label_probabilities
from pnm.projects.prn.networks import Fields
from pnm.projects.prn.refiner import PanopticRefiner
from pnm.projects.refining import TrainedRefiner

NO_RESIZE = T.ResizeShortestEdge([0, 0])
EXACT = InferenceSettings(GroupingSettings(duplicate_iou=1.0), NO_RESIZE, sigma_px=2.0, stuff_area_px=0)
THINGS = 2


class Doubting(nn.Module):
    """Gives its input back, less sure of it the further to the right; the first instance has vanished."""

    classes = 4

    def features(self, batch):
        self.batch = batch
        return batch.classes, None

    def class_logits(self, features):
        logits = 2 * features
        logits[:, 2, :, 2:8] += 5.0
        return logits

    def fields(self, features, coordinates, rows=0):
        instances = self.batch.instances
        inside = (instances[:, 3:] != 0).any(1) | (instances[:, 0] == 1)
        logits = torch.where(inside, 5.0, -1.0) * torch.linspace(3, 0.1, inside.shape[-1])
        logits[:, :, 8:30] = -torch.linspace(0, 6, 22)
        return Fields(instances[:, 0], instances[:, 1:], logits)


def model(scene, strength):
    return PanopticRefiner(
        Doubting(),
        classes=scene.classes,
        inference=replace(EXACT, strength=strength),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    ).eval()


def image_of(scene):
    return torch.from_numpy(scene.image.transpose(2, 0, 1).copy())


def predicted(seed=0, size=(24, 32)):
    generator = torch.Generator().manual_seed(seed)
    fields = Fields(torch.zeros(1, *size), torch.zeros(1, 6, *size), torch.randn(1, *size, generator=generator))
    return Predicted(fields, torch.randn(4, size[0] // 4, size[1] // 4, generator=generator), size)


def test_probabilities_are_those_of_thing_or_stuff_times_that_of_the_class_among_them():
    one = predicted()
    classes = np.random.default_rng(0).integers(-1, 4, one.size)
    found = label_probabilities(one, classes, THINGS, replace(EXACT, strip_rows=7))
    logits = nn.functional.interpolate(one.logits[None], one.size, mode="bilinear", align_corners=False)[0].double()
    foreground = one.fields.foreground_logits[0].double().sigmoid()
    probs = torch.cat([logits[:2].softmax(0) * foreground, logits[2:].softmax(0) * (1 - foreground)])
    torch.testing.assert_close(probs.sum(0), torch.ones(one.size, dtype=torch.float64))
    expected = np.where(classes >= 0, np.take_along_axis(probs.numpy(), classes.clip(0)[None], 0)[0], 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_where_classes_alone_tell_the_foreground_they_are_the_probabilities():
    one = predicted(1)
    found = sum(
        label_probabilities(one, np.full(one.size, k), THINGS, replace(EXACT, foreground="semantic")) for k in range(4)
    )
    np.testing.assert_allclose(found, np.ones(one.size), atol=1e-5)


@pytest.mark.parametrize("size", [(24, 32), (50, 40)])
def test_another_size_and_numbers_that_are_none(size):
    one = predicted(2)
    one.logits[0, 0, 0] = float("nan")
    found = label_probabilities(one, np.zeros(size, np.int64), THINGS, EXACT)
    assert found.shape == size and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


def test_strength_is_from_nothing_to_all_and_changes_grow(scene, prediction):
    image, changed = image_of(scene), {}
    for strength in (0.0, 0.2, 0.5, 0.8, 1.0):
        after = model(scene, strength).refine_segments(image, prediction)
        assert set(np.unique(after.labels)) - {0} == set(after.segments)
        changed[strength] = after.labels != prediction.labels
    whole = model(scene, 1.0).relisted_certainties(image, prediction)
    moved = whole.refined.labels != prediction.labels
    assert not changed[0.0].any() and changed[1.0].any()
    for strength in (0.2, 0.5, 0.8):
        assert np.array_equal(changed[strength], moved & (whole.probs > 1 - strength / 2))
        assert 0 < changed[strength].sum() < moved.sum()


def test_nothing_changes_in_files_at_0_and_segments_say_how_sure_they_are(scene, prediction):
    of_file = replace(prediction, categories=(3, 7, 20, 21))
    still = TrainedRefiner(model(scene, 0.0), "panoptic").refine_detailed(scene.image, of_file)
    assert np.array_equal(still.refined.labels, of_file.labels) and still.refined.segments == of_file.segments
    assert still.refined.categories == of_file.categories and set(still.confidences.values()) == {1.0}
    refiner = TrainedRefiner(model(scene, 0.5), "panoptic")
    told = refiner.refine_detailed(scene.image, of_file)
    assert np.array_equal(told.refined.labels, refiner.refine(scene.image, of_file).labels)
    assert set(told.confidences) == set(told.refined.segments)
    assert all(0 <= sure <= 1 for sure in told.confidences.values()) and min(told.confidences.values()) < 1
