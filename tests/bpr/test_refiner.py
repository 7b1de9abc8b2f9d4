"""The refiner with networks whose output is known."""

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from scipy.ndimage import distance_transform_edt

from pnm.boundary_patches.extraction import boundary_patches
from pnm.errors import UserError
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import crop_array, crop_rle, paste
from pnm.metrics.instance_ap import InstanceMetrics
from pnm.projects.bpr import BoundaryPatchRefiner, InferenceSettings, PatchSettings, build_network
from pnm.projects.bpr.patches import patches_of

SETTINGS = {"size": 16, "input_size": 32, "threshold": 0.55}


def refiner(network="identity", task="instance", **options):
    torch.manual_seed(0)
    own = {key: options.pop(key) for key in list(options) if key in PatchSettings.__dataclass_fields__}
    settings = PatchSettings(task, **{**SETTINGS, **own})
    keys = InferenceSettings.__dataclass_fields__
    inference = InferenceSettings(**{key: options.pop(key) for key in list(options) if key in keys})
    colors = {"pixel_mean": [127.5] * 3, "pixel_std": [60.0] * 3}
    model = BoundaryPatchRefiner(
        build_network(network, False), settings=settings, inference=inference, **colors, **options
    )
    return model.eval()


def scene(seed=0, shape=(70, 90)):
    """A label map of blocks, a coarse one that is off by two pixels, and an image that shows the truth of a mask."""
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 4, (-(-shape[0] // 24), -(-shape[1] // 24)))
    truth = few.repeat(24, 0).repeat(24, 1)[: shape[0], : shape[1]].astype(np.int32)
    return truth, np.roll(truth, (2, -1), (0, 1))


def painted(mask):
    """(3, H, W) uint8, white where the mask is."""
    return torch.from_numpy(np.where(mask, 255, 0).astype(np.uint8))[None].repeat(3, 1, 1)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("shape", [(70, 90), (10, 200), (5, 7), (1, 1)])
def test_identity_network_changes_nothing(shape, padding):
    truth, coarse = scene(1, shape)
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    input_size = 32 if padding == 0 else 26 * 32  # whole multiples, so that resizing is exact
    masks = [coarse == k for k in range(4)] + [np.zeros(shape, bool), np.ones(shape, bool)]
    model = refiner(padding=padding, input_size=input_size)
    for mask, crop in zip(masks, model.refine_objects(image, [crop_array(m) for m in masks]), strict=True):
        assert np.array_equal(paste(crop, *shape), mask)
    for task in ("semantic", "panoptic"):
        model = refiner(task=task, padding=padding, input_size=input_size)
        assert np.array_equal(model.refine_partition(image, coarse, [0, 1, 2, 3]), coarse)


def test_oracle_network_gives_the_truth_in_the_band():
    """The network sees the truth in the image's colours; edges of a bilinearly enlarged step stay where they are."""
    truth, coarse = scene(2)
    mask, wanted = coarse == 1, truth == 1
    found = paste(refiner("color").refine_objects(painted(wanted), [crop_array(mask)])[0], *mask.shape)
    band = np.zeros(mask.shape, bool)
    for y, x in boundary_patches(mask, 16, 0.55):
        band[y : y + 16, x : x + 16] = True
    assert (mask != wanted).sum() > 50 and np.array_equal(found[band], wanted[band])
    assert np.array_equal(found[~band], mask[~band])


@pytest.mark.parametrize("network", ["patch_unet", "fcn_hrnet_w18s"])
def test_same_result_for_any_batch_size(network):
    _, coarse = scene(3)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *coarse.shape), dtype=np.uint8))
    crops = [crop_array(coarse == k) for k in range(4)]
    results = []
    for most in (16, 17, 40, 1000):
        model = refiner(network, max_patches_per_batch=most)
        corners, masks = zip(*(patches_of(crop, *coarse.shape, model.settings) for crop in crops))
        foreground = model._foreground(image, np.concatenate(corners), np.concatenate(masks))
        results.append((foreground, model.refine_objects(image, crops)))
    assert len(results[0][0]) > 40
    for foreground, refined in results[1:]:
        assert np.array_equal(foreground, results[0][0])  # to the last bit
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(refined, results[0][1], strict=True))


@pytest.mark.parametrize(("option", "tolerance"), [("channels_last", 1e-4), ("amp", 0.05)])
def test_memory_format_and_mixed_precision_change_little(option, tolerance):
    _, coarse = scene(3)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *coarse.shape), dtype=np.uint8))
    plain = refiner("patch_unet", channels_last=False)
    other = refiner("patch_unet", **{"channels_last": False, option: True})
    corners, masks = patches_of(crop_array(coarse == 1), *coarse.shape, plain.settings)
    channels_last = []
    for model in (plain, other):
        model.network.register_forward_pre_hook(
            lambda _, x: channels_last.append(x[0].is_contiguous(memory_format=torch.channels_last))
        )
    results = [model._foreground(image, corners, masks) for model in (plain, other)]
    assert results[1].dtype == np.float32 and np.abs(results[0] - results[1]).max() < tolerance
    if option == "amp":
        assert not np.array_equal(*results)
    else:  # the same arithmetic, in another order in memory
        assert channels_last == [False, True]


def test_prepared_inference_gives_the_same_until_it_is_trained():
    _, coarse = scene(3)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *coarse.shape), dtype=np.uint8))
    model = refiner("patch_unet")
    corners, masks = patches_of(crop_array(coarse == 1), *coarse.shape, model.settings)
    before = model._foreground(image, corners, masks)
    names = list(model.state_dict())
    model.prepare_inference()
    np.testing.assert_allclose(model._foreground(image, corners, masks), before, atol=1e-5)
    assert list(model.state_dict()) == names
    torch.nn.init.zeros_(model.network.predictor.weight)
    np.testing.assert_allclose(model._foreground(image, corners, masks), before, atol=1e-5)  # of the loaded weights
    assert np.ptp(model.train().eval()._foreground(image, corners, masks)) < 1e-6


@pytest.mark.parametrize("key", ["PRECISION_TEST", "BACKEND"])
def test_another_precision_or_backend_is_told(key):
    with pytest.raises(UserError, match=f"MODEL.BPR.{key} is 'best', expected one of"):
        refiner(**{"precision" if key == "PRECISION_TEST" else "backend": "best"})


def test_batches_are_bounded():
    _, coarse = scene(3)
    model = refiner("identity", max_patches_per_batch=32)
    model.refine_objects(torch.zeros(3, *coarse.shape, dtype=torch.uint8), [crop_array(coarse == k) for k in range(4)])
    assert max(model.network.seen) == 32 and len(model.network.seen) > 1


def test_patches_without_boundary_are_left_out_of_partitions():
    """A map of one class has only its frame as boundary: as an object it is looked at, as a segment it is not."""
    image, labels = torch.zeros(3, 60, 60, dtype=torch.uint8), np.ones((60, 60), np.int32)
    objects, segments = refiner(), refiner(task="semantic")
    objects.refine_objects(image, [crop_array(labels)])
    segments.refine_partition(image, labels, [1])
    assert objects.network.seen and not segments.network.seen


def test_outputs_as_evaluators_want_them():
    _, coarse = scene(4)
    size = coarse.shape
    image = torch.zeros(3, *size, dtype=torch.uint8)
    masks = np.stack([coarse == 1, coarse == 2, np.zeros(size, bool)])
    given = Instances(size, scores=torch.tensor([0.9, 0.5, 0.1]), pred_classes=torch.tensor([1, 0, 2]))
    given.pred_masks = torch.from_numpy(masks)
    (output,) = refiner()([{"image": image, "instances": given, "height": size[0], "width": size[1]}])
    found = output["instances"]
    assert torch.equal(found.scores, given.scores) and torch.equal(found.pred_classes, given.pred_classes)
    assert np.array_equal(found.pred_masks.numpy(), masks)
    for box, mask in zip(found.pred_boxes.tensor.tolist(), masks):
        y, x = np.nonzero(mask)
        assert box == ([x.min(), y.min(), x.max() + 1, y.max() + 1] if len(y) else [0, 0, 0, 0])

    labels = coarse.astype(np.uint8)
    labels[:3] = 255
    (output,) = refiner(task="semantic", num_classes=4)([{"image": image, "sem_seg": labels}])
    one_hot = output["sem_seg"].numpy()
    assert one_hot.shape == (4, *size) and np.array_equal(one_hot.argmax(0)[labels < 4], labels[labels < 4])
    assert not one_hot[:, labels == 255].any()

    ids = coarse + 100
    infos = [{"id": k, "isthing": False, "category_id": k - 100} for k in (100, 101, 102, 103)]
    (output,) = refiner(task="panoptic")([{"image": image, "panoptic_seg": (ids, infos)}])
    assert np.array_equal(output["panoptic_seg"][0].numpy(), ids)
    assert output["panoptic_seg"][1] == [s for s in infos if (ids == s["id"]).any()]


def test_no_objects_and_no_segments():
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    assert refiner().refine_objects(image, []) == []
    labels = np.full((20, 20), 255, np.int32)
    assert np.array_equal(refiner(task="semantic").refine_partition(image, labels, []), labels)


def test_losses_ignore_what_is_not_counted():
    model = refiner("identity").train()
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[:, 4:] = True
    batch = {
        "patches": torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        "inside_patches": torch.ones(2, 16, 16, dtype=torch.bool),
        "mask_patches": masks,
        "target_patches": masks.to(torch.uint8),
    }
    with EventStorage() as storage:
        right = model([batch])["loss_patch"]
        assert right.item() == pytest.approx(np.log1p(np.exp(-10)), rel=0.01)  # logit of 10, all right
        assert storage.latest()["bpr/refined_accuracy"][0] == 1
        targets = batch["target_patches"].clone()
        targets[0] = 1 - targets[0]
        wrong = model([{**batch, "target_patches": targets}])["loss_patch"]
        assert wrong.item() == pytest.approx(5, rel=1e-3)
        targets[0] = 255
        assert torch.equal(model([{**batch, "target_patches": targets}])["loss_patch"], right)
        nothing = model([{**batch, "target_patches": torch.full_like(targets, 255)}])["loss_patch"]
        nothing.backward()
        assert nothing.item() == 0


def test_table_1_in_kind(real_data):
    """Truth within 1, 2, 3 px of the predicted contour raises AP, the more the wider (Table 1 of the paper)."""
    labels = read_label_png(sorted((real_data / "cityscapes").rglob("*_instanceIds.png"))[0])
    gt, scores = [], {distance: [] for distance in (0, 1, 2, 3)}
    for id_ in np.unique(labels[labels >= 1000]):
        crop = crop_array(labels == id_)
        truth = np.pad(crop.pixels, 8)
        coarse = np.roll(truth, (4, -4), (0, 1))
        edge = np.zeros(truth.shape, bool)
        edge[:, 1:] |= coarse[:, 1:] != coarse[:, :-1]
        edge[1:] |= coarse[1:] != coarse[:-1]
        far = distance_transform_edt(~edge)
        gt.append({"id": len(gt) + 1, "iscrowd": 0, "area": int(truth.sum()), **row(truth)})
        for distance, found in scores.items():
            found.append({"score": 0.5, **row(np.where((far <= distance) & (distance > 0), truth, coarse))})
    values = []
    for found in scores.values():
        metric = InstanceMetrics([1], metrics=("segm",))
        for number, (true, coarse) in enumerate(
            zip(gt, found, strict=True)
        ):  # an image each, in which nothing overlaps
            metric.update(number, *true["segmentation"]["size"], [true], [coarse])
        values.append(metric.compute()["AP"])
    assert len(gt) > 5 and all(a + 0.02 < b for a, b in zip(values, values[1:])), values


def row(mask):
    return {"category_id": 1, "segmentation": crop_rle(crop_array(mask), *mask.shape)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "depth"}, "TASK is 'depth', expected one of instance, semantic, panoptic"),
        ({"input_size": 100}, "INPUT_SIZE is 100, expected a multiple of 32"),
        ({"size": 0}, "patch size is 0"),
        ({"padding": -1}, "padding is -1"),
        ({"max_patches_per_batch": 8}, "MAX_PATCHES_PER_BATCH is 8, expected at least 16"),
    ],
)
def test_errors(options, message):
    with pytest.raises(UserError, match=message):
        refiner(**options)
