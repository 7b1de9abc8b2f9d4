"""``train_net.py --eval-only`` with TEST.AUG.ENABLED, as a user runs it."""

import json

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from pycocotools import mask as run_lengths

from pnm.projects.launcher.config import load_config
from pnm.projects.semantic_networks.multi_scale_testing import SemanticSegmentorWithTTA

CONFIG = "semantic_fpn_R_18"
SMALL = "SOLVER.IMS_PER_BATCH 4 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 64 SOLVER.MAX_ITER 8"
TWO = ["--num-gpus", "2"]
AUGMENTED = "TEST.AUG.ENABLED True TEST.AUG.MIN_SIZES (64,128) TEST.AUG.MAX_SIZE 150"


def label_maps(folder) -> dict[str, np.ndarray]:
    """By file name, from what an evaluation has written; -1 where no class is."""
    maps: dict[str, np.ndarray] = {}
    for row in json.loads((folder / "sem_seg_predictions.json").read_text()):
        mask = run_lengths.decode(row["segmentation"]).astype(bool)
        labels = maps.setdefault(row["file_name"], np.full(mask.shape, -1))
        labels[mask] = row["category_id"]
    return maps


def test_result_files_are_those_of_the_averaged_prediction(train_net, tmp_path):
    """In one process and in two; while training, TEST.AUG is not looked at."""
    done, weights = train_net(f"{SMALL} {AUGMENTED}", config=CONFIG), tmp_path / "run/model_final.pth"
    assert done.returncode == 0, done.stdout[-3000:]
    assert "TEST.AUG is for --eval-only: evaluations of this training make one plain pass" in done.stdout
    assert "passes an image" not in done.stdout
    scores = []
    for name, settings, flags in (("plain", "", []), ("augmented", AUGMENTED, []), ("two", AUGMENTED, TWO)):
        settings = f"{SMALL} {settings} MODEL.WEIGHTS {weights} OUTPUT_DIR {tmp_path / name}"
        done = train_net("--eval-only", *flags, settings, config=CONFIG)
        assert done.returncode == 0, done.stdout[-3000:]
        said = "test-time augmentation: 4 passes an image, shortest edges 64, 128 px and mirrored"
        assert done.stdout.count(said) == (name != "plain")
        assert "for --eval-only" not in done.stdout
        scores.append([line.split("]: ")[-1] for line in done.stdout.splitlines() if "copypaste" in line])
    of_training, plain, augmented, of_two = (
        label_maps(tmp_path / name / "inference/shapes_val_sem_seg") for name in ("run", "plain", "augmented", "two")
    )
    assert scores[0] != scores[1] == scores[2] and len(augmented) == 6
    assert all(np.array_equal(of_two[name], augmented[name]) for name in augmented)
    assert all(np.array_equal(plain[name], of_training[name]) for name in plain)
    model = build_model(load_config(f"configs/quickstart/{CONFIG}.yaml", ["MODEL.DEVICE", "cpu"])).eval()
    DetectionCheckpointer(model).load(str(weights))
    wrapper, changed = SemanticSegmentorWithTTA(model, (64, 128), 150), 0
    for file_name, labels in augmented.items():
        pixels = read_image(file_name, "BGR")
        assert pixels.shape == (96, 128, 3)  # as it is stored, whatever INPUT.MIN_SIZE_TEST says
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        expected = wrapper([{"image": image, "height": 96, "width": 128}])[0]["sem_seg"].argmax(0).numpy()
        assert (expected == labels).mean() > 0.999  # equal but for ties
        changed += np.sum(labels != plain[file_name])
    assert changed > 100


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_other_models_are_refused_before_data_are_read(train_net, tmp_path, flags):
    done = train_net(*flags, AUGMENTED, DETECTRON2_DATASETS=str(tmp_path / "nowhere"))
    assert done.returncode == 2 and "Traceback" not in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("error:"))
    assert "GeneralizedRCNN is none; set TEST.AUG.ENABLED False" in line
    assert not (tmp_path / "run").exists()
