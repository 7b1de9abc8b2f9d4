"""Equal records, equal augmented samples for equal random states, equal result files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prepared(real_data, tmp_path_factory):
    """A copy of the real data with the files that the prepare scripts generate, as DETECTRON2_DATASETS."""
    root = tmp_path_factory.mktemp("datasets")
    for name in ("coco", "cityscapes", "ADEChallengeData2016"):
        shutil.copytree(real_data / name, root / name)
    for path in (root / "cityscapes/gtFine").rglob("*labelIds.png"):  # Detectron2 reads the size from it
        polygons = path.with_name(path.name.replace("labelIds.png", "polygons.json"))
        polygons.write_text('{"imgHeight": 1024, "imgWidth": 2048, "objects": []}')
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for script, folder in (("prepare_ade20k", "ADEChallengeData2016"), ("prepare_cityscapes", "cityscapes")):
        command = [sys.executable, str(ROOT / f"datasets/{script}.py"), "--root", str(root / folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    previous = os.environ.get("DETECTRON2_DATASETS")
    os.environ["DETECTRON2_DATASETS"] = str(root)
    yield root
    os.environ.pop("DETECTRON2_DATASETS")
    if previous:
        os.environ["DETECTRON2_DATASETS"] = previous


def assert_same(real, ours, where=""):
    """Exactly equal, through containers of arrays and tensors."""
    assert type(real) is type(ours), where
    if isinstance(real, dict):
        assert real.keys() == ours.keys(), where
        for key in real:
            assert_same(real[key], ours[key], f"{where}.{key}")
    elif isinstance(real, (list, tuple)):
        assert len(real) == len(ours), where
        for k, pair in enumerate(zip(real, ours, strict=True)):
            assert_same(*pair, f"{where}[{k}]")
    elif isinstance(real, torch.Tensor):
        assert torch.equal(real, ours), where
    else:
        np.testing.assert_array_equal(ours, real, err_msg=where)


def test_metadata(both, prepared):
    real, ours = both("data_cases:metadata")
    assert set(ours) <= set(real) and len(ours) > 20
    assert_same({name: real[name] for name in ours}, ours)


@pytest.mark.parametrize(
    "name",
    [
        "coco_2017_train",
        "coco_2017_val",
        "ade20k_sem_seg_val",
        "cityscapes_fine_sem_seg_train",
        "cityscapes_fine_panoptic_train",
    ],
)
def test_records(both, prepared, name):
    real, ours = both("data_cases:dicts", name)
    assert len(real) > 0
    assert_same(real, ours)


@pytest.mark.parametrize("variant", ["polygon", "bitmask", "crop", "crop_bitmask", "colour"])
def test_mapped_samples(both, prepared, variant):
    real, ours = both("data_cases:mapped", "coco_2017_train", variant)
    assert len(real) == 12
    assert_same(real, ours)


@pytest.mark.parametrize("name", ["ade20k_sem_seg_val", "cityscapes_fine_sem_seg_train"])
def test_semantic_crops(both, prepared, name):
    real, ours = both("data_cases:semantic_crops", name)
    assert_same(real, ours)


def test_samplers(both):
    real, ours = both("data_cases:samplers")
    assert real == ours


def test_loader(both, prepared):
    real, ours = both("data_cases:loader")
    assert real == ours and len(real) == 8


@pytest.mark.parametrize("empty", ["no", "yes"])
def test_coco_evaluator(both, prepared, empty):
    (real, real_file), (ours, our_file) = both("data_cases:coco_evaluator", "coco_2017_val", empty)
    assert our_file == real_file
    assert ours.keys() == real.keys()
    for task, row in real.items():
        assert ours[task] == pytest.approx(row, rel=1e-12, nan_ok=True), task
    if empty == "no":
        assert real["segm"]["AP"] > 10


def test_semantic_evaluator(both, prepared):
    (real, real_file), (ours, our_file) = both("data_cases:semantic_evaluator", "ade20k_sem_seg_val")
    assert our_file == real_file
    # The real engine adds scores that it calls Boundary IoU and that are not.
    kept = {key: value for key, value in real.items() if "Boundary" not in key and "BoundaryIoU" not in key}
    assert ours.keys() <= kept.keys() and "mIoU" in ours
    for key, value in ours.items():
        np.testing.assert_allclose(value, kept[key], rtol=1e-12, err_msg=key)
