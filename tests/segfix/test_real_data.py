"""SegFix on real photographs: Cityscapes and ADE20K, both at once, and the predictions of a real DeepLabV3+ on VOC."""

import json
import os
import subprocess
import sys
from pathlib import Path

import detectron2
import numpy as np
import pytest
from PIL import Image

from pnm.formats.label_png import read_label_png
from pnm.formats.semantic_maps import label_files, train_ids
from pnm.interior_offsets.boundary_shares import BoundaryShares
from pnm.interior_offsets.targets import offset_targets

ROOT = Path(__file__).resolve().parents[2]
SHORT = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 3 SOLVER.CHECKPOINT_PERIOD 100 DATASETS.TEST () MODEL.DEVICE cpu"
SHORT += " MODEL.SEGFIX.NETWORK small_unet MODEL.SEGFIX.HEAD_CHANNELS 16 MODEL.SEGFIX.NORM BN INPUT.CROP.SIZE (128,128)"
CONFIGS = {
    "Cityscapes-SemanticSegmentation/segfix_hrnet_w48": "('cityscapes_fine_sem_seg_train',)",
    "ADE20K-SemanticSegmentation/segfix_hrnet_w48": "('ade20k_sem_seg_val',)",
    "COCO-PanopticSegmentation/segfix_hrnet_w48": "('panoptic',)",
    "universal/segfix_cityscapes_ade20k_hrnet_w48": "('cityscapes_fine_sem_seg_train','ade20k_sem_seg_val')",
}


if (
    "embedded" in detectron2.__version__
):  # Detectron2's own loader of Cityscapes' instances needs an unpublished package
    CONFIGS["Cityscapes-InstanceSegmentation/segfix_hrnet_w48"] = "('cityscapes_fine_instance_seg_train',)"


@pytest.mark.parametrize("config", CONFIGS)
def test_published_configs_train(train_net, prepared_data, tmp_path, config):
    """Those of Cityscapes in two processes."""
    more = " DATALOADER.DATASET_SHARES (1,1)" if config.startswith("universal") else ""
    processes = "2" if config.startswith("Cityscapes") and (os.cpu_count() or 1) > 1 else "1"
    if config.startswith("COCO"):  # whose photographs lie in a folder of their own
        names = {"images": "panoptic_images", "annotations": "annotations/panoptic_val2017.json"}
        names["panoptic"] = "panoptic_val2017"
        paths = {key: str(prepared_data / "coco" / name) for key, name in names.items()}
        more = f' DATASETS.REGISTER "{[{"name": "panoptic", "type": "panoptic", **paths}]}"'
    settings = f'{SHORT} DATASETS.TRAIN "{CONFIGS[config]}"{more}'
    path = f"configs/{config}.yaml"
    environment = {"DETECTRON2_DATASETS": str(prepared_data)}
    done = train_net("--num-gpus", processes, settings, config=path, **environment)
    assert done.returncode == 0, done.stdout[-3000:]
    losses = json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[-1])
    assert all(np.isfinite(losses[f"loss_segfix_{name}"]) for name in ("boundary", "direction"))


def test_predictions_of_a_real_model(train_net, prepared_data, real_data, tmp_path):
    """DeepLabV3+ on VOC: colours become labels; what isn't at a boundary stays, and every label was there."""
    done = train_net(f"{SHORT} DATASETS.TRAIN \"('cityscapes_fine_sem_seg_train',)\"",
                     config="configs/Cityscapes-SemanticSegmentation/segfix_hrnet_w48.yaml",
                     DETECTRON2_DATASETS=str(prepared_data))  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir(), labels.mkdir()
    files = sorted((real_data / "predictions/voc_deeplabv3plus").glob("*_pred.png"))
    assert len(files) == 3
    for file in files:
        colours = np.asarray(Image.open(file).convert("RGB"))
        _, values = np.unique(colours.reshape(-1, 3), axis=0, return_inverse=True)
        Image.fromarray(values.reshape(colours.shape[:2]).astype(np.uint8)).save(labels / f"{file.stem}.png")
        Image.open(file.with_name(file.name.replace("_pred", "_image"))).convert("RGB").save(
            images / f"{file.stem}.jpg"
        )
    command = [sys.executable, "tools/refine.py", "--config-file", "configs/quickstart/segfix.yaml"]
    command += [
        "--images",
        images,
        "--predictions",
        labels,
        "--output",
        tmp_path / "refined",
        "--offsets",
        tmp_path / "o",
    ]
    command += ["MODEL.WEIGHTS", tmp_path / "run/model_final.pth", "MODEL.SEGFIX.HEAD_CHANNELS", "16"]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for file in sorted(labels.iterdir()):
        before, after = (read_label_png(folder / file.name) for folder in (labels, tmp_path / "refined"))
        assert set(np.unique(after)) <= set(np.unique(before))


def test_the_order_of_table_1(real_data):
    """Shares of boundary pixels at 1 px on Cityscapes: poles > traffic lights > signs > vegetation > road."""
    shares = BoundaryShares(19)
    for path in label_files(real_data / "cityscapes/gtFine", label_ids=True).values():
        shares.add(train_ids(path, read_label_png(path), truth=True))
    at_1px = dict(zip(("road", "pole", "light", "sign", "vegetation"), shares.by_class()[0][[0, 5, 6, 7, 8]]))
    assert sorted(at_1px, key=lambda name: -at_1px[name]) == ["pole", "light", "sign", "vegetation", "road"]
    assert 0.01 < shares.of_all()[0] < 0.05 and (np.diff(shares.by_class()[:, :9], axis=0) >= 0).all()


def test_targets_of_a_real_map_equal_brute_force(real_data):
    """A window of a Cityscapes map, distances from all its pixels of other labels."""
    path = next(iter(label_files(real_data / "cityscapes/gtFine", label_ids=True).values()))
    labels = read_label_png(path)[380:440, 900:980]
    yx = np.stack(np.nonzero(np.ones_like(labels)), axis=1)
    values = labels.reshape(-1)
    squared = ((yx[:, None] - yx[None]) ** 2).sum(-1).astype(float)
    squared[values[:, None] == values[None]] = np.inf
    boundary = offset_targets(labels, width_px=3, direction="nearest").boundary
    assert np.array_equal(boundary.reshape(-1) == 1, squared.min(1) < 16) and 0.1 < boundary.mean() < 0.9
