"""The three base models train on real photographs, through the data sets' own formats."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Networks of the quick start, for they need no pretrained weights; losses are written as medians of 20 iterations.
SHORT = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 40 SOLVER.BASE_LR 0.0005 INPUT.MIN_SIZE_TRAIN (128,)"
SHORT += " INPUT.MAX_SIZE_TRAIN 256 INPUT.MIN_SIZE_TEST 128 INPUT.MAX_SIZE_TEST 256 INPUT.COLOR_AUG_SSD False"


def prepare(script: str, *arguments: object) -> None:
    command = [sys.executable, str(ROOT / "datasets" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def prepared(real_data, tmp_path_factory):
    """The real data with what the prepare scripts generate; the originals stay as they are."""
    root = tmp_path_factory.mktemp("real")
    for name in ("coco", "cityscapes", "ADEChallengeData2016"):
        shutil.copytree(real_data / name, root / name)
    prepare("prepare_cityscapes.py", "--root", root / "cityscapes")
    prepare("prepare_ade20k.py", "--root", root / "ADEChallengeData2016")
    for path in (root / "cityscapes/gtFine").rglob("*labelIds.png"):  # Detectron2 reads the size from it
        polygons = path.with_name(path.name.replace("labelIds.png", "polygons.json"))
        polygons.write_text('{"imgHeight": 1024, "imgWidth": 2048, "objects": []}')
    panoptic = {"json": root / "coco/annotations/panoptic_val2017.json", "folder": root / "coco/panoptic_val2017"}
    prepare(
        "prepare_panoptic_fpn.py", "--panoptic-json", panoptic["json"], "--panoptic-folder", panoptic["folder"],
        "--output", f"{panoptic['folder']}_stuff", "--instances-json", str(panoptic["json"])[:-5] + "_instances.json",
    )  # fmt: skip
    return root


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
def test_loss_falls(train_net, prepared, tmp_path, name):
    config, settings, test = CASES[name]
    settings = settings(prepared) if callable(settings) else settings
    settings += f" DATASETS.TRAIN \"('{name}',)\" DATASETS.TEST " + (f"\"('{test}',)\"" if test else "()")
    if name == "coco_2017_train":  # crowds are RLE
        settings += " INPUT.MASK_FORMAT bitmask"
    done = train_net(f"{SHORT} {settings}", config=config, DETECTRON2_DATASETS=str(prepared))
    assert done.returncode == 0, done.stdout[-3000:]
    lines = (tmp_path / "run/metrics.json").read_text().splitlines()
    losses = [row["total_loss"] for row in map(json.loads, lines) if "total_loss" in row]
    assert len(losses) >= 2 and all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    if test:
        assert any((tmp_path / "run/inference" / test).glob("*.json"))
