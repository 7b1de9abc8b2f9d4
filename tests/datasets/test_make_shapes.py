"""The synthetic data set: the same files from the same arguments, and all formats tell the same story."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.formats.coco_panoptic import rgb_to_ids

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--train", "3", "--val", "2", "--height", "64", "--width", "96"]


def make(output: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "datasets/make_shapes.py"), "--output", str(output), *SIZE, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_arguments_same_files(tmp_path):
    assert make(tmp_path / "a", "--workers", "1").returncode == 0
    assert make(tmp_path / "b", "--workers", "2").returncode == 0
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert make(tmp_path / "c", "--seed", "1").returncode == 0
    images = [{k: v for k, v in digests(tmp_path / n).items() if k.startswith("images")} for n in "ac"]
    assert not set(images[0].values()) & set(images[1].values())


def test_what_is_there_is_kept(tmp_path):
    assert make(tmp_path / "a").returncode == 0
    before = digests(tmp_path / "a")
    again = make(tmp_path / "a")
    assert again.returncode == 0 and "already there" in again.stdout
    other = make(tmp_path / "a", "--seed", "5")
    assert other.returncode == 1 and "remove it or choose another --output" in other.stderr
    assert digests(tmp_path / "a") == before
    (tmp_path / "b.partial/images").mkdir(parents=True)  # as an interrupted run leaves it
    assert make(tmp_path / "b").returncode == 0
    assert digests(tmp_path / "b") == before and not (tmp_path / "b.partial").exists()


def test_formats_agree(shapes_root):
    root = shapes_root / "shapes"
    instances = json.loads((root / "annotations/instances_train.json").read_text())
    panoptic = json.loads((root / "annotations/panoptic_train.json").read_text())
    isthing = {c["id"]: c["isthing"] for c in panoptic["categories"]}
    order = [c["id"] for c in panoptic["categories"]]
    stuff = [c for c in order if not isthing[c]]
    seen = set()
    for image, annotation in zip(instances["images"], panoptic["annotations"], strict=True):
        name, number = image["file_name"], image["id"]
        rgb = np.array(Image.open(root / "images/train" / name))
        assert rgb.shape == (image["height"], image["width"], 3)
        ids = rgb_to_ids(np.array(Image.open(root / "panoptic_train" / name)))
        semantic = np.array(Image.open(root / "semantic_train" / name))
        stuff_map = np.array(Image.open(root / "panoptic_stuff_train" / name))
        gt_fine = root / "cityscapes/gtFine/train/shapes"
        instance_ids = np.array(Image.open(gt_fine / f"shapes_{number:06d}_000000_gtFine_instanceIds.png"))
        label_ids = np.array(Image.open(gt_fine / f"shapes_{number:06d}_000000_gtFine_labelIds.png"))
        assert set(np.unique(ids)) - {0} == {s["id"] for s in annotation["segments_info"]}
        masks = []
        for segment in annotation["segments_info"]:
            mask, category = ids == segment["id"], segment["category_id"]
            seen.add(category)
            assert mask.sum() == segment["area"]
            assert (semantic[mask] == order.index(category)).all()
            assert (stuff_map[mask] == (0 if isthing[category] else stuff.index(category) + 1)).all()
            assert len(np.unique(instance_ids[mask])) == 1
            if isthing[category]:
                masks.append((category, mask))
                assert (instance_ids[mask] // 1000 == label_ids[mask]).all()
        of_image = [a for a in instances["annotations"] if a["image_id"] == number]
        assert len(of_image) == len(masks)
        for row, (category, mask) in zip(of_image, masks, strict=True):
            assert row["category_id"] == category
            assert np.array_equal(coco_mask.decode(row["segmentation"]), mask)
            assert coco_mask.toBbox(row["segmentation"]).tolist() == row["bbox"]
        void = ids == 0
        assert (semantic[void] == 255).all() and (stuff_map[void] == 255).all() and (label_ids[void] == 0).all()
        assert not void.all() and semantic[~void].max() < 8
    assert seen == set(order), "a class never occurs"


def test_bad_arguments(tmp_path):
    done = make(tmp_path / "a", "--train", "0")
    assert done.returncode == 2 and "must be positive" in done.stderr
