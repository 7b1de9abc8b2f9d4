"""Samples of panoptic PNGs: a partition, equal to a loop over pixels and to what twin files give."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BitMasks
from PIL import Image

from pnm.errors import UserError
from pnm.formats.coco_panoptic import ids_to_rgb, rgb_to_ids
from pnm.formats.label_png import read_panoptic_png
from pnm.projects.dataset_mappers import DATASET_MAPPER_REGISTRY, CheckedDatasetMapper, PanopticMapper
from pnm.projects.dataset_mappers.panoptic_classes import PanopticClasses, classes_of, shared_classes
from pnm.projects.dataset_mappers.panoptic_mapper import moved_ids
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.shapes import register_shapes

SIZE = 48, 70
CLASSES = PanopticClasses(things=((3, 0), (7, 1)), stuff=((20, -2), (21, -3)))
SCENE = {  # segment id: contiguous id, is it a thing, is it a crowd, label in "sem_seg"
    1000: (1, True, 0, 0),
    70001: (0, True, 0, 0),
    3: (1, False, 0, 1),
    4: (2, False, 0, 2),
    5: (1, True, 1, 255),
    6: (1, True, 0, 0),  # one pixel
}


@pytest.fixture
def scene(tmp_path):
    """Ids (H, W) and the dataset dict of them."""
    ids = np.full(SIZE, 3, np.int64)
    ids[20:] = 4
    ids[5:30, 4:20] = 1000
    ids[25:, 15:40] = 70001
    ids[0:9, 50:60] = 5
    ids[44, 66] = 6
    ids[:, 68:] = 0
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(ids_to_rgb(ids)).save(tmp_path / "panoptic.png")
    rows = [
        {"id": id_, "category_id": category, "isthing": isthing, "iscrowd": crowd}
        for id_, (category, isthing, crowd, _) in SCENE.items()
    ]
    paths = {"file_name": str(tmp_path / "image.png"), "pan_seg_file_name": str(tmp_path / "panoptic.png")}
    return ids, {**paths, "image_id": 1, "segments_info": rows}


def mapper(augmentations=(), classes=CLASSES, is_train=True, ignored=255):
    options = {"augmentations": list(augmentations), "image_format": "RGB", "labels": (3, ignored)}
    return PanopticMapper(is_train, classes=classes, **options)


def assert_is_truth(sample, ids, scene=SCENE, ignored=255) -> int:
    """Compares a sample with a loop over the segments of a moved map of ids; the number of its instances."""
    labels = np.full(ids.shape, ignored)
    masks, classes = [], []
    for id_, (category, isthing, crowd, label) in scene.items():
        labels[ids == id_] = ignored if label == 255 else label
        if isthing and not crowd and (ids == id_).any():
            masks.append(ids == id_)
            classes.append(category)
    instances = sample["instances"]
    assert sample["sem_seg"].dtype == torch.int64 and np.array_equal(sample["sem_seg"], labels)
    assert instances.image_size == ids.shape and isinstance(instances.gt_masks, BitMasks)
    assert instances.gt_classes.dtype == torch.int64 and instances.gt_classes.tolist() == classes
    assert np.array_equal(instances.gt_masks.tensor, np.array(masks).reshape(-1, *ids.shape))
    boxes = [[m.any(0).argmax(), m.any(1).argmax(), np.where(m)[1].max() + 1, np.where(m)[0].max() + 1] for m in masks]
    assert np.array_equal(instances.gt_boxes.tensor, np.array(boxes, np.float32).reshape(-1, 4))
    owners = instances.gt_masks.tensor.sum(0) + (sample["sem_seg"] > 0)
    assert (owners == 1).all(), "every pixel is one instance's, or stuff, or ignored"
    return len(masks)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [T.RandomFlip(1.0)],
        [T.RandomFlip(1.0, horizontal=False, vertical=True)],
        [T.Resize((31, 99))],
        [T.Resize((120, 90)), T.RandomFlip(1.0)],
        [T.RandomCrop("absolute", (20, 30)), T.Resize((40, 50))],
    ],
    ids=["as it is", "flipped", "upside down", "resized", "larger", "cropped"],
)
def test_a_sample_is_the_moved_png(scene, steps):
    ids, entry = scene
    before = str(entry)
    for seed in range(4):
        np.random.seed(seed)  # noqa: NPY002 - what Detectron2 seeds
        sample, transforms, *_ = mapper(steps).map_with_transforms(entry)
        expected = rgb_to_ids(np.ascontiguousarray(transforms.apply_segmentation(ids_to_rgb(ids))))
        assert_is_truth(sample, expected)
        assert tuple(sample["image"].shape) == (3, *expected.shape)
    assert str(entry) == before


def test_crowds_and_void_are_ignored_by_the_label_that_is_asked_for(scene):
    ids, entry = scene
    sample = mapper(ignored=99)(entry)
    assert assert_is_truth(sample, ids, ignored=99) == 3
    assert (sample["sem_seg"] == 99).numpy()[(ids == 5) | (ids == 0)].all()


def test_nearest_pixels_are_those_of_an_8_bit_label_image():
    labels = np.random.default_rng(0).integers(0, 200, (37, 53)).astype(np.uint8)
    for transform in (T.ResizeTransform(37, 53, 20, 31), T.ResizeTransform(37, 53, 80, 90), T.HFlipTransform(53)):
        moved = moved_ids(labels.astype(np.int64) + 70000, transform)
        assert np.array_equal(moved, transform.apply_segmentation(labels).astype(np.int64) + 70000)


def test_instances_that_vanish_are_left_out(scene):
    ids, entry = scene
    corner = mapper([T.CropTransform(40, 0, 20, 18)])(entry)
    assert assert_is_truth(corner, ids[:18, 40:60]) == 0
    assert corner["instances"].gt_masks.tensor.shape == (0, 18, 20)
    assert len(mapper([T.Resize((12, 17))])(entry)["instances"]) == 2  # one of a pixel is gone


def test_an_image_of_void_alone(scene, tmp_path):
    _, entry = scene
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "panoptic.png")
    for rows in (entry["segments_info"], []):
        sample = mapper()({**entry, "segments_info": rows})
        assert not len(sample["instances"]) and (sample["sem_seg"] == 255).all()


def test_things_and_stuff_that_are_numbered_in_one_go(scene):
    """As Detectron2 loads Cityscapes: stuff 0 to 10, things from 11 on, without "isthing"."""
    ids, entry = scene
    classes = classes_of("cityscapes_fine_panoptic_val", MetadataCatalog.get("cityscapes_fine_panoptic_val"))
    assert not classes.are_dense and CLASSES.are_dense
    category = {1000: 13, 70001: 11, 3: 0, 4: 10, 5: 13, 6: 18}
    rows = [{"id": id_, "category_id": k, "iscrowd": int(id_ == 5)} for id_, k in category.items()]
    expected = {1000: (2, True, 0, 0), 70001: (0, True, 0, 0), 3: (0, False, 0, 1), 4: (10, False, 0, 11)}
    expected |= {5: (2, True, 1, 255), 6: (7, True, 0, 0)}
    assert_is_truth(mapper(classes=classes)({**entry, "segments_info": rows}), ids, expected)


def test_inference_gives_the_image(scene):
    _, entry = scene
    options = {"augmentations": [], "image_format": "RGB", "labels": (3, 255)}
    entry = {**entry, "sem_seg_file_name": "absent.png"}
    sample = mapper(is_train=False)(entry)
    expected = CheckedDatasetMapper(False, **options)({k: v for k, v in entry.items() if k != "sem_seg_file_name"})
    assert torch.equal(sample.pop("image"), expected.pop("image")) and sample == expected


def test_equal_to_what_twin_files_give(monkeypatch, shapes_root, forget_data_sets):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    names = [
        "DATASETS.TRAIN",
        "('shapes_train_panoptic',)",
        "INPUT.RANDOM_FLIP",
        "none",
        "INPUT.MIN_SIZE_TRAIN",
        "(96,)",
    ]
    cfg = load_config("quickstart/panoptic_fpn_R_18", names)
    ours, theirs = (DATASET_MAPPER_REGISTRY.get(name)(cfg, True) for name in ("panoptic_mapper", "default_mapper"))
    for entry in DatasetCatalog.get("shapes_train_panoptic"):
        given, expected = ours(entry), theirs(entry)
        assert torch.equal(given["image"], expected["image"]) and torch.equal(given["sem_seg"], expected["sem_seg"])
        ours_by_box, theirs_by_box = (
            {
                (*box, k): mask
                for box, k, mask in zip(
                    one.gt_boxes.tensor.tolist(), one.gt_classes.tolist(), one.gt_masks.tensor, strict=True
                )
            }
            for one in (given["instances"], expected["instances"])
        )
        assert ours_by_box.keys() == theirs_by_box.keys()
        assert all(torch.equal(mask, theirs_by_box[key]) for key, mask in ours_by_box.items())


def test_crops_of_the_config(monkeypatch, shapes_root, forget_data_sets):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    crop = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[40, 60]"]
    cfg = load_config("quickstart/panoptic_fpn_R_18", [*crop, "INPUT.MIN_SIZE_TRAIN", "(80,)"])
    for entry in DatasetCatalog.get("shapes_train_panoptic")[:4]:
        sample, transforms, *_ = PanopticMapper(cfg, True).map_with_transforms(entry)
        assert tuple(sample["image"].shape) == (3, 80, 120)
        ids = moved_ids(read_panoptic_png(entry["pan_seg_file_name"]), transforms)
        expected = {
            s["id"]: (s["category_id"], s["isthing"], 0, 0 if s["isthing"] else s["category_id"])
            for s in entry["segments_info"]
        }
        assert_is_truth(sample, ids, expected)


def test_what_is_told(scene, tmp_path):
    ids, entry = scene
    png = entry["pan_seg_file_name"]

    def told(message, **changed):
        with pytest.raises(UserError, match=message):
            mapper()({**entry, **changed})

    with pytest.raises(UserError, match="image.png: its data set has no panoptic PNGs; panoptic_mapper takes"):
        mapper()({key: value for key, value in entry.items() if key != "pan_seg_file_name"})
    told(
        "panoptic.png has segment ids 3, 70001, which its segments_info doesn't list: add them to the JSON",
        segments_info=[row for row in entry["segments_info"] if row["id"] not in (3, 70001)],
    )
    strange = [{**row, "category_id": 9} if row["id"] == 3 else row for row in entry["segments_info"]]
    told(r"image.png has segments of categories \[-10\], which the model doesn't know: correct", segments_info=strange)
    told("panoptic file .*absent.png does not exist; check the path", pan_seg_file_name=str(tmp_path / "absent.png"))
    told("absent.jpg", file_name=str(tmp_path / "absent.jpg"))
    Image.fromarray(ids_to_rgb(ids[:40])).save(png)
    told("image.png is 48 x 70, its panoptic PNG .*panoptic.png is 40 x 70: expected one size")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(png)
    told("panoptic.png is a 8-bit grey image, expected a panoptic PNG")
    (tmp_path / "panoptic.png").write_bytes(b"no PNG")
    told("panoptic.png is not a PNG")


def test_data_sets_that_are_used_together():
    metadata = {name: MetadataCatalog.get(name) for name in ("coco_2017_val_panoptic", "coco_2017_train_panoptic")}
    assert len(shared_classes(metadata)) == 133
    other = {"cityscapes_fine_panoptic_val": MetadataCatalog.get("cityscapes_fine_panoptic_val")}
    with pytest.raises(UserError, match="coco_2017_val_panoptic and cityscapes_fine_panoptic_val have other classes"):
        shared_classes(metadata | other)
    with pytest.raises(UserError, match="name one in DATASETS.TRAIN"):
        shared_classes({})


def of_file(path, name, metadata):
    """{image id: {segment id: (index of its class, is it a thing, is it a crowd, label)}} of a panoptic JSON."""
    things = sorted(metadata.thing_dataset_id_to_contiguous_id)
    stuff = sorted(metadata.stuff_dataset_id_to_contiguous_id)
    content = json.loads(path.read_text())

    def row(segment):
        category, crowd = segment["category_id"], segment.get("iscrowd", 0)
        isthing = category in things
        index = things.index(category) if isthing else stuff.index(category)
        return index, isthing, crowd, 255 if crowd else 0 if isthing else index + 1

    return {a["image_id"]: {s["id"]: row(s) for s in a["segments_info"]} for a in content["annotations"]}


def test_real_coco(prepared_data, forget_data_sets):
    from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json

    metadata = MetadataCatalog.get("coco_2017_val_panoptic")
    path = prepared_data / "coco/annotations/panoptic_val2017.json"
    folders = (str(prepared_data / "coco/panoptic_images"), str(prepared_data / "coco/panoptic_val2017"))
    ids = {kind: metadata.get(f"{kind}_dataset_id_to_contiguous_id") for kind in ("thing", "stuff")}
    meta = {f"{kind}_dataset_id_to_contiguous_id": table for kind, table in ids.items()}
    truth = of_file(path, "coco", metadata)
    entries = load_coco_panoptic_json(str(path), *folders, meta)
    assert entries
    for entry in entries:
        sample, transforms, *_ = mapper([T.RandomFlip(0.5)], classes_of("coco", metadata)).map_with_transforms(entry)
        moved = moved_ids(read_panoptic_png(entry["pan_seg_file_name"]), transforms)
        assert assert_is_truth(sample, moved, truth[entry["image_id"]]) > 0


def test_real_cityscapes(prepared_data):
    from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic

    name = "cityscapes_fine_panoptic_train"
    metadata, gt = MetadataCatalog.get(name), prepared_data / "cityscapes/gtFine/cityscapes_panoptic_train"
    meta = {
        f"{k}_dataset_id_to_contiguous_id": metadata.get(f"{k}_dataset_id_to_contiguous_id") for k in ("thing", "stuff")
    }
    entries = load_cityscapes_panoptic(str(prepared_data / "cityscapes/leftImg8bit/train"), str(gt), f"{gt}.json", meta)
    truth = of_file(gt.with_suffix(".json"), name, metadata)
    for entry in entries:
        sample, transforms, *_ = mapper([T.Resize((256, 512))], classes_of(name, metadata)).map_with_transforms(entry)
        moved = moved_ids(read_panoptic_png(entry["pan_seg_file_name"]), transforms)
        assert assert_is_truth(sample, moved, truth[entry["image_id"]]) > 0
