"""Training and evaluation through train_net.py, for all three tasks."""

import json
import re

import pytest
import torch

DATASETS = {"instance": "shapes_{}", "semantic": "shapes_{}_sem_seg", "panoptic": "shapes_{}_panoptic"}
RESULTS = {
    "instance": "coco_instances_results.json",
    "semantic": "sem_seg_predictions.json",
    "panoptic": "predictions.json",
}
SHORT = (
    "SOLVER.MAX_ITER 3 SOLVER.IMS_PER_BATCH 2 SOLVER.CHECKPOINT_PERIOD 100 MODEL.BPR.PATCH_SIZE 16 "
    "MODEL.BPR.INPUT_SIZE 32 MODEL.BPR.PATCHES_PER_IMAGE 4 MODEL.SEM_SEG_HEAD.NUM_CLASSES 8"
)


def quoted(*paths):
    """A tuple for the command line."""
    return "'(" + "".join(f'"{path}",' for path in paths) + ")'"


def overrides(task, files):
    found = [SHORT, f"MODEL.BPR.TASK {task}"]
    for part, split in (("TRAIN", "train"), ("TEST", "val")):
        found.append(f"DATASETS.{part} {quoted(DATASETS[task].format(split))}")
        found.append(f"DATASETS.PREDICTIONS_{part} {quoted(files[task][split])}")
    return " ".join(found)


@pytest.mark.parametrize("task", DATASETS)
def test_trains_evaluates_and_evaluates_again_in_two_processes(train_net, tmp_path, coarse_files, task):
    done = train_net(f"{overrides(task, coarse_files)} TEST.REPORT True", config="bpr_instance")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "predictions for 12 of 12 images" in done.stdout and "predictions for 6 of 6 images" in done.stdout
    assert "bpr/refined_accuracy" in (tmp_path / "run/metrics.json").read_text()
    result = tmp_path / "run/inference" / DATASETS[task].format("val") / RESULTS[task]
    once = result.read_bytes()
    page = (result.parent / "report.html").read_text("utf-8")
    numbers = json.loads(re.search(r'id="numbers">(.*?)</script>', page)[1])
    assert numbers["task"] == task and numbers["predictions"] == [str(coarse_files[task]["val"]), str(result)]
    again = train_net(
        "--eval-only", "--num-gpus", "2",
        f"{overrides(task, coarse_files)} MODEL.WEIGHTS {tmp_path / 'run/model_final.pth'}", config="bpr_instance",
    )  # fmt: skip
    assert again.returncode == 0, again.stdout[-3000:]
    if task == "panoptic":  # the order of processes is that of images
        assert json.loads(result.read_text()) == json.loads(once)
    else:
        assert sorted(map(json.dumps, json.loads(result.read_text()))) == sorted(map(json.dumps, json.loads(once)))


def test_two_processes_train_as_one(train_net, tmp_path, coarse_files):
    """Two images a step, one for each process; no random choice, and no statistics over the batch."""
    settings = f"{overrides('semantic', coarse_files)} MODEL.BPR.PATCHES_PER_IMAGE 1000 INPUT.RANDOM_FLIP none"
    settings += " INPUT.COLOR_AUG_SSD False DATASETS.TEST () SOLVER.OPTIMIZER SGD SOLVER.BASE_LR 0.01"
    settings += " MODEL.BPR.NORM SyncBN" if torch.cuda.is_available() else ""
    weights = []
    for processes in ("1", "2"):
        done = train_net(
            "--num-gpus", processes, f"{settings} OUTPUT_DIR {tmp_path / processes}", config="bpr_instance"
        )
        assert done.returncode == 0, done.stdout[-3000:]
        weights.append(torch.load(tmp_path / processes / "model_final.pth", weights_only=True)["model"])
    assert all(torch.isfinite(value).all() for value in weights[1].values())
    # Batch norm sees one image in each of two processes, and two in one: near, not equal.
    for name, value in weights[0].items():
        if name.endswith("weight"):
            assert torch.nn.functional.cosine_similarity(value.flatten(), weights[1][name].flatten(), 0) > 0.99


def test_trains_without_predictions(train_net, tmp_path):
    done = train_net(f"{SHORT} DATASETS.PREDICTIONS_TRAIN () DATASETS.TEST ()", config="bpr_instance")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "run/model_final.pth").is_file()


def test_predictions_of_some_images(train_net, tmp_path, coarse_files):
    """Images without predictions are kept, empty, and reported."""
    rows = json.loads(coarse_files["instance"]["val"].read_text())
    some = tmp_path / "some.json"
    some.write_text(json.dumps([row for row in rows if row["image_id"] == 1]))
    files = {"instance": {"train": coarse_files["instance"]["train"], "val": some}}
    done = train_net(overrides("instance", files), config="bpr_instance")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "predictions for 1 of 6 images" in done.stdout
    result = json.loads((tmp_path / "run/inference/shapes_val/coco_instances_results.json").read_text())
    assert {row["image_id"] for row in result} == {1}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [{"image_id": 0, "category_id": 99, "score": 1, "segmentation": {"size": [96, 128], "counts": "PP<"}}],
            "has categories [99], data set shapes_train has [1, 2, 3, 4]",
        ),
        (
            [{"image_id": 0, "category_id": 1, "score": 1, "segmentation": {"size": [5, 5], "counts": "i0"}}],
            "is 96 x 128, its prediction 5 x 5",
        ),
    ],
)
def test_bad_predictions_are_told_in_one_line(train_net, tmp_path, coarse_files, content, message):
    files = {"instance": {**coarse_files["instance"], "train": write(tmp_path / "bad.json", content)}}
    done = train_net(f"{overrides('instance', files)} SOLVER.MAX_ITER 40", config="bpr_instance")
    assert done.returncode == 2, done.stdout[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert message in line


def test_predictions_that_fit_nothing(train_net, tmp_path, coarse_files):
    rows = json.loads(coarse_files["instance"]["train"].read_text())
    rows = [{**row, "category_id": row["category_id"] % 4 + 1} for row in rows]
    files = {"instance": {**coarse_files["instance"], "train": write(tmp_path / "others.json", rows)}}
    done = train_net(f"{overrides('instance', files)} MODEL.BPR.MATCH_IOU 0.8", config="bpr_instance")
    assert done.returncode == 2 and "none of 12 training images has a coarse mask that fits" in done.stdout


def test_wrong_number_of_files_and_missing_ones(train_net, coarse_files):
    two = f"{overrides('instance', coarse_files)} DATASETS.PREDICTIONS_TRAIN {quoted('a', 'b')}"
    done = train_net(two, config="bpr_instance")
    assert "names 2 result file(s) for 1 data set(s), shapes_train: name one for each" in done.stdout
    done = train_net(f"{SHORT} DATASETS.PREDICTIONS_TRAIN () DATASETS.PREDICTIONS_TEST ()", config="bpr_instance")
    assert done.returncode == 2 and "name the result files of DATASETS.TEST in DATASETS.PREDICTIONS_TEST" in done.stdout
