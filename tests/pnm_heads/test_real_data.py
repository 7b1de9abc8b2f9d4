"""Weighted training on real photographs, with weights computed and stored."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnm.formats.label_png import read_label_png
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.stored.maps import WeightMapParameters, WeightMaps
from pnm.null_model.stored.surprisal import weights_of_surprisal

ROOT = Path(__file__).resolve().parents[2]
SHORT = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 4 INPUT.MIN_SIZE_TRAIN (128,) INPUT.MAX_SIZE_TRAIN 256 DATASETS.TEST ()"
CITYSCAPES = "cityscapes_fine_sem_seg_train"


def logged(tmp_path) -> dict:
    return json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[-1])


def test_mask_rcnn_on_coco(train_net, prepared_data, tmp_path):
    settings = f"{SHORT} MODEL.ROI_HEADS.NUM_CLASSES 80 DATASETS.TRAIN \"('coco_2017_train',)\""
    done = train_net(settings, config="mask_rcnn_R_18_FPN_PNM", DETECTRON2_DATASETS=str(prepared_data))
    assert done.returncode == 0, done.stdout[-3000:]
    assert logged(tmp_path)["pnm/mask_mean_weight"] > 1 and math.isfinite(logged(tmp_path)["total_loss"])


@pytest.fixture(scope="module")
def maps(prepared_data) -> Path:
    """Weight maps of the Cityscapes sample."""
    command = [sys.executable, "tools/precompute_weights.py", "--dataset", CITYSCAPES, "--workers", "1"]
    environment = os.environ | {"DETECTRON2_DATASETS": str(prepared_data)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return prepared_data / "pnm_weights" / CITYSCAPES


@pytest.mark.parametrize(
    ("source", "labels", "data"),
    [
        ("label", "semantic", CITYSCAPES),
        ("offline", "semantic", CITYSCAPES),
        ("label", "panoptic", "cityscapes_fine_panoptic_train"),
    ],
)
def test_semantic_fpn_on_cityscapes(train_net, prepared_data, maps, tmp_path, source, labels, data):
    settings = f"{SHORT} MODEL.SEM_SEG_HEAD.NUM_CLASSES 19 DATASETS.TRAIN \"('{data}',)\""
    settings += f" INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute INPUT.CROP.SIZE (96,128) MODEL.PNM.SOURCE {source}"
    settings += f" MODEL.PNM.LABELS {labels}"
    done = train_net(settings, config="semantic_fpn_R_18_PNM", DETECTRON2_DATASETS=str(prepared_data))
    assert done.returncode == 0, done.stdout[-3000:]
    assert logged(tmp_path)["pnm/sem_seg_mean_weight"] > 1 and math.isfinite(logged(tmp_path)["total_loss"])


def test_panoptic_fpn_on_coco_with_weights_of_segments(train_net, prepared_data, tmp_path):
    """Detectron2's separated data sets don't name their panoptic PNGs."""
    names = {
        "val2017": "panoptic_images",
        "panoptic_val2017": "panoptic_val2017",
        "panoptic_stuff_val2017": "panoptic_val2017_stuff",
        "annotations/panoptic_val2017.json": "annotations/panoptic_val2017.json",
        "annotations/instances_val2017.json": "annotations/panoptic_val2017_instances.json",
    }
    (tmp_path / "coco/annotations").mkdir(parents=True)
    for name, source in names.items():
        (tmp_path / "coco" / name).symlink_to(prepared_data / "coco" / source)
    settings = f"{SHORT} MODEL.ROI_HEADS.NUM_CLASSES 80 MODEL.SEM_SEG_HEAD.NUM_CLASSES 54 MODEL.PNM.LABELS panoptic"
    settings += " DATASETS.TRAIN \"('coco_2017_val_panoptic_separated',)\""
    done = train_net(settings, config="panoptic_fpn_R_18_PNM", DETECTRON2_DATASETS=str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:]
    assert logged(tmp_path)["pnm/sem_seg_mean_weight"] > 1 and math.isfinite(logged(tmp_path)["total_loss"])


def test_stored_weights_are_the_computed_ones(prepared_data, maps):
    stored = WeightMaps(maps, WeightMapParameters(CITYSCAPES, 35))
    files = sorted((prepared_data / "cityscapes/gtFine/train").rglob("*labelTrainIds.png"))
    assert len(files) == 2
    for path in files:
        labels = read_label_png(path)
        expected = np.where(labels == 255, 0, pixel_weights(pixel_null_model(labels, 35)))
        np.testing.assert_allclose(weights_of_surprisal(stored.read(path)), expected, rtol=1e-4)
