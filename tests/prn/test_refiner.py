"""PRN around a network whose output is known: what goes in, what is made of what comes out, and who keeps its id."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.utils.events import EventStorage
from torch import nn

from pnm.errors import UserError
from pnm.metrics.panoptic_quality import PanopticQuality
from pnm.panoptic_grouping.grouping import GroupingSettings
from pnm.predictions import Partition
from pnm.projects.prn import PanopticClasses
from pnm.projects.prn.inference import InferenceSettings
from pnm.projects.prn.networks import Fields, PanopticRefinementNetwork
from pnm.projects.prn.refiner import PanopticRefiner, class_shares
from pnm.projects.refining import TrainedRefiner

NO_RESIZE = T.ResizeShortestEdge([0, 0])
EXACT = InferenceSettings(GroupingSettings(duplicate_iou=1.0), NO_RESIZE, sigma_px=2.0, stuff_area_px=0)


class Copy(nn.Module):
    """A network whose output is its input; ``change`` may spoil it."""

    def __init__(self, classes, change=None):
        super().__init__()
        self.classes, self.change = classes, change

    def features(self, batch):
        self.batch = batch
        return batch.classes, None

    def class_logits(self, features):
        return 20 * features

    def fields(self, features, coordinates, rows=0):
        instances = self.batch.instances.clone()
        inside = (instances[:, 3:] != 0).any(1) | (instances[:, 0] == 1)
        fields = Fields(instances[:, 0], instances[:, 1:], torch.where(inside, 5.0, -5.0))
        return self.change(fields) if self.change else fields


def model(scene, change=None, **settings):
    return PanopticRefiner(
        Copy(len(scene.classes), change),
        classes=scene.classes,
        inference=replace(EXACT, **settings),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    ).eval()


def image_of(scene):
    return torch.from_numpy(scene.image.transpose(2, 0, 1).copy())


def refined(scene, prediction, change=None, **settings):
    """Through the model's forward, as train_net.py --eval-only does."""
    rows = [
        {"id": n, "category_id": k if k >= 0 else ~k, "isthing": k >= 0}
        for n, k in zip(prediction.segments, prediction.categories)
    ]
    given = {"image": image_of(scene), "panoptic_seg": (prediction.labels, rows)}
    labels, segments = model(scene, change, **settings)([given])[0]["panoptic_seg"]
    labels = labels.numpy()
    assert labels.shape == prediction.labels.shape
    assert set(np.unique(labels)) - {0} == {s["id"] for s in segments}  # the list and the map agree
    return labels, segments


def quality(prediction, labels, segments):
    score = PanopticQuality({1: True, 2: True, 11: False, 12: False})
    number = {0: 1, 1: 2, -2: 11, -3: 12}
    rows = [
        [{"id": n, "category_id": number[k], "iscrowd": 0} for n, k in zip(prediction.segments, prediction.categories)],
        [
            {"id": s["id"], "category_id": number[s["category_id"] if s["isthing"] else ~s["category_id"]]}
            for s in segments
        ],
    ]
    score.update(prediction.labels.astype(np.int64), rows[0], labels.astype(np.int64), rows[1])
    return score.compute().means["PQ"]


def test_a_copied_map_comes_back_with_its_ids(scene, prediction):
    """But for stuff's borders in cells of 4 x 4 px; void of the base is filled."""
    given = replace(prediction, labels=prediction.labels * 7, segments=(7, 14, 21, 28))
    labels, segments = refined(scene, given)
    things = np.isin(given.labels, (7, 14))
    assert np.array_equal(labels[things], given.labels[things]) and (labels > 0).all()
    assert [s["id"] for s in segments] == [7, 14, 21, 28]
    assert quality(given, labels, segments) > 0.97


@pytest.mark.parametrize("shortest", [32, 50, 128])
def test_a_network_of_another_size(scene, prediction, shortest):
    labels, segments = refined(scene, prediction, resize=T.ResizeShortestEdge([shortest, shortest], 400))
    assert quality(prediction, labels, segments) > (0.85 if shortest < 64 else 0.93)
    assert [s["id"] for s in segments] == [1, 2, 3, 4]


def without_first_instance(fields):
    """Its pixels are background."""
    logits = fields.foreground_logits.clone()
    logits[:, :, 8:30] = -5.0
    return fields._replace(foreground_logits=logits)


def test_an_instance_can_vanish(scene, prediction):
    labels, segments = refined(scene, prediction, without_first_instance)
    assert [s["id"] for s in segments] == [2, 3, 4] and not (labels == 1).any()
    assert (labels > 0).all()  # no hole


def test_an_instance_can_appear_with_a_new_id(scene, prediction):
    without = np.where(prediction.labels == 2, 3, prediction.labels)
    given = Partition(without * 5, (5, 15, 20, 90), (0, -2, -3, -3))
    given = replace(given, labels=np.where(scene.labels == 0, 90, given.labels))

    def with_second(fields):
        labels = (scene.labels == 2).astype(np.int32)
        from pnm.panoptic_grouping.encoding import instance_fields

        new = torch.from_numpy(instance_fields(labels, 1, 2.0).stacked())[None]
        mask = torch.from_numpy(labels > 0)
        heat, offsets, logits = (part.clone() for part in fields)
        heat = torch.maximum(heat, new[:, 0])
        offsets[:, :, mask] = new[:, 1:, mask]
        logits[:, mask] = 5.0
        return Fields(heat, offsets, logits)

    labels, segments = refined(scene, given, with_second)
    new = [s for s in segments if s["isthing"] and s["id"] != 5]
    assert len(new) == 1 and new[0]["id"] > 90  # above the largest
    assert np.array_equal(labels == new[0]["id"], scene.labels == 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_whatever_the_network_says_a_partition_comes_out(scene, prediction, part, value):
    def spoil(fields):
        parts = [field.clone() for field in fields]
        parts[part][..., ::3, :] = value
        return Fields(*parts)

    labels, _ = refined(scene, prediction, spoil)
    assert (labels > 0).all()


@pytest.mark.parametrize("fill", [True, False])
def test_small_stuff_goes_to_other_stuff_or_to_void(scene, prediction, fill):
    labels = prediction.labels.copy()
    labels[:, 93:] = 3
    labels[56:64, 80:88] = 4
    given = replace(prediction, labels=np.where(labels == 4, 3, labels))
    given.labels[56:64, 80:88] = 4
    after, segments = refined(scene, given, stuff_area_px=100, fill_holes=fill)
    assert [s["id"] for s in segments] == [1, 2, 3]
    assert (after[58:62, 82:86] == (3 if fill else 0)).all()  # corners are rounded


def test_foreground_without_instance_is_stuff_or_void(scene, prediction):
    def no_centre(fields):
        return fields._replace(heat=torch.zeros_like(fields.heat))

    labels, segments = refined(scene, prediction, no_centre)
    assert not any(s["isthing"] for s in segments) and (labels > 0).all()
    labels, _ = refined(scene, prediction, no_centre, fill_holes=False)
    assert np.array_equal(labels == 0, np.isin(prediction.labels, (1, 2)))


def test_foreground_of_the_semantic_branch(scene, prediction):
    def everywhere(fields):
        return fields._replace(foreground_logits=torch.full_like(fields.foreground_logits, 5.0))

    labels, segments = refined(scene, prediction, everywhere, foreground="semantic")
    assert quality(prediction, labels, segments) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (31, 40)])
@pytest.mark.parametrize("kind", ["thing", "stuff", "void"])
def test_maps_of_one_kind_and_any_size(scene, size, kind):
    labels = np.full(size, 0 if kind == "void" else 4, np.int32)
    given = Partition(labels, () if kind == "void" else (4,), () if kind == "void" else (0 if kind == "thing" else -2,))
    small = scene._replace(image=np.zeros((*size, 3), np.uint8))
    after, segments = refined(small, given)
    assert (after > 0).all()  # void is filled by stuff
    if kind != "void":
        assert [s["id"] for s in segments] == [4]


@pytest.mark.parametrize("ids", [(1, 2, 3, 4), (4, 3, 2, 1), (26001, 26002, 7000, 11000), (2**24 - 1, 5, 9, 300)])
def test_input_does_not_depend_on_ids(scene, prediction, ids):
    """As Panoptic FPN, DETR (read as ids + 1) and Panoptic-DeepLab number the same map."""
    table = np.array([0, *ids])
    other = Partition(table[prediction.labels], ids, prediction.categories)
    one, two = (model(scene).network_input(image_of(scene), given) for given in (prediction, other))
    for a, b in zip(one[:3], two[:3], strict=True):
        assert torch.equal(a, b)


def test_stuff_in_several_segments_counts_as_one(scene, prediction):
    halves = prediction.labels.copy()
    halves[:, 48:][halves[:, 48:] == 4] = 9
    other = Partition(halves, (1, 2, 3, 4, 9), (*prediction.categories, -3))
    one, two = (model(scene).network_input(image_of(scene), given) for given in (prediction, other))
    assert torch.equal(one.classes, two.classes) and torch.equal(one.instances, two.instances)


def test_without_stuff_classes_no_hole_comes_up():
    """Pixels of no instance take the nearest; where there is none, the map stays."""
    classes = PanopticClasses(((3, 0),), ())
    for centres in (1.0, 0.0):
        network = Copy(1, lambda fields, centres=centres: fields._replace(heat=centres * fields.heat))
        only_things = PanopticRefiner(
            network, classes=classes, inference=EXACT, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3
        ).eval()
        labels = np.zeros((32, 48), np.int32)
        labels[4:20, 4:20], labels[8:30, 24:44] = 1, 2
        given = Partition(labels, (1, 2), (0, 0))
        after = only_things.refine_segments(torch.zeros(3, 32, 48, dtype=torch.uint8), given)
        assert np.array_equal(after.labels > 0, labels > 0) and len(after.segments) == 2


def test_shares_of_classes_in_cells():
    labels = torch.tensor([[0, 0, 1, 1, 255, 2, 2, 2]] * 4)[None]
    shares = class_shares(labels, 3)
    assert shares.shape == (1, 3, 1, 2)
    assert shares[0, :, 0].T.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.75]]


def test_checkpoints_hold_the_classes_so_that_files_can_be_refined(scene, prediction):
    trained = model(scene)
    loaded = PanopticRefiner(Copy(4), classes=(2, 2), inference=EXACT, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3).eval()
    loaded.load_state_dict(trained.state_dict())
    assert loaded.classes == scene.classes
    of_file = replace(prediction, categories=(3, 7, 20, 21))
    after = TrainedRefiner(loaded, "panoptic").refine(scene.image, of_file)
    assert isinstance(after, Partition) and after.categories == (3, 7, 20, 21) and after.segments == (1, 2, 3, 4)
    strange = replace(prediction, categories=(3, 8, 20, 21))
    with pytest.raises(UserError, match=r"the prediction has categories \[8\], the model knows \[3, 7, 20, 21\]"):
        TrainedRefiner(loaded, "panoptic").refine(scene.image, strange)
    with pytest.raises(UserError, match="takes a pnm.Partition, which has them: call refine"):
        TrainedRefiner(loaded, "panoptic")(scene.image, prediction.labels)


def samples(scene, prediction, **changes):
    from pnm.projects.prn import PanopticMapMapper

    mapper = PanopticMapMapper(
        is_train=True, coarse=lambda entry: prediction, classes=scene.classes, degraded_share=0, sigma_px=2.0
    )
    return {**mapper(scene.entry), **changes}


def training_model(scene, **options):
    torch.manual_seed(0)
    small = {"encoder_width": 8, "input_width": 8, "decoder_width": 8, "head_width": 8}
    return PanopticRefiner(
        PanopticRefinementNetwork("resnet10", 4, **small),
        classes=scene.classes,
        inference=EXACT,
        pixel_mean=[120.0] * 3,
        pixel_std=[60.0] * 3,
        **options,
    )


def losses_of(trained, sample):
    with EventStorage(0):
        return trained([sample])


def test_the_five_losses_and_their_weights(scene, prediction):
    trained, sample = training_model(scene), samples(scene, prediction)
    losses = losses_of(trained, sample)
    assert set(losses) == {f"loss_prn_{name}" for name in ("semantic", "center", "offset", "box", "foreground")}
    assert all(torch.isfinite(loss) for loss in losses.values())
    trained.loss_weights = dict.fromkeys(trained.loss_weights, 1.0)
    plain = losses_of(trained, sample)
    for name, weight in zip(("semantic", "center", "offset", "box", "foreground"), (1, 200, 0.02, 0.02, 5)):
        torch.testing.assert_close(losses[f"loss_prn_{name}"], weight * plain[f"loss_prn_{name}"])


@pytest.mark.parametrize("stride", [1, 4])
def test_void_and_crowds_change_nothing(scene, prediction, stride):
    """Targets there may be anything; of a crowd, the class counts."""
    trained, sample = training_model(scene, loss_stride=stride), samples(scene, prediction)
    crowd, void = (torch.from_numpy(scene.labels == n) for n in (5, 0))
    target = sample["target"].clone()
    target[:, crowd | void] = 1e6
    results = []
    for given in (sample, {**sample, "target": target}):
        trained.zero_grad()
        sum(losses_of(trained, given).values()).backward()
        results.append([p.grad.clone() for p in trained.parameters() if p.grad is not None])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    other_class = sample["sem_seg"].clone()
    other_class[crowd] = 0
    assert not torch.equal(
        losses_of(trained, sample)["loss_prn_semantic"],
        losses_of(trained, {**sample, "sem_seg": other_class})["loss_prn_semantic"],
    )


def test_unit_pixel_weights_change_nothing_and_others_do(scene, prediction):
    trained, sample = training_model(scene), samples(scene, prediction)
    ones = torch.ones(sample["sem_seg"].shape)
    plain = losses_of(trained, sample)
    unit, heavy = (losses_of(trained, {**sample, "pixel_weights": factor * ones}) for factor in (1, 3))
    for name in plain:
        torch.testing.assert_close(unit[name], plain[name])
        factor = 3 if name in ("loss_prn_semantic", "loss_prn_foreground") else 1
        torch.testing.assert_close(heavy[name], factor * plain[name])


def test_small_instances_can_weigh_more(scene, prediction):
    sample = samples(scene, prediction)
    one, three = (
        losses_of(training_model(scene, small_instance_weight=w), sample)["loss_prn_semantic"] for w in (1.0, 3.0)
    )
    assert three > one


def test_nothing_to_learn_gives_zeros_that_can_be_differentiated(scene, prediction):
    sample = samples(scene, prediction)
    for key in ("sem_seg", "foreground"):
        sample[key] = torch.full_like(sample[key], 255)
    trained = training_model(scene)
    losses = losses_of(trained, sample)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert not any(p.grad is None or p.grad.any() for p in trained.parameters())


def test_two_scenes_are_learned_by_heart(scene, prediction):
    """What is degraded comes out right: instances that the prediction lacks are there, with their classes."""
    wrong = replace(prediction, labels=np.where(prediction.labels == 2, 3, prediction.labels))
    trained, sample = training_model(scene).to(memory_format=torch.channels_last), samples(scene, wrong)
    optimizer = torch.optim.Adam(trained.parameters(), 3e-3, fused=True)
    for _ in range(110):
        optimizer.zero_grad()
        sum(losses_of(trained, sample).values()).backward()
        optimizer.step()
    after = with_ids = trained.eval().refine_segments(image_of(scene), wrong)
    assert with_ids.segments
    truth = replace(prediction, labels=np.where(scene.labels == 5, 3, scene.labels))
    rows = [
        {"id": n, "category_id": k if k >= 0 else ~k, "isthing": k >= 0}
        for n, k in zip(after.segments, after.categories)
    ]
    assert quality(truth, after.labels, rows) > 0.8
