"""The three base models train on real photographs, through the data sets' own formats."""

import json
import math
from pathlib import Path

import pytest

# Networks of the quick start, for they need no pretrained weights; losses are written as medians of 20 iterations.
SHORT = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 40 SOLVER.BASE_LR 0.0005 INPUT.MIN_SIZE_TRAIN (128,)"
SHORT += " INPUT.MAX_SIZE_TRAIN 256 INPUT.MIN_SIZE_TEST 128 INPUT.MAX_SIZE_TEST 256 INPUT.COLOR_AUG_SSD False"


def own_panoptic(root: Path) -> str:
    entry = {
        "name": "photos",
        "type": "panoptic",
        "images": str(root / "coco/panoptic_images"),
        "annotations": str(root / "coco/annotations/panoptic_val2017.json"),
        "panoptic": str(root / "coco/panoptic_val2017"),
    }
    return f'DATASETS.REGISTER "[{entry}]" MODEL.ROI_HEADS.NUM_CLASSES 80 MODEL.SEM_SEG_HEAD.NUM_CLASSES 54'


CASES = {
    "coco_2017_train": ("mask_rcnn_R_18_FPN", "MODEL.ROI_HEADS.NUM_CLASSES 80", "coco_2017_val"),
    "cityscapes_fine_sem_seg_train": ("semantic_fpn_R_18", "MODEL.SEM_SEG_HEAD.NUM_CLASSES 19", None),
    "ade20k_sem_seg_val": ("semantic_fpn_R_18", "MODEL.SEM_SEG_HEAD.NUM_CLASSES 150", "ade20k_sem_seg_val"),
    "photos": ("panoptic_fpn_R_18", own_panoptic, "photos"),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_falls(train_net, prepared_data, tmp_path, name):
    config, settings, test = CASES[name]
    settings = settings(prepared_data) if callable(settings) else settings
    settings += f" DATASETS.TRAIN \"('{name}',)\" DATASETS.TEST " + (f"\"('{test}',)\"" if test else "()")
    if name == "coco_2017_train":  # crowds are RLE
        settings += " INPUT.MASK_FORMAT bitmask"
    done = train_net(f"{SHORT} {settings}", config=config, DETECTRON2_DATASETS=str(prepared_data))
    assert done.returncode == 0, done.stdout[-3000:]
    lines = (tmp_path / "run/metrics.json").read_text().splitlines()
    losses = [row["total_loss"] for row in map(json.loads, lines) if "total_loss" in row]
    assert len(losses) >= 2 and all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    if test:
        assert any((tmp_path / "run/inference" / test).glob("*.json"))
