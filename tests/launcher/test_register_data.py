"""Data sets registered from file names alone give the records that Detectron2 expects."""

import json
import shutil

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from pnm.errors import UserError
from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.checks import check_data
from pnm.projects.launcher.data.mappers import build_mapper
from pnm.projects.launcher.data.shapes import register_shapes
from pnm.projects.launcher.data.user_data import register_user_data


@pytest.fixture
def register(forget_data_sets):
    return register_user_data


def config(*entries: dict):
    cfg = load_config("", [])
    cfg.DATASETS.REGISTER = list(entries)
    cfg.INPUT.MASK_FORMAT, cfg.MODEL.MASK_ON = "bitmask", True
    return cfg


def test_shapes(register, shapes_root, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(shapes_root))
    register_shapes()
    instances, panoptic, semantic = (
        DatasetCatalog.get(f"shapes_train{kind}") for kind in ("", "_panoptic", "_sem_seg")
    )
    assert len(instances) == len(panoptic) == len(semantic) == 12
    assert {a["category_id"] for r in instances for a in r["annotations"]} == {0, 1, 2, 3}
    assert MetadataCatalog.get("shapes_train").thing_classes == ["blob", "ring", "pole", "urchin"]
    assert MetadataCatalog.get("shapes_val_panoptic").stuff_classes == ["things", "sky", "rock", "field", "water"]
    given = build_mapper(config(), is_train=True)(panoptic[3])
    assert given["instances"].gt_masks.tensor.shape[1:] == given["image"].shape[1:] == given["sem_seg"].shape
    assert set(np.unique(given["sem_seg"])) <= {0, 1, 2, 3, 4, 255}
    categories = {(s["isthing"], s["category_id"]) for r in panoptic for s in r["segments_info"]}
    assert categories == {(True, k) for k in range(4)} | {(False, k) for k in range(1, 5)}


def test_own_coco_and_panoptic(register, shapes_root):
    root = shapes_root / "shapes"
    coco = {"name": "mine", "type": "coco", "annotations": str(root / "annotations/instances_val.json")}
    coco |= {"images": str(root / "images/val")}
    panoptic = {"name": "mine_panoptic", "type": "panoptic", "images": str(root / "images/val")}
    panoptic |= {"annotations": str(root / "annotations/panoptic_val.json"), "panoptic": str(root / "panoptic_val")}
    panoptic |= {"stuff": str(root / "panoptic_stuff_val"), "instances": coco["annotations"]}
    register(config(coco, panoptic))
    assert len(DatasetCatalog.get("mine")) == len(DatasetCatalog.get("mine_panoptic")) == 6
    metadata = MetadataCatalog.get("mine_panoptic")
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1, 3: 2, 4: 3}
    assert metadata.stuff_dataset_id_to_contiguous_id == {0: 0, 11: 1, 12: 2, 13: 3, 14: 4}
    with pytest.raises(UserError, match="name 'mine' is taken already"):
        register(config(coco))


def test_own_label_images(register, tmp_path):
    for folder, suffix in (("images", "jpg"), ("labels", "png")):
        (tmp_path / folder / "town").mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((8, 9), k, np.uint8)).save(tmp_path / folder / "town" / f"{k}.{suffix}")
    (tmp_path / "classes.txt").write_text("road\nhouse\n\ntree\n")
    entry = {
        "name": "towns",
        "type": "semantic",
        "images": str(tmp_path / "images"),
        "labels": str(tmp_path / "labels"),
    }
    register(config(entry | {"classes": str(tmp_path / "classes.txt"), "ignore_label": 0}))
    records = DatasetCatalog.get("towns")
    assert [r["file_name"][-10:] for r in records] == [f"town/{k}.jpg"[-10:] for k in range(3)]
    metadata = MetadataCatalog.get("towns")
    assert metadata.stuff_classes == ["road", "house", "tree"] and metadata.ignore_label == 0
    (tmp_path / "labels/town/1.png").unlink()
    with pytest.raises(UserError, match=r"1 images have no label PNG, first \['town/1'\]"):
        DatasetCatalog.get("towns")


def test_segment_ids_beside_labels(register, shapes_root, tmp_path):
    root = shapes_root / "shapes"
    entry = {"name": "ids", "type": "semantic", "images": str(root / "images/val"), "classes": list("abcdefgh")}
    entry |= {"labels": str(root / "semantic_val"), "segments": str(root / "panoptic_val")}
    register(config(entry))
    for record in DatasetCatalog.get("ids"):
        ids, labels = read_panoptic_png(record["segment_ids_file_name"]), read_label_png(record["sem_seg_file_name"])
        assert len(np.unique(ids)) >= len(np.unique(labels))
        for one in np.unique(ids[ids != 0]):
            assert len(np.unique(labels[ids == one])) == 1  # a segment has one class
    assert "pan_seg_file_name" not in DatasetCatalog.get("ids")[0]  # which Detectron2 reads with a list of segments
    for fault, told in ((np.zeros((5, 6, 3)), "is 5 x 6, the labels .* are 96 x 128"), (np.zeros((96, 128)), "grey")):
        folder = shutil.copytree(root / "panoptic_val", tmp_path / told[:4])
        Image.fromarray(fault.astype(np.uint8)).save(folder / "000003.png")
        register(config(entry | {"name": told[:4], "segments": str(folder)}))
        cfg = config()
        cfg.DATASETS.TEST, cfg.MODEL.META_ARCHITECTURE = (told[:4],), "SemanticSegmentor"
        with pytest.raises(UserError, match=f"000003.png.*{told}"):
            check_data(cfg, train=False)
    shutil.copytree(root / "panoptic_val", tmp_path / "fewer")
    next((tmp_path / "fewer").glob("*.png")).unlink()
    register(config(entry | {"name": "fewer", "segments": str(tmp_path / "fewer")}))
    with pytest.raises(UserError, match="data set fewer: .* has no PNG of segment ids; .*fewer must hold files of"):
        DatasetCatalog.get("fewer")
    with pytest.raises(UserError, match="data set none: folder of segment ids .*nowhere does not exist"):
        register(config(entry | {"name": "none", "segments": str(tmp_path / "nowhere")}))


def test_categories_are_logged(register, shapes_root, caplog):
    root = shapes_root / "shapes"
    entry = {"name": "told", "type": "coco", "annotations": str(root / "annotations/instances_val.json")}
    with caplog.at_level("INFO"):
        register(config(entry | {"images": str(root / "images/val")}))
    assert "told (coco): 4 classes: blob, ring, pole, urchin" in caplog.text


def test_panoptic_without_an_image(register, shapes_root, tmp_path):
    root = shapes_root / "shapes"
    content = json.loads((root / "annotations/panoptic_val.json").read_text())
    content["annotations"].pop()
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    entry = {"name": "gap", "type": "panoptic", "images": str(root / "images/val")}
    entry |= {"annotations": str(tmp_path / "panoptic.json"), "panoptic": str(root / "panoptic_val")}
    entry |= {"stuff": str(root / "panoptic_stuff_val"), "instances": str(root / "annotations/instances_val.json")}
    register(config(entry))
    with pytest.raises(UserError, match=r"panoptic.json has no annotation of .*000005.png"):
        DatasetCatalog.get("gap")
