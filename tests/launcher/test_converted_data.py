"""Data sets in people's formats: registered by name of the format, read once, trained on."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.annotations.annotation_set import object_masks
from pnm.annotations.known_formats import FORMATS
from pnm.annotations.other_tasks import as_task
from pnm.errors import UserError
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.masks.crops import paste
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.checks import check_data, take_from_data
from pnm.projects.launcher.data.mappers import build_mapper
from pnm.projects.launcher.data.overview import overview
from pnm.projects.launcher.data.user_data import register_user_data

sys.path.insert(0, str(Path(__file__).parents[1] / "pnm/annotations/formats"))
from painted_scenes import HEIGHT, WIDTH, instance_set

IMAGES = ("street/a_000000_000001.png", "b_000000_000002.png", "c_000000_000003.png")
CLASSES = ("car", "person")
SCENE = instance_set(CLASSES, overlaps=False, images=IMAGES)
OTHERS = [name for name in FORMATS if name != "coco"]


def write(name, folder):
    """Files of a format and its images; the entry of ``DATASETS.REGISTER``."""
    form, root = FORMATS[name], folder / "data"
    task = next(task for task in form.reads if task in form.writes)
    root.mkdir()
    form.write({"train": as_task(SCENE, task)}, root)
    for image in SCENE.images:
        path = root / form.image_place("train", image.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)
    entry = {"name": "mine", "type": name, "annotations": str(root)}
    if form.is_folder:
        return entry | {"split": "train"}
    file = next(path for path in sorted(root.iterdir()) if path.is_file() and "config" not in path.name)
    return entry | {"annotations": str(file), "images": str(root / "images/train")}


@pytest.fixture
def config(forget_data_sets, tmp_path):
    def made(entry, mask_on=True):
        cfg = load_config("", [])
        cfg.DATASETS.REGISTER, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = [entry], (entry["name"],), ()
        cfg.OUTPUT_DIR, cfg.MODEL.MASK_ON = str(tmp_path / "output"), mask_on
        cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
        return cfg

    return made


def stems(records):
    return {Path(record["file_name"]).stem.removesuffix("_leftImg8bit"): record for record in records}


@pytest.mark.parametrize("name", OTHERS)
def test_objects_of_every_format(name, config, tmp_path):
    cfg = config(write(name, tmp_path) | {"task": "instance"})
    register_user_data(cfg)
    take_from_data(cfg)
    check_data(cfg)
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    classes = MetadataCatalog.get("mine").thing_classes
    assert set(CLASSES) <= set(classes) and len(classes) == cfg.MODEL.ROI_HEADS.NUM_CLASSES
    records, mapper = stems(DatasetCatalog.get("mine")), build_mapper(cfg, is_train=False)
    for image in SCENE.images:
        record = records[Path(image.name).stem]
        masks = [
            coco_mask.decode(a["segmentation"]).astype(bool) if isinstance(a["segmentation"], dict) else _drawn(a)
            for a in record["annotations"]
        ]
        wanted = [paste(mask, HEIGHT, WIDTH) for mask in object_masks(image, SCENE.read(image))]
        if FORMATS[name].reads[0] != "semantic":  # of which each connected region is an object
            assert sorted(mask.tobytes() for mask in masks) == sorted(mask.tobytes() for mask in wanted)
        assert np.array_equal(
            np.any([np.zeros((HEIGHT, WIDTH), bool), *masks], axis=0),
            np.any([np.zeros((HEIGHT, WIDTH), bool), *wanted], axis=0),
        )
        assert mapper(record)["image"].shape[0] == 3


def _drawn(annotation):
    rles = coco_mask.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


@pytest.mark.parametrize("name", ["labelme", "voc", "label-pngs", "coco-panoptic"])
def test_classes_of_pixels(name, config, tmp_path):
    cfg = config(write(name, tmp_path) | {"task": "semantic"})
    register_user_data(cfg)
    records, classes = stems(DatasetCatalog.get("mine")), MetadataCatalog.get("mine").stuff_classes
    labels = as_task(SCENE, "semantic").read(SCENE.images[0])
    own = read_label_png(records["a_000000_000001"]["sem_seg_file_name"])
    if "background" in classes:  # which Pascal VOC has as its class 0
        own = np.where(own == classes.index("background"), 255, own)
    names = np.array([*classes, *[""] * (256 - len(classes))])[own]
    assert np.array_equal(names, np.array([*CLASSES, ""])[labels])
    assert MetadataCatalog.get("mine").ignore_label == 255


@pytest.mark.parametrize("name", ["cvat", "mapillary"])
def test_segments(name, config, tmp_path):
    cfg = config(write(name, tmp_path) | {"task": "panoptic"})
    register_user_data(cfg)
    record = stems(DatasetCatalog.get("mine"))["a_000000_000001"]
    ids = read_panoptic_png(record["pan_seg_file_name"])
    assert {segment["id"] for segment in record["segments_info"]} == set(np.unique(ids).tolist()) - {0}
    assert np.array_equal(ids > 0, as_task(SCENE, "semantic").read(SCENE.images[0]) >= 0)


def test_what_was_read_is_used_again_until_a_file_changes(config, tmp_path, forget_data_sets):
    entry = write("labelme", tmp_path)
    made = tmp_path / "output/converted/mine/instances.json"
    register_user_data(config(entry))
    before = made.stat().st_mtime_ns
    DatasetCatalog.remove("mine"), MetadataCatalog.pop("mine")
    register_user_data(config(entry))
    assert made.stat().st_mtime_ns == before
    file = next((tmp_path / "data").rglob("a_*.json"))
    content = json.loads(file.read_text(encoding="utf-8"))
    content["shapes"] = content["shapes"][:1]
    file.write_text(json.dumps(content), encoding="utf-8")
    os.utime(file, ns=(before + 10**9, before + 10**9))
    DatasetCatalog.remove("mine"), MetadataCatalog.pop("mine")
    register_user_data(config(entry))
    assert len(stems(DatasetCatalog.get("mine"))["a_000000_000001"]["annotations"]) == 1


def test_classes_in_an_order_and_by_a_map(config, tmp_path):
    entry = write("labelme", tmp_path)
    register_user_data(config(entry | {"classes": ["sky", "person", "car"]}))
    assert MetadataCatalog.get("mine").thing_classes == ["sky", "person", "car"]
    (tmp_path / "names.csv").write_text("car,vehicle\n*,\n", encoding="utf-8")
    register_user_data(config(entry | {"name": "mapped", "map": str(tmp_path / "names.csv")}))
    assert MetadataCatalog.get("mapped").thing_classes == ["vehicle"]


def test_the_check_draws_a_page(config, tmp_path):
    cfg = config(write("yolo", tmp_path))
    register_user_data(cfg)
    take_from_data(cfg)
    assert "page: " in overview(cfg) and (tmp_path / "output/check/mine.jpg").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "depth"}, "task is 'depth', expected one of instance, semantic, panoptic"),
        ({"annotations": "nowhere"}, "data set mine: annotations nowhere does not exist"),
        ({"split": "val"}, "data set mine: .*val"),
        ({"labels": "x"}, "mine: unknown labels; type labelme takes annotations"),
        ({"type": "labelmee"}, "there is no type 'labelmee'; did you mean labelme"),
        (
            {"classes": ["person"]},
            "data set mine: there are annotations of car, but the classes that were given are person",
        ),
        ({"map": "none.csv"}, "data set mine: none.csv is missing"),
    ],
)
def test_entries_that_cannot_be(change, message, config, tmp_path):
    with pytest.raises((UserError, FileNotFoundError), match=message):
        register_user_data(config(write("labelme", tmp_path) | change))
