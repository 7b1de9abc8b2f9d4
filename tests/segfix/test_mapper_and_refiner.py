"""What a sample holds for each kind of ground truth, and a model that predicts what is painted into the image."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn

from pnm.errors import UserError
from pnm.interior_offsets.directions import NO_DIRECTION, turned_bins
from pnm.interior_offsets.targets import IGNORED, offset_targets
from pnm.masks.crops import crop_array
from pnm.projects.launcher.config import load_config
from pnm.projects.segfix import OffsetMapper, OffsetSettings, SegFix
from pnm.projects.segfix.mapper import augmentations
from pnm.projects.segfix.networks import OffsetLogits

SIZE = 60, 80


@pytest.fixture
def folder(tmp_path):
    """An image, and labels of it: two objects on two stuff classes, and void."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(tmp_path / "image.png")
    labels = np.zeros(SIZE, np.uint8)
    labels[30:] = 1
    labels[10:40, 10:30] = 2
    labels[20:50, 40:70] = 3
    labels[:, 76:] = 255
    Image.fromarray(labels).save(tmp_path / "labels.png")
    ids = labels.astype(np.int32) + 1000
    ids[labels == 255] = 0
    Image.fromarray(np.stack([ids % 256, ids // 256, 0 * ids], 2).astype(np.uint8)).save(tmp_path / "panoptic.png")
    return tmp_path


def labels_of(folder):
    return np.asarray(Image.open(folder / "labels.png"))


def entry_of(folder, task):
    labels = labels_of(folder)
    entry = {"file_name": str(folder / "image.png"), "image_id": 1}
    if task == "semantic":
        return {**entry, "sem_seg_file_name": str(folder / "labels.png")}
    if task == "panoptic":
        segments = [{"id": 1000 + k, "category_id": k, "isthing": k > 1} for k in range(4)]
        return {**entry, "pan_seg_file_name": str(folder / "panoptic.png"), "segments_info": segments}
    rows = []
    for k, crowd in ((2, 0), (3, 0), (255, 1)):
        rle = coco_mask.encode(np.asfortranarray((labels == k).astype(np.uint8)))
        rows.append({"category_id": k, "iscrowd": crowd, "segmentation": rle, "bbox": [0, 0, 1, 1]})
    return {**entry, "annotations": rows}


def mapper(task, **options):
    return OffsetMapper(OffsetSettings(task), is_train=True, coarse=None, **options)


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_targets_of_each_kind_of_truth(folder, task):
    labels = labels_of(folder).astype(np.int32)
    if task == "instance":  # stuff is background
        labels[labels < 2] = 0
    sample = mapper(task)(entry_of(folder, task))
    expected = offset_targets(np.where(labels == 255, -1, labels), ignore_label=-1)
    assert np.array_equal(sample["boundary"], expected.boundary)
    assert np.array_equal(sample["directions"], expected.directions)
    assert (sample["boundary"].numpy()[labels == 255] == IGNORED).all() and (sample["boundary"] == 1).any()
    assert sample["image"].shape == (3, *SIZE) and sample["image"].dtype == torch.uint8


def test_overlapping_objects_are_drawn_with_the_smaller_above(folder):
    small, large = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    small[20:30, 20:30], large[10:50, 10:60] = 1, 1
    entry = entry_of(folder, "instance")
    entry["annotations"] = [
        {"category_id": 0, "segmentation": coco_mask.encode(np.asfortranarray(m)), "bbox": [0, 0, 1, 1]}
        for m in (small, large)
    ]
    labels = mapper("instance").label_map(entry, *SIZE)
    assert np.array_equal(labels, np.where(small, 1, np.where(large, 2, 0)))
    assert (mapper("instance").label_map({**entry, "annotations": []}, *SIZE) == 0).all()


def test_augmentations_move_image_and_targets_together(folder):
    cfg = load_config("Base-SegFix.yaml", ["INPUT.CROP.SIZE", "(40,48)", "INPUT.COLOR_AUG_SSD", "True"])
    np.random.seed(0)  # noqa: NPY002 - which Detectron2's augmentations draw from
    plain, seen = mapper("semantic")(entry_of(folder, "semantic")), set()
    of_bin = np.concatenate([turned_bins(8, "horizontal"), np.full(248, NO_DIRECTION)])
    augmented = mapper("semantic", augmentations=[a for a in augmentations(cfg) if "Crop" not in type(a).__name__])
    for _ in range(8):
        sample = augmented(entry_of(folder, "semantic"))
        is_flipped = not np.array_equal(sample["boundary"], plain["boundary"])
        seen.add(is_flipped)
        expected = of_bin[plain["directions"].numpy()[:, ::-1]] if is_flipped else plain["directions"].numpy()
        assert np.array_equal(sample["directions"], expected)
    assert seen == {True, False}
    cropped = mapper("semantic", augmentations=augmentations(cfg))(entry_of(folder, "semantic"))
    assert cropped["image"].shape == (3, 40, 48) and cropped["boundary"].shape == (40, 48)


def test_truth_that_does_not_fit(folder):
    with pytest.raises(UserError, match="image.png: its data set has no label PNGs"):
        mapper("semantic")(entry_of(folder, "instance"))
    Image.fromarray(labels_of(folder)[:20]).save(folder / "labels.png")
    with pytest.raises(UserError, match="is 60 x 80, but its labels have another size"):
        mapper("semantic")(entry_of(folder, "semantic"))


class PaintedNetwork(nn.Module):
    """Reads boundary and direction out of the image's channels: 250 is a boundary, then bins by tens."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        boundary = self.scale * (x[:, 0] > 200)
        bins = (x[:, 1] / 10).round().long().clamp(0, 7)
        direction = self.scale * nn.functional.one_hot(bins, 8).movedim(-1, 1)
        return OffsetLogits(torch.stack([self.scale * 0.5 - 0 * boundary, boundary], 1), direction)


def painted(labels):
    targets = offset_targets(labels)
    known = targets.directions != NO_DIRECTION
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 0] = np.where(known, 250, 0)
    image[..., 1] = np.where(known, targets.directions, 0) * 10
    return torch.from_numpy(image.transpose(2, 0, 1).copy()), targets


def model(task="semantic", **settings):
    options = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3, "num_classes": 4}
    return SegFix(PaintedNetwork(), settings=OffsetSettings(task, **settings), **options).eval()


def test_offsets_are_what_the_network_says(folder):
    labels = np.minimum(labels_of(folder), 4)
    image, targets = painted(labels)
    offsets = model().offsets(image)
    assert np.array_equal(offsets.on_boundary(), targets.directions) and offsets.size == SIZE


def test_the_three_tasks(folder):
    labels = np.minimum(labels_of(folder), 3).astype(np.int32)
    image, _ = painted(labels)
    coarse = np.roll(labels, 2, axis=0)
    semantic = model()([{"image": image, "sem_seg": coarse}])[0]["sem_seg"]
    refined = semantic.argmax(0).numpy()
    assert (refined != labels).sum() < 0.4 * (coarse != labels).sum()
    segments = [{"id": k, "category_id": k, "isthing": True} for k in range(1, 4)]
    panoptic, infos = model("panoptic")([{"image": image, "panoptic_seg": (coarse, segments)}])[0]["panoptic_seg"]
    assert ((panoptic.numpy() == 0) <= (coarse == 0)).all() and infos == segments
    instances = Instances(SIZE, scores=torch.tensor([0.5, 0.25]), pred_classes=torch.tensor([2, 3]))
    instances.pred_masks = torch.from_numpy(np.stack([coarse == 2, coarse == 3]))
    found = model("instance")([{"image": image, "instances": instances}])[0]["instances"]
    assert found.scores.tolist() == [0.5, 0.25] and found.pred_masks.shape == (2, *SIZE)
    for k, mask in zip((2, 3), found.pred_masks.numpy()):
        assert (mask != (labels == k)).sum() < 0.4 * ((coarse == k) != (labels == k)).sum()
    refiner = model("instance")
    assert (
        refiner.refine_objects(image, []) == [] and len(refiner.refine_objects(image, [crop_array(coarse == 9)])) == 1
    )


def test_odd_sizes_and_one_pixel():
    for size in ((1, 1), (33, 7), (64, 31)):
        labels = np.zeros(size, np.uint8)
        assert np.array_equal(model().refine_partition(painted(labels)[0], labels, [0]), labels)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.SEGFIX.TASK", "boxes"], "MODEL.SEGFIX.TASK is 'boxes', expected one of instance, semantic, panoptic"),
        (["MODEL.SEGFIX.BINS", "12"], "directions have 12 bins, expected a multiple of 8"),
        (["MODEL.SEGFIX.DIRECTION", "sobel"], "direction is 'sobel'"),
        (["MODEL.SEGFIX.STEPS", "0"], "steps is 0 and scale 1.0, expected whole steps from 1 to 255"),
        (["MODEL.SEGFIX.STEPS", "800000000"], "steps is 800000000 and scale"),
        (["MODEL.SEGFIX.BOUNDARY_THRESHOLD", "1.0"], "BOUNDARY_THRESHOLD is 1.0, expected a number between 0 and 1"),
        (["MODEL.PNM.ENABLED", "True"], "pixel weights do not apply to SegFix"),
        (["DATASETS.PREDICTIONS_TRAIN", "('a.json',)"], "SegFix learns from images and ground truth alone"),
    ],
)
def test_configs_that_cannot_be(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config("quickstart/segfix.yaml", overrides)


def test_the_field_is_logged_as_json_can_hold_it(folder):
    """Training, a step: losses are finite and scalars are written."""
    from detectron2.utils.events import EventStorage

    sample = mapper("semantic")(entry_of(folder, "semantic"))
    trained = model().train()
    with EventStorage(0) as storage:
        losses = trained.losses([sample, sample])
        sum(losses.values()).backward()
        latest = {name: value for name, (value, _) in storage.latest().items()}
    assert set(losses) == {"loss_segfix_boundary", "loss_segfix_direction"}
    assert all(torch.isfinite(value) for value in losses.values())
    assert 0 <= json.loads(json.dumps(latest["segfix/direction_accuracy"])) <= 1
