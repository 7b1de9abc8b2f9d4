"""SE-PSNet through the launcher: training, result files with all scores, refinement of them, processes, other data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnm.formats.label_png import read_panoptic_png

ROOT = Path(__file__).resolve().parents[2]
VAL = "shapes_val_panoptic"
SHORT = "SOLVER.MAX_ITER 3 SOLVER.IMS_PER_BATCH 2 SOLVER.CHECKPOINT_PERIOD 100 INPUT.MIN_SIZE_TRAIN (96,)"
SHORT += " INPUT.MIN_SIZE_TEST 96 MODEL.SE_PSNET.FUSION.SCORE_THRESH 0.2 MODEL.SE_PSNET.FCOS.SCORE_THRESH 0.0"
SHORT += " MODEL.SE_PSNET.FCOS.DETECTIONS 12 MODEL.SE_PSNET.FUSION.STUFF_AREA_LIMIT 64"


def environment(**more):
    return os.environ | {"OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def trained(shapes_root, tmp_path_factory):
    """Folder of a run that trained and evaluated."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    command = [
        sys.executable,
        "train_net.py",
        "--config-file",
        "configs/quickstart/se_psnet.yaml",
        "OUTPUT_DIR",
        folder,
    ]
    command += ["DATALOADER.NUM_WORKERS", "0", *SHORT.split()]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=environment(DETECTRON2_DATASETS=str(shapes_root)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def test_result_files_have_all_scores(trained):
    folder = trained / "inference" / VAL
    rows = json.loads((folder / "coco_instances_results.json").read_text())
    assert rows
    for row in rows:
        mixed = 0.8 * row["fcos_score"] + 0.2 * row["mask_iou_score"]
        assert row["score"] == pytest.approx(mixed, abs=1e-5)
        assert 0 <= row["score"] <= 1
    content = json.loads((folder / "predictions.json").read_text())
    things = {c["id"] for c in content["categories"] if c["isthing"]}
    for annotation in content["annotations"]:
        ids = read_panoptic_png(folder / "panoptic" / annotation["file_name"])
        assert set(np.unique(ids).tolist()) - {0} == {s["id"] for s in annotation["segments_info"]}
        for segment in annotation["segments_info"]:
            assert ("score" in segment) == (segment["category_id"] in things)
            assert segment.get("score", 1.0) >= 0.2
    metrics = (trained / "metrics.json").read_text()
    assert "panoptic_seg/PQ" in metrics and "loss_mask_silhouette" in metrics


def test_refiners_take_its_results(trained, shapes_root, tmp_path):
    """BPR and SegFix with fresh weights: what matters is that files are read and written with all that is in them."""
    folder = trained / "inference" / VAL
    for config, file, keys in (
        ("bpr_instance", "coco_instances_results.json", {"score", "fcos_score", "mask_iou_score"}),
        ("segfix", "predictions.json", set()),
    ):
        weights = fresh_weights(config, tmp_path)
        output = tmp_path / f"{config}.json"
        command = [sys.executable, "tools/refine.py", "--config-file", f"configs/quickstart/{config}.yaml", "--images"]
        command += [shapes_root / "shapes/images/val", "--predictions", folder / file, "--output", output]
        command += ["MODEL.WEIGHTS", weights]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        before, after = (json.loads(path.read_text()) for path in (folder / file, output))
        if keys:
            assert [{k: row[k] for k in keys} for row in before] == [{k: row[k] for k in keys} for row in after]
        else:
            scores = [[s.get("score") for a in c["annotations"] for s in a["segments_info"]] for c in (before, after)]
            assert scores[0] == scores[1]


def fresh_weights(config, folder):
    import torch
    from detectron2.modeling import build_model

    from pnm.projects.launcher.config import load_config

    torch.manual_seed(0)
    model = build_model(load_config(f"configs/quickstart/{config}.yaml", ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "8"]))
    path = folder / f"{config}.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


def test_eval_only_gives_the_same_on_one_and_two_processes(trained, train_net, tmp_path):
    scores = []
    for processes in ("1", "2"):
        output = tmp_path / processes
        weights = f"MODEL.WEIGHTS {trained / 'model_final.pth'} OUTPUT_DIR {output}"
        done = train_net("--eval-only", "--num-gpus", processes, f"{SHORT} {weights}", config="se_psnet")
        assert done.returncode == 0, done.stdout[-3000:]
        scores.append(json.loads((output / "inference" / VAL / "predictions.json").read_text()))
    assert sorted(map(str, scores[0]["annotations"])) == sorted(map(str, scores[1]["annotations"]))


def test_two_processes_train(train_net, tmp_path):
    """Every parameter is on the graph of every batch in each of them."""
    done = train_net("--num-gpus", "2", f"{SHORT} DATASETS.TEST ()", config="se_psnet")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "run" / "model_final.pth").is_file()


def test_instances_only_and_pixel_weights(train_net, tmp_path):
    data = """DATASETS.TRAIN "('shapes_train',)" DATASETS.TEST "('shapes_val',)" """
    done = train_net(f"{SHORT} MODEL.SE_PSNET.PANOPTIC False {data}", config="se_psnet")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "run/inference/shapes_val/coco_instances_results.json").is_file()
    done = train_net(
        f"{SHORT} MODEL.PNM.ENABLED True DATASETS.TEST () OUTPUT_DIR {tmp_path / 'pnm'}", config="se_psnet"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    metrics = (tmp_path / "pnm/metrics.json").read_text()
    assert "loss_mask" in metrics and "pnm" in metrics


def test_own_panoptic_data_without_twin_files(train_net, shapes_root, tmp_path):
    """Category ids and their order are the user's own."""
    root = shapes_root / "shapes"
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text((root / f"annotations/panoptic_{split}.json").read_text())
    entries = [
        {
            "name": f"my_{split}",
            "type": "panoptic",
            "images": str(root / "images" / split),
            "annotations": str(tmp_path / f"{split}.json"),
            "panoptic": str(root / f"panoptic_{split}"),
        }
        for split in ("train", "val")
    ]
    data = f'DATASETS.REGISTER "{entries}" DATASETS.TRAIN "(\'my_train\',)" DATASETS.TEST "(\'my_val\',)"'
    done = train_net(f"{SHORT} {data}", config="se_psnet")
    assert done.returncode == 0, done.stdout[-3000:]
    folder = tmp_path / "run/inference/my_val"
    assert (folder / "predictions.json").is_file() and (folder / "coco_instances_results.json").is_file()


def test_overfits_two_scenes(train_net, shapes_root, tmp_path):
    """PQ of the two scenes that it learned, things and stuff."""
    root = shapes_root / "shapes"
    content = json.loads((root / "annotations/panoptic_train.json").read_text())
    content["annotations"] = content["annotations"][:2]
    kept = {annotation["image_id"] for annotation in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    (tmp_path / "two.json").write_text(json.dumps(content))
    entry = {"name": "two", "type": "panoptic", "images": str(root / "images/train")}
    entry |= {"annotations": str(tmp_path / "two.json"), "panoptic": str(root / "panoptic_train")}
    data = f'DATASETS.REGISTER "[{entry}]" DATASETS.TRAIN "(\'two\',)" DATASETS.TEST "(\'two\',)"'
    schedule = "SOLVER.MAX_ITER 150 SOLVER.WARMUP_ITERS 20 SOLVER.IMS_PER_BATCH 2 SOLVER.CHECKPOINT_PERIOD 1000"
    sizes = "INPUT.RANDOM_FLIP none INPUT.MIN_SIZE_TRAIN (192,) INPUT.MIN_SIZE_TEST 192"
    done = train_net(f"{data} {schedule} {sizes} MODEL.SE_PSNET.FUSION.STUFF_AREA_LIMIT 64", config="se_psnet")
    assert done.returncode == 0, done.stdout[-3000:]
    results = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    found = next(row for row in reversed(results) if "panoptic_seg/PQ" in row)
    assert found["panoptic_seg/PQ"] > 95
