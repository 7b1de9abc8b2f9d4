"""What a training sample holds, from predictions and from degraded ground truth."""

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T

from pnm.errors import UserError
from pnm.panoptic_grouping.encoding import instance_fields
from pnm.predictions import Partition
from pnm.projects.dataset_mappers.panoptic_classes import classes_of
from pnm.projects.launcher.config import load_config
from pnm.projects.prn import PanopticMapMapper
from pnm.projects.prn.mapper import moved_ids


def mapper(scene, prediction=None, **options):
    options = {"degraded_share": 0.0, "sigma_px": 2.0} | options
    return PanopticMapMapper(is_train=True, coarse=lambda entry: prediction, classes=scene.classes, **options)


def test_a_sample_of_a_prediction(scene, prediction):
    sample = mapper(scene, prediction)(scene.entry)
    labels = scene.labels
    assert torch.equal(sample["image"], torch.from_numpy(scene.image.transpose(2, 0, 1)))
    instances = np.where(labels < 3, labels, 0).astype(np.int32)
    fields = instance_fields(instances, 2, 2.0).stacked()
    assert np.array_equal(sample["target"], fields) and np.array_equal(sample["coarse"], fields)
    of_class = np.array([255, 0, 1, 2, 3, 1])
    assert np.array_equal(sample["sem_seg"], of_class[labels])  # a crowd keeps its class
    assert np.array_equal(sample["coarse_classes"], np.array([255, 0, 1, 2, 3, 2])[labels])
    expected = np.select([(labels == 0) | (labels == 5), instances > 0], [255, 1], 0)
    assert np.array_equal(sample["foreground"], expected)  # nor is it foreground or background
    assert sample["sem_seg"].dtype == torch.int64 and sample["foreground"].dtype == torch.uint8


def test_small_instances_are_marked(scene, prediction):
    area = int((scene.labels == 2).sum())
    sample = mapper(scene, prediction, small_area_px=area + 1)(scene.entry)
    assert np.array_equal(sample["small"], scene.labels == 2)
    assert not mapper(scene, prediction, small_area_px=0)(scene.entry)["small"].any()


def test_without_predictions_the_truth_is_degraded_and_a_crowd_is_void_in_it(scene):
    for seed in range(5):
        np.random.seed(seed)  # noqa: NPY002
        sample = mapper(scene, None)(scene.entry)
        assert torch.equal(sample["sem_seg"], mapper(scene, None, degraded_strength=0.0)(scene.entry)["sem_seg"])
    unchanged = mapper(scene, None, degraded_strength=0.0)(scene.entry)
    assert torch.equal(unchanged["coarse"], unchanged["target"])
    expected = np.array([255, 0, 1, 2, 3, 255])[scene.labels]
    assert np.array_equal(unchanged["coarse_classes"], expected)
    assert not torch.equal(sample["coarse"], sample["target"])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_degraded_maps(scene, prediction, share):
    """The prediction has no instance, a degraded map nearly always has one."""
    empty = Partition(np.ones_like(scene.labels), (1,), (-2,))
    np.random.seed(0)  # noqa: NPY002
    degraded = sum(bool(mapper(scene, empty, degraded_share=share)(scene.entry)["coarse"].any()) for _ in range(60))
    assert degraded == pytest.approx(60 * share, abs=0 if share == 0 else 14)


def test_everything_is_moved_alike_and_encoded_afterwards(scene, prediction):
    steps = [T.ResizeShortestEdge(32, 100), T.RandomFlip(1.0)]
    sample = mapper(scene, prediction, augmentations=steps)(scene.entry)
    assert sample["image"].shape == (3, 32, 48)
    small = np.flip(scene.labels[1::2, 1::2], 1)
    instances = np.where(small < 3, small, 0).astype(np.int32)
    got = sample["target"].numpy()
    boxes = instance_fields(instances, 2, 2.0).stacked()
    differing = (got != boxes).any(0).mean()
    assert differing < 0.12  # nearest pixels may be the neighbours of those that slicing takes
    assert np.array_equal(sample["target"], sample["coarse"])
    inside = sample["foreground"].numpy() == 1
    assert ((got[1:3] != 0).any(0) == inside).mean() > 0.99


@pytest.mark.parametrize("offset", [0, 1, 70000])
def test_ids_are_moved_as_a_label_image_is(offset):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 200, (37, 53)).astype(np.uint8)
    for transform in (T.ResizeTransform(37, 53, 20, 31), T.ResizeTransform(37, 53, 80, 90), T.HFlipTransform(53)):
        moved = moved_ids(labels.astype(np.int64) + offset, transform)
        assert np.array_equal(moved, transform.apply_segmentation(labels).astype(np.int64) + offset)


def test_what_a_data_set_must_have(scene, prediction):
    entry = {k: v for k, v in scene.entry.items() if k != "pan_seg_file_name"}
    with pytest.raises(UserError, match="has no COCO panoptic annotations, which PRN takes"):
        mapper(scene, prediction)(entry)
    strange = Partition(prediction.labels, prediction.segments, (0, 9, -2, -3))
    with pytest.raises(UserError, match=r"segments of categories \[9\], which the model doesn't know"):
        mapper(scene, strange)(scene.entry)
    wrong = Partition(prediction.labels[1:], prediction.segments, prediction.categories)
    with pytest.raises(UserError, match="predictions must be of the image's own size"):
        mapper(scene, wrong)(scene.entry)


def test_classes_of_metadata(registered, scene):
    assert classes_of(registered, MetadataCatalog.get(registered)) == scene.classes
    assert scene.classes.categories == [0, 1, -2, -3]
    assert scene.classes.indices((-3, 0, 0), "x") == (3, 0, 0)
    with pytest.raises(UserError, match="data set none has no panoptic annotations"):
        classes_of("none", MetadataCatalog.get("none"))
    MetadataCatalog.remove("none")


@pytest.mark.parametrize("name", ["coco_2017_val_panoptic", "coco_2017_val_panoptic_separated"])
def test_detectron2s_two_ways_of_numbering_coco(name):
    """All in one list, or things and stuff apart with a stuff class "things": 80 and 53 classes either way."""
    classes = classes_of(name, MetadataCatalog.get(name))
    assert (len(classes.things), len(classes.stuff)) == (80, 53)
    assert [id_ for id_, _ in classes.things][:3] == [1, 2, 3] and classes.stuff[0][0] == 92


def test_cityscapes_numbering():
    classes = classes_of("cityscapes_fine_panoptic_val", MetadataCatalog.get("cityscapes_fine_panoptic_val"))
    assert (len(classes.things), len(classes.stuff)) == (8, 11)


def test_numbers_of_classes_come_from_the_data(registered):
    from pnm.projects.prn import take_from_data

    cfg = load_config("quickstart/prn.yaml", ["MODEL.PRN.NUM_THINGS", "0", "MODEL.PRN.NUM_STUFF", "0"])
    take_from_data(cfg, {registered: MetadataCatalog.get(registered)})
    assert (cfg.MODEL.PRN.NUM_THINGS, cfg.MODEL.PRN.NUM_STUFF) == (2, 2)
    cfg.MODEL.PRN.NUM_THINGS = 3
    with pytest.raises(UserError, match="MODEL.PRN.NUM_THINGS is 3, but data set scenes has 2: leave the key out"):
        take_from_data(cfg, {registered: MetadataCatalog.get(registered)})
