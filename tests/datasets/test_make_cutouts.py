"""Training scenes of the universal refiner: equal arguments give equal files, masks are of what was pasted."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pnm.masks.runs import decode_masks

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--train", "3", "--val", "2", "--height", "160", "--width", "192"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two photographs and a cut-out, drawn."""
    folder, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    for name in ("photographs", "cutouts"):
        (folder / name).mkdir()
    for n in range(2):
        small = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
        photograph = cv2.resize(small, (400, 300), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"photographs/{n}.jpg"), photograph)
    rgba = np.zeros((120, 90, 4), np.uint8)
    cv2.ellipse(rgba, (45, 60), (35, 50), 0, 0, 360, (30, 60, 220, 255), -1, cv2.LINE_AA)
    cv2.imwrite(str(folder / "cutouts/a.png"), rgba)
    return folder


def make(sources, output, *arguments):
    command = [sys.executable, str(ROOT / "datasets/make_cutouts.py"), "--photographs", str(sources / "photographs")]
    command += ["--cutouts", str(sources / "cutouts"), "--output", str(output), *SIZE, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_scenes_and_masks(sources, tmp_path):
    run = make(sources, tmp_path / "a", "--processes", "1")
    assert run.returncode == 0, run.stderr
    assert make(sources, tmp_path / "b", "--processes", "2").returncode == 0
    for split, number in (("train", 3), ("val", 2)):
        texts = [(tmp_path / name / f"instances_{split}.json").read_text("utf-8") for name in "ab"]
        assert texts[0] == texts[1]
        content = json.loads(texts[0])
        assert len(content["images"]) == number
        for image in content["images"]:
            places = [tmp_path / name / "images" / split / image["file_name"] for name in "ab"]
            assert places[0].read_bytes() == places[1].read_bytes()
            assert cv2.imread(str(places[0])).shape == (160, 192, 3)
        masks = decode_masks([row["segmentation"] for row in content["annotations"]], 160, 192, str)
        assert masks.areas.tolist() == [row["area"] for row in content["annotations"]]
        assert masks.areas.min() >= 100  # of what an annotator drew of 250 pixels
    assert (tmp_path / "a/scenes.png").is_file()


def test_messages(sources, tmp_path):
    (tmp_path / "none").mkdir()
    run = make(sources, tmp_path / "a", "--photographs", str(tmp_path / "none"))
    assert run.returncode and "no photograph" in run.stderr and not (tmp_path / "a").exists()
    run = make(sources, tmp_path / "a", "--height", "20")
    assert run.returncode and "expected 128 to 2048" in run.stderr
    run = make(sources, tmp_path / "a", "--cutouts", str(tmp_path / "missing"))
    assert run.returncode and "no folder" in run.stderr


def test_regions_stand_out(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "datasets"))
    from photograph_regions import region_masks

    image = np.full((120, 160, 3), 90, np.uint8)
    cv2.circle(image, (60, 60), 30, (220, 80, 60), -1)
    truth = (image[..., 0] > 150).astype(np.uint8)
    masks = region_masks(image, np.random.default_rng(0), 3)
    best = max(np.count_nonzero(mask & (truth > 0)) / np.count_nonzero(mask | (truth > 0)) for mask in masks)
    assert best > 0.88  # a pixel beside the edge
    assert region_masks(np.full((120, 160, 3), 90, np.uint8), np.random.default_rng(0), 3) == []
