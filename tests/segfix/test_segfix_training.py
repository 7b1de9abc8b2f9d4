"""Training and evaluation through train_net.py: tasks, processes, data sets that share a batch, and going on."""

import json

import pytest
import torch

SHORT = "SOLVER.MAX_ITER 4 SOLVER.IMS_PER_BATCH 4 SOLVER.CHECKPOINT_PERIOD 2 SOLVER.OPTIMIZER SGD SOLVER.BASE_LR 0.01"
DATA = {
    "instance": ("shapes_{}", "annotations/instances_val.json"),
    "semantic": ("shapes_{}_sem_seg", "semantic_val"),
    "panoptic": ("shapes_{}_panoptic", "annotations/panoptic_val.json"),
}
RESULTS = {
    "instance": "coco_instances_results.json",
    "semantic": "sem_seg_predictions.json",
    "panoptic": "predictions.json",
}


def quoted(*values):
    return "'(" + "".join(f'"{value}",' for value in values) + ")'"


@pytest.fixture(scope="module")
def predictions(shapes_root, tmp_path_factory):
    """{task: result file}, the truth itself."""
    root, folder = shapes_root / "shapes", tmp_path_factory.mktemp("predictions")
    content = json.loads((root / "annotations/instances_val.json").read_text())
    rows = [{k: row[k] for k in ("image_id", "category_id", "segmentation")} for row in content["annotations"]]
    (folder / "instances.json").write_text(json.dumps([{**row, "score": 0.9} for row in rows]))
    panoptic = json.loads((root / "annotations/panoptic_val.json").read_text())
    (folder / "panoptic.json").write_text(json.dumps({"annotations": panoptic["annotations"]}))
    (folder / "panoptic").symlink_to(root / "panoptic_val")
    return {
        "instance": folder / "instances.json",
        "semantic": root / "semantic_val",
        "panoptic": folder / "panoptic.json",
    }


def overrides(task, predictions):
    names = {part: DATA[task][0].format(split) for part, split in (("TRAIN", "train"), ("TEST", "val"))}
    found = [SHORT, f"MODEL.SEGFIX.TASK {task} DATASETS.PREDICTIONS_TEST {quoted(predictions[task])}"]
    return " ".join([*found, *(f"DATASETS.{part} {quoted(name)}" for part, name in names.items())])


@pytest.mark.parametrize("task", DATA)
def test_trains_on_each_truth_and_refines_each_prediction(train_net, tmp_path, predictions, task):
    done = train_net(overrides(task, predictions), config="segfix")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "predictions for 6 of 6 images" in done.stdout
    logged = (tmp_path / "run/metrics.json").read_text()
    assert "loss_segfix_boundary" in logged and "segfix/direction_accuracy" in logged
    assert (tmp_path / "run/inference" / DATA[task][0].format("val") / RESULTS[task]).is_file()


def test_a_model_of_one_task_refines_another_in_two_processes(train_net, tmp_path, predictions):
    done = train_net(f"{overrides('panoptic', predictions)} DATASETS.TEST ()", config="segfix")
    assert done.returncode == 0, done.stdout[-3000:]
    weights, files = tmp_path / "run/model_final.pth", []
    for processes in ("1", "2"):
        settings = f"{overrides('instance', predictions)} MODEL.WEIGHTS {weights} OUTPUT_DIR {tmp_path / processes}"
        done = train_net("--eval-only", "--num-gpus", processes, settings, config="segfix")
        assert done.returncode == 0, done.stdout[-3000:]
        rows = json.loads((tmp_path / processes / "inference/shapes_val" / RESULTS["instance"]).read_text())
        files.append(sorted(map(json.dumps, rows)))
    assert files[0] == files[1]


def test_two_processes_train_as_one_on_two_data_sets(train_net, tmp_path, shapes_root):
    """Same batches, same frequencies of classes. Batch norm alone sees a process's own images: near, not equal."""
    names = quoted("shapes_train_sem_seg", "shapes_val_sem_seg")
    settings = f"{SHORT} MODEL.SEGFIX.TASK semantic DATASETS.TRAIN {names} DATASETS.TEST ()"
    settings += " DATALOADER.DATASET_SHARES (1,1) INPUT.RANDOM_FLIP none INPUT.COLOR_AUG_SSD False"
    rows, weights = [], []
    for processes in ("1", "2"):
        folder = tmp_path / processes
        done = train_net("--num-gpus", processes, f"{settings} OUTPUT_DIR {folder}", config="segfix")
        assert done.returncode == 0, done.stdout[-3000:]
        rows.append([json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()][-1])
        weights.append(torch.load(folder / "model_final.pth", weights_only=True)["model"])
    assert rows[0]["total_loss"] == pytest.approx(rows[1]["total_loss"], rel=0.05)
    for name, value in weights[0].items():
        if name.endswith("weight") and value.ndim > 1:
            assert torch.nn.functional.cosine_similarity(value.flatten(), weights[1][name].flatten(), 0) > 0.99


def test_a_run_on_two_data_sets_goes_on_as_if_undisturbed(train_net, tmp_path):
    names = quoted("shapes_train_sem_seg", "shapes_val_sem_seg")
    settings = (
        f"{SHORT} MODEL.SEGFIX.TASK semantic DATASETS.TRAIN {names} DATASETS.TEST () DATALOADER.DATASET_SHARES (1,1)"
    )
    for folder in ("whole", "parts"):
        done = train_net(f"{settings} OUTPUT_DIR {tmp_path / folder}", config="segfix")
        assert done.returncode == 0, done.stdout[-3000:]
    for name in ("model_final.pth", "model_0000003.pth"):
        (tmp_path / "parts" / name).unlink()
    (tmp_path / "parts/last_checkpoint").write_text("model_0000001.pth")
    done = train_net("--resume", f"{settings} OUTPUT_DIR {tmp_path / 'parts'}", config="segfix")
    assert done.returncode == 0, done.stdout[-3000:]
    one, other = (
        torch.load(tmp_path / folder / "model_final.pth", weights_only=True)["model"] for folder in ("whole", "parts")
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DATASETS.PREDICTIONS_TEST ()", "nothing to refine: name the result files of DATASETS.TEST in"),
        (
            "DATALOADER.DATASET_SHARES (1,2)",
            r"DATALOADER.DATASET_SHARES is (1, 2), expected a positive number for each",
        ),
        ("DATASETS.PREDICTIONS_TRAIN \"('a.json',)\"", "SegFix learns from images and ground truth alone"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(train_net, predictions, change, message):
    done = train_net(f"{overrides('panoptic', predictions)} {change}", config="segfix")
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: ") and message in last, done.stdout[-2000:]
