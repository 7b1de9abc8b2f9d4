"""tools/visualize.py as a user runs it: a page with a column for each thing that was asked for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.interior_offsets.field import InteriorOffsets
from pnm.interior_offsets.stored import OffsetSource, open_offsets

ROOT = Path(__file__).resolve().parents[2]
GAP, TITLE = 6, 18


@pytest.fixture
def results(shapes_root, tmp_path):
    """Folders of result files that repeat the ground truth, by data set."""
    root = shapes_root / "shapes"
    folders = {name: tmp_path / name for name in ("shapes_val", "shapes_val_panoptic", "shapes_val_sem_seg")}
    for folder in folders.values():
        folder.mkdir()
    annotations = json.loads((root / "annotations/instances_val.json").read_text())["annotations"]
    kept = ("image_id", "category_id", "bbox", "segmentation")
    rows = [{key: a[key] for key in kept} | {"score": 0.9} for a in annotations]
    (folders["shapes_val"] / "coco_instances_results.json").write_text(json.dumps(rows))
    shutil.copyfile(root / "annotations/panoptic_val.json", folders["shapes_val_panoptic"] / "predictions.json")
    shutil.copytree(root / "panoptic_val", folders["shapes_val_panoptic"] / "panoptic")
    files = [str(root / "images/val" / f"{a['image_id']:06}.png") for a in annotations]
    rows = [
        {"file_name": file, "category_id": 0, "segmentation": a["segmentation"]} for file, a in zip(files, annotations)
    ]
    (folders["shapes_val_sem_seg"] / "sem_seg_predictions.json").write_text(json.dumps(rows))
    return folders


def visualize(shapes_root, *arguments):
    command = [sys.executable, "tools/visualize.py", "--config-file", "configs/quickstart/mask_rcnn_R_18_FPN.yaml"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(shapes_root)}
    return subprocess.run([*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["shapes_val", "shapes_val_panoptic", "shapes_val_sem_seg"])
def test_page_with_all_columns(shapes_root, results, tmp_path, name):
    page = tmp_path / "page.png"
    folders = ("--dataset", name, "--predictions", results[name], "--refined", results[name])
    done = visualize(shapes_root, *folders, "--pixel-weights", "--num", 2, "--scale", 1, "--output", page)
    assert done.returncode == 0, done.stderr
    with Image.open(page) as image:
        assert image.size == (5 * 128 + 4 * GAP, TITLE + 2 * 96 + GAP)
        boxes = [(k * (128 + GAP), TITLE, k * (128 + GAP) + 128, TITLE + 96) for k in range(5)]
        columns = [image.crop(box).tobytes() for box in boxes]
    assert columns[2] == columns[3]  # coarse and refined are the same files
    # Panoptic predictions that repeat the truth are drawn as the truth is.
    assert len(set(columns)) == (3 if name == "shapes_val_panoptic" else 4)
    with Image.open(sorted((shapes_root / "shapes/images/val").glob("*.png"))[0]) as first:
        assert columns[0] == first.convert("RGB").tobytes()


def test_missing_results(shapes_root, tmp_path):
    done = visualize(shapes_root, "--predictions", tmp_path, "--output", tmp_path / "page.png")
    assert done.returncode == 2 and "evaluate first" in done.stderr and "Traceback" not in done.stderr


def test_a_name_that_is_no_pictures(shapes_root, results, tmp_path):
    done = visualize(shapes_root, "--predictions", results["shapes_val"], "--output", tmp_path / "page.bogus")
    assert done.returncode == 2 and "page.bogus, expected the name of a picture" in done.stderr
    assert not list(tmp_path.glob("page*"))


def test_offsets_are_a_column(shapes_root, results, tmp_path):
    stored = open_offsets(tmp_path / "offsets", OffsetSource("nothing"))
    blank = np.zeros((96, 128), np.uint8)
    for path in (shapes_root / "shapes/images/val").glob("*.png"):
        stored.add(path, InteriorOffsets(blank, blank, 8))
    page = tmp_path / "page.png"
    folders = ("--predictions", results["shapes_val"], "--offsets", tmp_path / "offsets")
    done = visualize(shapes_root, *folders, "--num", 1, "--scale", 1, "--output", page)
    assert done.returncode == 0, done.stderr
    with Image.open(page) as image:
        assert image.size == (4 * 128 + 3 * GAP, TITLE + 96)
        assert not np.asarray(image)[TITLE:, -128:].any()
