"""The universal refiner in the launcher's hands: samples, losses, settings, refinement."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import pnm  # noqa: F401
from pnm.errors import UserError
from pnm.masks.crops import crop_array, crop_rle
from pnm.projects.launcher.config import load_config
from pnm.projects.universal import WindowMapper

CONFIG = "universal/universal_small.yaml"


@pytest.fixture
def entry(tmp_path):
    yy, xx = np.mgrid[:100, :140]
    mask = (yy - 50) ** 2 + (xx - 70) ** 2 < 900
    image = np.where(mask[..., None], np.uint8(210), np.uint8(50)).repeat(3, 2)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    row = {"segmentation": crop_rle(crop_array(mask), 100, 140), "category_id": 0, "bbox": [0, 0, 1, 1], "iscrowd": 0}
    return {"file_name": str(tmp_path / "a.png"), "image_id": 1, "annotations": [row]}


def config(*overrides):
    return load_config(CONFIG, ["MODEL.WEIGHTS", "", *overrides])


def test_sample_and_losses(entry):
    cfg = config("MODEL.UNIVERSAL.WINDOWS_PER_IMAGE", "3", "MODEL.UNIVERSAL.WINDOW_SIZE", "64")
    np.random.seed(0)  # noqa: NPY002 - as Detectron2 does
    sample = WindowMapper.from_config(cfg, is_train=True)(entry)
    assert sample["windows"].shape == (3, 4, 64, 64) and sample["targets"].shape == (3, 64, 64)
    assert set(sample["windows"][:, 3].unique().tolist()) <= {-1.0, 1.0}
    model = build_model(cfg).train()
    with EventStorage():
        losses = model([sample])
    losses["loss_refinement"].backward()
    assert list(losses) == ["loss_refinement"] and torch.isfinite(losses["loss_refinement"])
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_strength():
    with pytest.raises(UserError, match="REFINING_STRENGTH is 1.5"):
        build_model(config("MODEL.REFINING_STRENGTH", "1.5"))


def test_objects_and_partitions(entry):
    model = build_model(config()).eval()
    image = torch.randint(0, 256, (3, 100, 140), dtype=torch.uint8)
    mask = np.zeros((100, 140), np.bool_)
    mask[20:70, 30:90] = True
    (refined,) = model.refine_objects(image, [crop_array(mask)])
    assert refined.pixels.dtype == np.bool_
    labels = np.where(mask, 3, 7).astype(np.int32)
    assert set(np.unique(model.refine_partition(image, labels, [3, 7]))) <= {3, 7}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TASK", "boxes", "expected one of instance"),
        ("NETWORK", "large", "expected one of universal_small"),
        ("ERROR_WEIGHT", "0.5", "from 1 on"),
    ],
)
def test_settings_of_the_model(key, value, message):
    with pytest.raises(UserError, match=message):
        build_model(config(f"MODEL.UNIVERSAL.{key}", value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("WINDOW_SIZE", "100", "multiple of 32"),
        ("UNCHANGED", "2.0", "share from 0 to 1"),
        ("ERRORS", "none", "expected one of all, shifts"),
        ("LEAST_ERROR", "0.5", "at most 0.08"),
        ("WINDOWS_PER_IMAGE", "0", "at least 1"),
    ],
)
def test_settings_of_the_mapper(key, value, message):
    with pytest.raises(UserError, match=message):
        WindowMapper.from_config(config(f"MODEL.UNIVERSAL.{key}", value), is_train=True)
