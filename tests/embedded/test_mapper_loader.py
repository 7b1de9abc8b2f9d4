"""Reading, annotation handling, the mapper, samplers and loaders, against PIL, pycocotools and closed forms."""

# ruff: noqa: NPY002 - the engines draw from NumPy's global generator.

import itertools
from pathlib import Path

import detectron2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetFromList,
    DatasetMapper,
    MapDataset,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    print_instances_class_histogram,
)
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.common import AspectRatioGroupedDataset, ToIterableDataset
from detectron2.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from PIL import Image, ImageOps

BAD_INPUT = (ValueError, AssertionError, TypeError)
EMBEDDED = Path(detectron2.__file__).parents[1].name == "embedded"
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="the embedded engine's own checks and remedies")
TRIANGLE = [10.0, 5.0, 40.0, 5.0, 10.0, 45.0]


@pytest.fixture
def entry(tmp_path):
    """A 60×80 image with a triangle, a square and a crowd, and labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    labels = np.arange(60 * 80).reshape(60, 80) % 7
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "labels.png")
    square = [50.0, 20, 70, 20, 70, 40, 50, 40]
    return {
        "file_name": str(tmp_path / "a.png"),
        "sem_seg_file_name": str(tmp_path / "labels.png"),
        "height": 60,
        "width": 80,
        "image_id": 5,
        "annotations": [
            obj([10, 5, 30, 40], 0, [TRIANGLE]),
            obj([50, 20, 20, 20], 1, [square]),
            obj([0, 0, 80, 60], 1, [square], iscrowd=1),
        ],
    }


def obj(box, category, segmentation, **more):
    return dict(bbox=box, bbox_mode=BoxMode.XYWH_ABS, category_id=category, segmentation=segmentation, **more)


def mapper(augmentations, is_train=True, **options):
    options = {"image_format": "RGB", "use_instance_mask": True, **options}
    return DatasetMapper(is_train, augmentations=augmentations, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, orientation):
    path = tmp_path / "photo.jpg"
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(utils.read_image(str(path), "RGB"), expected)


def test_formats(entry):
    rgb = utils.read_image(entry["file_name"], "RGB")
    np.testing.assert_array_equal(utils.read_image(entry["file_name"], "BGR"), rgb[:, :, ::-1])
    assert utils.read_image(entry["file_name"], "L").shape == (60, 80, 1)
    yuv = utils.read_image(entry["file_name"], "YUV-BT.601")
    np.testing.assert_allclose(yuv[..., 0], rgb @ [0.299, 0.587, 0.114] / 255)
    np.testing.assert_allclose(utils.convert_image_to_rgb(yuv, "YUV-BT.601"), rgb, atol=0.01)
    np.testing.assert_array_equal(utils.convert_image_to_rgb(torch.tensor(rgb), "RGB"), rgb)
    np.testing.assert_array_equal(utils.convert_image_to_rgb(rgb[:, :, ::-1], "BGR"), rgb)
    grey = utils.convert_image_to_rgb(rgb[:, :, :1], "L")
    np.testing.assert_array_equal(grey, np.repeat(rgb[:, :, :1], 3, axis=2))


@embedded_only
def test_unreadable_images_are_named(tmp_path, entry):
    with pytest.raises(FileNotFoundError, match="absent.jpg"):
        utils.read_image(str(tmp_path / "absent.jpg"))
    whole = Path(entry["file_name"]).read_bytes()
    Path(entry["file_name"]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.png cannot be read .*fetch it again") as caught:
        mapper([])(entry)
    assert "\n" not in str(caught.value)
    Path(entry["file_name"]).write_text("text")
    with pytest.raises(ValueError, match="not an image"):
        utils.read_image(entry["file_name"], "RGB")


def test_image_size_is_checked_and_filled_in(entry):
    image = utils.read_image(entry["file_name"], "RGB")
    utils.check_image_size(entry, image)
    empty = {}
    utils.check_image_size(empty, image)
    assert empty == {"height": 60, "width": 80}
    with pytest.raises(utils.SizeMismatchError, match=r"a\.png"):
        utils.check_image_size({**entry, "width": 81}, image)


def test_boxes_polygons_and_rles_move_together(entry):
    rle = coco_mask.merge(coco_mask.frPyObjects([TRIANGLE], 60, 80))
    transforms = T.TransformList([T.HFlipTransform(80), T.ResizeTransform(60, 80, 120, 160)])
    given = obj([10, 5, 30, 40], 0, [TRIANGLE])
    moved = utils.transform_instance_annotations({**given}, transforms, (120, 160))
    np.testing.assert_allclose(moved["bbox"], [80, 10, 140, 90])
    np.testing.assert_allclose(moved["segmentation"][0], [140, 10, 80, 10, 140, 90])
    assert moved["bbox_mode"] == BoxMode.XYXY_ABS
    mask = utils.transform_instance_annotations({**given, "segmentation": rle}, transforms, (120, 160))["segmentation"]
    polygon = coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects([p.tolist() for p in moved["segmentation"]], 120, 160))
    )
    assert (mask & polygon).sum() / (mask | polygon).sum() > 0.93
    outside = utils.transform_instance_annotations(obj([60, 50, 30, 30], 0, [TRIANGLE]), [T.NoOpTransform()], (60, 80))
    np.testing.assert_allclose(outside["bbox"], [60, 50, 80, 60])
    with pytest.raises(ValueError):
        utils.transform_instance_annotations({**given, "segmentation": "x"}, transforms, (120, 160))


def test_instances_as_polygons_and_as_bitmasks():
    rle = coco_mask.merge(coco_mask.frPyObjects([TRIANGLE], 60, 80))
    for given in ([TRIANGLE], rle, coco_mask.decode(rle)):
        target = utils.annotations_to_instances([obj([10, 5, 30, 40], 3, given)], (60, 80), "bitmask")
        np.testing.assert_array_equal(target.gt_masks.tensor[0].numpy(), coco_mask.decode(rle))
    target = utils.annotations_to_instances([obj([10, 5, 30, 40], 3, [TRIANGLE])], (60, 80))
    assert isinstance(target.gt_masks, PolygonMasks) and target.gt_classes.tolist() == [3]
    assert target.gt_boxes.tensor.tolist() == [[10, 5, 40, 45]]
    nothing = utils.annotations_to_instances([], (60, 80))
    assert len(nothing) == 0 and not nothing.has("gt_masks")
    with pytest.raises(ValueError):
        utils.annotations_to_instances([obj([10, 5, 30, 40], 3, rle)], (60, 80), "polygon")


def test_empty_instances_are_dropped():
    target = Instances((10, 10))
    target.gt_boxes = Boxes(torch.tensor([[0, 0, 5, 5], [3, 3, 3, 9], [1, 1, 4, 4.0]]))
    target.gt_masks = BitMasks(torch.tensor([1, 1, 0]).bool()[:, None, None].expand(3, 10, 10))
    kept, mask = utils.filter_empty_instances(target, return_mask=True)
    assert mask.tolist() == [True, False, False] and len(kept) == 1
    assert len(utils.filter_empty_instances(target, by_mask=False)) == 2
    assert len(utils.filter_empty_instances(target, by_box=False)) == 2


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_mapper_in_training(entry, mask_format):
    before = repr(entry)
    out = mapper([T.HFlipTransform(80)], instance_mask_format=mask_format)(entry)
    assert repr(entry) == before, "the data set's entry is left alone"
    rgb = utils.read_image(entry["file_name"], "RGB")
    np.testing.assert_array_equal(out["image"].numpy(), rgb[:, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(out["sem_seg"].numpy(), (np.arange(4800).reshape(60, 80) % 7)[:, ::-1])
    assert out["sem_seg"].dtype == torch.int64 and out["image"].dtype == torch.uint8
    instances = out["instances"]
    assert instances.gt_classes.tolist() == [0, 1] and out["image_id"] == 5 and "annotations" not in out
    np.testing.assert_allclose(instances.gt_boxes.tensor, [[40, 5, 70, 45], [10, 20, 30, 40]])
    assert isinstance(instances.gt_masks, PolygonMasks if mask_format == "polygon" else BitMasks)


def test_mapper_in_inference_keeps_no_annotations(entry):
    out = mapper([T.Resize((30, 40))], is_train=False)(entry)
    assert out["image"].shape == (3, 30, 40) and (out["height"], out["width"]) == (60, 80)
    assert "instances" not in out and "annotations" not in out


def test_boxes_are_recomputed_after_a_crop(entry):
    crop = T.CropTransform(0, 20, 80, 40)
    plain = mapper([crop])(entry)["instances"].gt_boxes.tensor[0].tolist()
    tight = mapper([crop], recompute_boxes=True)(entry)["instances"].gt_boxes.tensor[0].tolist()
    assert plain == [10, 0, 40, 25]
    # The hypotenuse is at x = 40 − 30 · 15/40 where the crop begins.
    assert tight == pytest.approx([10, 0, 28.75, 25])
    gone = mapper([T.CropTransform(45, 0, 35, 60)])(entry)["instances"]
    assert gone.gt_classes.tolist() == [1], "an instance outside the crop is dropped"
    with pytest.raises(BAD_INPUT):
        mapper([], recompute_boxes=True, use_instance_mask=False)


def test_mapper_from_config(entry):
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TRAIN = (90,), 30, 1000
    cfg.INPUT.RANDOM_FLIP = "none"
    out = DatasetMapper(cfg, is_train=True)(entry)
    assert out["image"].shape == (3, 90, 120) and out["instances"].has("gt_masks")
    assert DatasetMapper(cfg, is_train=False)(entry)["image"].shape == (3, 30, 40)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [20, 50]
    cropped = DatasetMapper(cfg, is_train=True)
    assert cropped.recompute_boxes
    assert cropped({k: v for k, v in entry.items() if k != "annotations"})["image"].shape == (3, 90, 225)
    kinds = [type(a).__name__ for a in utils.build_augmentation(cfg, True)]
    assert kinds == ["ResizeShortestEdge"]
    cfg.INPUT.RANDOM_FLIP = "vertical"
    assert utils.build_augmentation(cfg, True)[1].vertical


def take(iterable, count):
    return list(itertools.islice(iter(iterable), count))


def ranked(monkeypatch, rank, world):
    """Makes samplers and loaders believe that they run in one of several processes."""
    from detectron2.data import build
    from detectron2.utils import comm

    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world)
    monkeypatch.setattr(build, "get_world_size", lambda: world)


def test_training_shards_are_one_shuffled_stream(monkeypatch):
    whole = take(TrainingSampler(7, seed=3), 28)
    assert all(sorted(whole[i : i + 7]) == list(range(7)) for i in range(0, 28, 7)) and whole[:7] != whole[7:14]
    expected = torch.randperm(7, generator=torch.Generator().manual_seed(3)).tolist()
    assert whole[:7] == expected
    for rank in range(3):
        ranked(monkeypatch, rank, 3)
        assert take(TrainingSampler(7, seed=3), 9) == whole[rank:27:3]
    ranked(monkeypatch, 0, 1)
    assert take(TrainingSampler(3, shuffle=False, seed=0), 5) == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError):
        TrainingSampler(0)


def test_random_subset_stays_the_same_subset():
    drawn = take(RandomSubsetTrainingSampler(20, 0.25, seed_shuffle=1, seed_subset=2), 15)
    assert len(set(drawn)) == 5 and all(len(set(drawn[i : i + 5])) == 5 for i in (0, 5, 10))
    assert set(take(RandomSubsetTrainingSampler(20, 0.25, seed_shuffle=9, seed_subset=2), 15)) == set(drawn)
    with pytest.raises(BAD_INPUT):
        RandomSubsetTrainingSampler(20, 0.01, seed_shuffle=1, seed_subset=2)


def test_repeat_factors_follow_the_rarest_category():
    dicts = [{"annotations": [{"category_id": c} for c in cats]} for cats in ([0], [0, 1], [0], [])]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, 0.5)
    np.testing.assert_allclose(factors, [1, np.sqrt(0.5 / 0.25), 1, 1])
    linear = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, 0.5, sqrt=False)
    np.testing.assert_allclose(linear, [1, 2, 1, 1])
    sampler = RepeatFactorTrainingSampler(torch.tensor([1.0, 2.5, 1.0]), shuffle=False, seed=0)
    drawn = take(sampler, 900)
    assert drawn.count(1) / drawn.count(0) == pytest.approx(2.5, abs=0.15)
    assert drawn[:2] == [0, 1]


@pytest.mark.parametrize("size, world", [(10, 3), (2, 4), (8, 8), (1, 1)])
def test_inference_shards_cover_each_image_once(monkeypatch, size, world):
    shards = []
    for rank in range(world):
        ranked(monkeypatch, rank, world)
        sampler = InferenceSampler(size)
        shards.append(list(sampler))
        assert len(sampler) == len(shards[-1])
    assert sum(shards, []) == list(range(size)) and max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("serialize", [True, False])
def test_lists_hand_out_copies(serialize):
    given = [{"a": [i]} for i in range(4)]
    dataset = DatasetFromList(given, copy=True, serialize=serialize)
    dataset[2]["a"].append(9)
    assert len(dataset) == 4 and dataset[2] == {"a": [2]} and dataset[0] == {"a": [0]}
    assert given[2] == {"a": [2]}


def test_mapping_skips_none():
    odd = MapDataset(DatasetFromList(list(range(6))), lambda x: x if x % 2 else None)
    assert all(odd[i] % 2 == 1 for i in range(6)) and odd[3] == 3
    stream = ToIterableDataset(DatasetFromList(list(range(6))), InferenceSampler(6))
    assert list(MapDataset(stream, lambda x: x * 2 if x % 2 else None)) == [2, 6, 10]


def test_aspect_ratios_are_not_mixed():
    shapes = [
        {"width": w, "height": h, "i": i} for i, (w, h) in enumerate([(2, 1), (1, 2), (3, 1), (1, 1), (9, 2), (4, 1)])
    ]
    batches = [[x["i"] for x in batch] for batch in AspectRatioGroupedDataset(shapes, 2)]
    assert batches == [[0, 2], [1, 3], [4, 5]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("grouping", [True, False])
def test_train_loader_shows_every_image_once_per_epoch(workers, grouping):
    dicts = [{"i": i, "width": 2, "height": 1} for i in range(8)]
    loader = build_detection_train_loader(
        dicts,
        mapper=lambda x: x,
        sampler=TrainingSampler(8, seed=1),
        total_batch_size=4,
        aspect_ratio_grouping=grouping,
        num_workers=workers,
    )
    batches = [[x["i"] for x in batch] for batch in take(loader, 4)]
    order = take(TrainingSampler(8, seed=1), 16)
    if workers == 0 or not grouping:
        assert sum(batches, []) == order
    assert sorted(batches[0] + batches[1]) == list(range(8))


def test_test_loader_visits_all_in_order():
    loader = build_detection_test_loader([{"i": i} for i in range(5)], mapper=lambda x: x["i"], batch_size=2)
    assert list(loader) == [[0, 1], [2, 3], [4]] and len(loader) == 3


def test_batch_size_must_divide(monkeypatch):
    with pytest.raises(BAD_INPUT):
        build_batch_data_loader(DatasetFromList([1, 2]), TrainingSampler(2, seed=0), 0)
    ranked(monkeypatch, 0, 2)
    with pytest.raises(BAD_INPUT):
        build_batch_data_loader(DatasetFromList([1, 2]), TrainingSampler(2, seed=0), 3)
    loader = build_batch_data_loader(
        DatasetFromList([1, 2, 3]), TrainingSampler(3, seed=0), None, single_gpu_batch_size=3, collate_fn=sum
    )
    ranked(monkeypatch, 0, 1)
    assert isinstance(next(iter(loader)), int)


def test_images_with_only_crowds_are_filtered():
    dicts = [{"annotations": a} for a in ([], [{"iscrowd": 1}], [{"iscrowd": 1}, {}], [{"iscrowd": 0}])]
    assert filter_images_with_only_crowd_annotations(dicts) == dicts[2:]


def test_alien_category_ids_are_refused():
    with pytest.raises(BAD_INPUT, match="7"):
        print_instances_class_histogram([{"annotations": [{"category_id": 7}]}], ["a", "b"])
    print_instances_class_histogram(
        [{"annotations": [{"category_id": 1}, {"category_id": 5, "iscrowd": 1}]}], ["a", "b"]
    )
