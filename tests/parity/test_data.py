"""Equal data in and out: entries, pixels for equal random states, sampled indices, result files and scores."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets"
# Rotations are computed by another formula; scores are summed in another order.
ROUNDING = 1e-9


@pytest.fixture
def root(real_data, tmp_path):
    """Copies of the small real data sets with all files that are made from them."""
    root = tmp_path / "root"
    for name in ("cityscapes", "coco", "ADEChallengeData2016"):
        shutil.copytree(real_data / name, root / name, copy_function=shutil.copyfile)
    coco = root / "coco"
    for image in (coco / "panoptic_images").iterdir():
        shutil.copyfile(image, coco / "val2017" / image.name)
    panoptic = ["--panoptic-json", coco / "annotations/panoptic_val2017.json", "--panoptic-folder"]
    panoptic += [coco / "panoptic_val2017", "--output", coco / "panoptic_stuff_val2017"]
    for script, options in (
        ("ade20k", ["--root", root / "ADEChallengeData2016"]),
        ("cityscapes", ["--root", root / "cityscapes"]),
        ("panoptic_fpn", [*panoptic, "--instances-json", root / "instances.json"]),
    ):
        subprocess.run([sys.executable, SCRIPTS / f"prepare_{script}.py", *options], check=True, capture_output=True)
    for path in (root / "cityscapes" / "gtFine").glob("*/*/*_instanceIds.png"):
        draw_polygons(path)
    return root


def draw_polygons(path: Path) -> None:
    """Stands in for the polygon file, which the small data lack: outlines of the regions, made to overlap."""
    labels = {
        7: "road",
        11: "building",
        21: "vegetation",
        23: "sky",
        24: "person",
        25: "rider",
        26: "car",
        33: "bicycle",
    }
    ids = np.asarray(Image.open(path)).astype(int)
    objects = [{"label": "license plate", "polygon": [[5, 5], [50, 5], [50, 50]]}]
    for value in np.unique(ids).tolist():
        label = value // 1000 if value > 999 else value
        if label in labels:
            name = labels[label] + "group" * (value < 1000 and label >= 24)
            mask = cv2.dilate((ids == value).astype(np.uint8), np.ones((9, 9)))
            outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)[-2]
            objects += [{"label": name, "polygon": line[:, 0].tolist()} for line in outlines if len(line) > 3]
    content = {"imgHeight": ids.shape[0], "imgWidth": ids.shape[1], "objects": objects}
    Path(str(path).replace("instanceIds.png", "polygons.json")).write_text(json.dumps(content))


def assert_equal(real, ours, place: str = "", rounding: float = 0.0) -> None:
    """Equal in structure, dtype, shape and value; NumPy's scalars are Python's."""
    if isinstance(real, dict):
        assert real.keys() == ours.keys(), (place, real.keys() ^ ours.keys())
        for key, value in real.items():
            assert_equal(value, ours[key], f"{place}/{key}", rounding)
    elif isinstance(real, list | tuple):
        assert len(real) == len(ours), (place, len(real), len(ours))
        for i, pair in enumerate(zip(real, ours, strict=True)):
            assert_equal(*pair, f"{place}[{i}]", rounding)
    elif hasattr(real, "shape") and not isinstance(real, np.generic):
        assert (real.dtype, real.shape) == (ours.dtype, ours.shape), place
        np.testing.assert_allclose(ours, real, rtol=rounding, atol=rounding, err_msg=place)
    elif isinstance(real, float):
        assert ours == pytest.approx(real, rel=rounding or 1e-15, abs=rounding, nan_ok=True), place
    else:
        assert real == ours, (place, real, ours)


def test_entries_are_equal(both, root):
    pytest.importorskip("shapely")
    pytest.importorskip("cityscapesscripts")
    real, ours = both("data_cases:entries")
    assert_equal(real, ours)
    assert sum(len(entry["annotations"]) for entry in real["coco_2017_train"]) > 100
    assert real["cityscapes_fine_instance_seg_train"][0]["annotations"]
    assert len(real["metadata"]) >= 26


def test_mapped_samples_are_equal(both, root):
    pytest.importorskip("cityscapesscripts")
    real, ours = both("data_cases:mapped")
    assert_equal(real, ours)
    assert sum(len(sample["instances"]["gt_classes"]) for sample in real if "instances" in sample) > 100


def test_augmentations_are_equal(both):
    real, ours = both("data_cases:augmented")
    exact = [key for key in real if "rotation" not in key]
    assert_equal({k: real[k] for k in exact}, {k: ours[k] for k in exact})
    assert_equal(real, ours, rounding=ROUNDING)


def test_samplers_and_loaders_are_equal(both, root):
    pytest.importorskip("cityscapesscripts")
    assert_equal(*both("data_cases:sampled"))


def test_scores_and_result_files_are_equal(both, root):
    pytest.importorskip("cityscapesscripts")
    real, ours = both("data_cases:evaluated")
    assert_equal(real, ours, rounding=ROUNDING)
    assert 5 < real["coco_2017_val {}"][0]["segm"]["AP"] < 99
    assert 0 < real["cityscapes instances"][0]["segm"]["AP"] < 99
    assert 5 < real["panoptic coco_2017_val"][0]["panoptic_seg"]["PQ"] < 99
