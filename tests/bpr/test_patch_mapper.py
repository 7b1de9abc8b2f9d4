"""Patches for training: what they show of image, coarse masks and truth."""

import numpy as np
import pytest
import torch
from PIL import Image

from pnm.errors import UserError
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.formats.label_png import read_label_png
from pnm.masks.crops import crop_array, crop_rle, paste
from pnm.predictions import Objects, Partition
from pnm.projects.bpr import BoundaryPatchMapper, PatchSettings
from pnm.projects.launcher.config import load_config
from pnm.projects.refining.truths import Truth, coarse_masks, match, semantic_truth

SHAPE = 90, 110


@pytest.fixture
def scene(tmp_path):
    """Files of an image whose red channel is the truth, class 1 of {0, 1}, with a void patch."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[30:60, 40:75] = 1
    labels = truth.copy()
    labels[25:30, 40:50] = 255
    image = np.stack([truth * 200, np.full(SHAPE, 7, np.uint8), np.full(SHAPE, 9, np.uint8)], -1)
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(ids_to_rgb(np.where(labels == 255, 0, labels + 1).astype(np.int32))).save(tmp_path / "ids.png")
    rle = crop_rle(crop_array(truth), *SHAPE)
    crowd = np.zeros(SHAPE, bool)
    crowd[30:40, 40:75] = True
    entry = {
        "file_name": str(tmp_path / "image.png"),
        "image_id": 1,
        "sem_seg_file_name": str(tmp_path / "labels.png"),
        "pan_seg_file_name": str(tmp_path / "ids.png"),
        "segments_info": [
            {"id": 1, "category_id": 3, "isthing": False},
            {"id": 2, "category_id": 3, "isthing": True},
        ],
        "annotations": [
            {"category_id": 0, "segmentation": rle, "iscrowd": 0},
            {"category_id": 0, "segmentation": crop_rle(crop_array(crowd), *SHAPE), "iscrowd": 1},
        ],
    }
    return entry, truth.astype(bool), crowd


def objects(*masks, categories=None):
    crops = tuple(crop_array(mask) for mask in masks)
    return Objects(SHAPE, crops, (0.5,) * len(masks), tuple(categories or [0] * len(masks)))


def mapper(task, coarse, **options):
    settings = PatchSettings(task, size=16, input_size=32, padding=options.pop("padding", 0), threshold=0.25)
    return BoundaryPatchMapper(
        settings, is_train=True, coarse=coarse and (lambda entry: coarse), flip="none", **options
    )


@pytest.mark.parametrize("padding", [0, 4])
def test_patches_show_image_coarse_and_truth(scene, padding):
    entry, truth, crowd = scene
    coarse = np.roll(truth, (2, -2), (0, 1))
    found = mapper("instance", objects(coarse), padding=padding, patches_per_image=1000)(entry)
    side = 16 + 2 * padding
    assert found["patches"].shape[1:] == (3, side, side) and found["patches"].dtype == torch.uint8
    red = found["patches"][:, 0] == 200
    inside = found["inside_patches"]
    target = found["target_patches"]
    assert inside.all()  # the object is far from the frame
    assert torch.equal(target[target != 255] == 1, red[target != 255])
    assert (target == 255).any()  # the crowd
    assert ((target == 255) <= red).all()
    assert (found["mask_patches"] != red).any()
    assert len(found["patches"]) > 8
    few = mapper("instance", objects(coarse), patches_per_image=3)(entry)
    assert len(few["patches"]) == 3


def test_only_matches_of_the_same_class_are_learned_from(scene):
    entry, truth, _ = scene
    coarse = np.roll(truth, 3, 1)
    far = np.roll(truth, 20, 1)  # IoU below one half
    assert mapper("instance", objects(far))(entry) is None
    assert mapper("instance", objects(coarse, categories=[1]))(entry) is None
    assert mapper("instance", objects())(entry) is None
    assert mapper("instance", objects(far, coarse))(entry) is not None


def test_masks_match_above_an_iou_of_one_half():
    """A mask of 10 columns and one of 6 of them, or 5: IoU 0.6 is above the limit, 0.5 is not."""
    columns = np.zeros((8, 12), bool)
    columns[:, 1:11] = True
    truth = Truth([crop_array(columns)], [0], crop_array(np.zeros((8, 12), bool)))
    for width, is_matched in ((6, True), (5, False)):
        part = np.zeros((8, 12), bool)
        part[:, 1 : 1 + width] = True
        coarse = Objects((8, 12), (crop_array(part),), (1.0,), (0,))
        assert bool(match(truth, coarse, load_config("quickstart/bpr_instance").MODEL.BPR.MATCH_IOU)) == is_matched


def test_the_mapper_does_what_the_config_says():
    changes = ["DATASETS.PREDICTIONS_TRAIN", "()", "MODEL.BPR.MATCH_IOU", "0.6", "MODEL.BPR.PATCHES_PER_IMAGE", "7"]
    axes = {"none": None, "horizontal": -1, "vertical": -2}
    for flip, axis in axes.items():
        cfg = load_config("quickstart/bpr_instance", [*changes, "INPUT.RANDOM_FLIP", flip])
        mapper = BoundaryPatchMapper.from_config(cfg, is_train=True)
        assert (mapper.flip_axis, mapper.match_iou, mapper.patches_per_image) == (axis, 0.6, 7)


@pytest.mark.parametrize("flip", ["horizontal", "vertical"])
def test_flip_turns_all_alike_and_about_its_axis(scene, flip):
    entry, truth, _ = scene
    coarse, settings = objects(np.roll(truth, 2, 1)), PatchSettings("instance", 16, 0, 32)
    samples = {}
    for name in ("none", flip):
        np.random.seed(0)  # noqa: NPY002 - the mapper draws from it
        options = {"is_train": True, "coarse": lambda entry: coarse, "patches_per_image": 200, "flip": name}
        samples[name] = BoundaryPatchMapper(settings, **options)(entry)
    plain, flipped = samples["none"], samples[flip]
    target = flipped["target_patches"]
    assert torch.equal(target[target != 255] == 1, flipped["patches"][:, 0][target != 255] == 200)
    axis = {"horizontal": -1, "vertical": -2}[flip]
    is_turned = [not torch.equal(a, b) for a, b in zip(plain["target_patches"], target)]
    assert any(is_turned) and not all(is_turned)
    for key in ("patches", "inside_patches", "mask_patches", "target_patches"):
        for before, after, turned in zip(plain[key], flipped[key], is_turned):
            assert torch.equal(before.flip(axis) if turned else before, after)


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_partitions(scene, task):
    entry, truth, _ = scene
    labels = np.roll(truth, 2, 1).astype(np.int32)
    coarse = Partition(labels, (0, 1), (0, 1))
    if task == "panoptic":
        coarse = Partition(labels + 7, (7, 8), (~3, 3))  # stuff 3 and thing 3
    found = mapper(task, coarse, patches_per_image=1000)(entry)
    target, mask = found["target_patches"], found["mask_patches"]
    red = found["patches"][:, 0] == 200
    counted = target != 255
    is_object = (target[counted] == 1) == red[counted]
    # Patches of class 1 show the object as foreground, those of class 0 all but the object.
    of_one = torch.stack([((t == 1) == r)[t != 255].all() for t, r in zip(target, red)])
    of_zero = torch.stack([((t == 1) != r)[t != 255].all() for t, r in zip(target, red)])
    assert (of_one | of_zero).all() and of_one.any() and of_zero.any() and is_object.any()
    assert not mask.all(dim=(1, 2)).any()  # patches filled with foreground are dropped
    assert (target == 255).any()  # the void patch


def test_degraded_truth_needs_no_predictions(scene):
    entry, truth, _ = scene
    np.random.seed(0)  # noqa: NPY002 - what Detectron2 seeds
    for task in ("instance", "semantic", "panoptic"):
        found = [mapper(task, None, patches_per_image=50)(entry) for _ in range(5)]
        wrong = [(f["mask_patches"] != (f["target_patches"] == 1))[f["target_patches"] != 255].any() for f in found]
        assert any(wrong)


def test_inference_input(scene):
    entry, truth, _ = scene
    settings = {task: PatchSettings(task, 16, 0, 32) for task in ("instance", "semantic", "panoptic")}

    def infer(task, coarse):
        return BoundaryPatchMapper(settings[task], is_train=False, coarse=lambda entry: coarse)(entry)

    given = infer("instance", objects(truth, categories=[4]))
    assert given["image"].shape == (3, *SHAPE) and given["image"][0].max() == 200 and given["image_id"] == 1
    assert np.array_equal(paste(given["instances"].pred_masks[0], *SHAPE), truth)
    assert given["instances"].pred_classes.tolist() == [4]
    assert len(infer("instance", None)["instances"]) == 0

    # Entries of sem_seg_predictions.json: labels are their numbers, 0 nothing.
    numbered = Partition(truth.astype(np.int32) + 1, (1, 2), (5, 3))
    assert np.array_equal(infer("semantic", numbered)["sem_seg"], np.where(truth, 3, 5))
    assert (infer("semantic", None)["sem_seg"] == 255).all()

    labels, infos = infer("panoptic", Partition(truth.astype(np.int32), (1,), (~2,)))["panoptic_seg"]
    assert infos == [{"id": 1, "isthing": False, "category_id": 2}] and np.array_equal(labels, truth)
    assert infer("panoptic", None)["panoptic_seg"][1] == []


def test_match_on_real_labels(real_data):
    file = sorted((real_data / "cityscapes").rglob("*_labelIds.png"))[0]
    labels = read_label_png(file).astype(np.int32)
    truth = semantic_truth(str(file), 255)
    segments = tuple(np.unique(labels).tolist())
    pairs = match(truth, Partition(labels, segments, segments), 0.5)
    assert len(pairs) == len(segments)
    for segment, (coarse, true) in zip(segments, pairs):
        assert np.array_equal(paste(coarse, *labels.shape), labels == segment)
        assert np.array_equal(coarse.pixels, true.pixels) and coarse[1:] == true[1:]
    assert len(coarse_masks(Partition(labels, segments, segments))[0]) == len(segments)


def test_errors(scene, tmp_path):
    entry, truth, _ = scene
    wrong = Objects((5, 5), (crop_array(np.ones((5, 5), bool)),), (1.0,), (0,))
    with pytest.raises(UserError, match="image.png is 90 x 110, its prediction 5 x 5: predictions must be"):
        mapper("instance", wrong)(entry)
    with pytest.raises(UserError, match="nothing to refine: name the result files"):
        BoundaryPatchMapper(PatchSettings("instance"), is_train=False, coarse=None)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="labels have another size"):
        mapper("semantic", None)({**entry, "sem_seg_file_name": str(tmp_path / "small.png")})
    with pytest.raises(UserError, match="its data set has no COCO panoptic annotations"):
        mapper("panoptic", None)({"file_name": entry["file_name"]})
    (tmp_path / "image.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match="(cannot read .*image.png: .*; restore the file|image.png cannot be read .*: fetch it again)"
    ):
        mapper("instance", objects(truth))(entry)
