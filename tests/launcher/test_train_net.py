"""The launcher as a user runs it: train, evaluate, resume after a kill, several processes."""

import json
import os
import random
import re
import shutil
import signal
import socket
import time

import pytest
import torch

SMALL = "SOLVER.IMS_PER_BATCH 4 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96 INPUT.RANDOM_FLIP none"


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


RESULT_FILES = {
    "mask_rcnn_R_18_FPN": ("shapes_val", ["coco_instances_results.json"]),
    "semantic_fpn_R_18": ("shapes_val_sem_seg", ["sem_seg_predictions.json"]),
    "panoptic_fpn_R_18": (
        "shapes_val_panoptic",
        ["coco_instances_results.json", "sem_seg_predictions.json", "predictions.json", "panoptic/000005.png"],
    ),
}


@pytest.mark.parametrize("config", RESULT_FILES)
def test_trains_evaluates_and_evaluates_again(train_net, tmp_path, config):
    done = train_net(f"{SMALL} SOLVER.MAX_ITER 3", config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    first = done.stdout.splitlines()[:3]
    assert "engine" in first[0] or "Detectron2" in first[0]
    assert "torch" in first[1] and "CPU" in first[1] and "seed 0" in first[2]
    dataset, files = RESULT_FILES[config]
    folder = tmp_path / "run" / "inference" / dataset
    contents = {name: (folder / name).read_bytes() for name in files}
    again = train_net("--eval-only", f"{SMALL} MODEL.WEIGHTS {tmp_path / 'run/model_final.pth'}", config=config)
    assert again.returncode == 0, again.stdout[-3000:]
    assert "all weights" in again.stdout and "fit the model" in again.stdout
    assert contents == {name: (folder / name).read_bytes() for name in files}


def wait_for(path, process, seconds=120):
    deadline = time.time() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read()[-3000:]
        assert time.time() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_resumes_after_a_kill(train_net, tmp_path):
    run = tmp_path / "run"
    settings = f"{SMALL} SOLVER.MAX_ITER 12 SOLVER.CHECKPOINT_PERIOD 3 DATASETS.TEST ()"
    process = train_net(settings, wait=False)
    wait_for(run / "model_0000005.pth", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # As if the kill had come while the next checkpoint was being written, and the tag pointed to a torn file.
    whole = (run / "model_0000005.pth").read_bytes()
    (run / ".model_0000008.pth.partial").write_bytes(whole[: len(whole) // 2])
    (run / "model_0000099.pth").write_bytes(whole[: len(whole) // 2])
    (run / "last_checkpoint").write_text("model_0000099.pth")
    done = train_net("--resume", settings)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("model_0000099.pth is missing or damaged and is passed over") == 1
    saved = sorted(p.name for p in run.glob("model_*.pth"))
    newest = [name for name in saved if name not in ("model_0000099.pth", "model_final.pth")][-1]
    assert newest == "model_0000011.pth" and (run / "last_checkpoint").read_text() == "model_final.pth"
    final = torch.load(run / "model_final.pth", weights_only=True)
    assert final["trainer"]["iteration"] == 11
    assert final["trainer"]["_trainer"]["optimizer"]["state"][0]["step"] == 12, "the optimizer's state was not resumed"
    # A run that nobody interrupted ends at the same learning rate.
    other = train_net(f"{settings} OUTPUT_DIR {tmp_path / 'whole'}")
    assert other.returncode == 0
    straight = torch.load(tmp_path / "whole/model_final.pth", weights_only=True)
    rates = [s["trainer"]["_trainer"]["optimizer"]["param_groups"][0]["lr"] for s in (final, straight)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-9)
    # A shorter run than what was trained is none, and leaves no weights.
    (run / "model_final.pth").unlink()
    done = train_net("--resume", settings.replace("MAX_ITER 12", "MAX_ITER 6"))
    assert done.returncode == 2 and not (run / "model_final.pth").exists()
    assert "SOLVER.MAX_ITER is 6, and" in done.stdout and "trained for 12 iterations already" in done.stdout


@pytest.mark.parametrize("config", ["mask_rcnn_R_18_FPN_PNM", "semantic_fpn_R_18"])
def test_killed_at_any_moment_and_resumed_it_ends_as_if_undisturbed(train_net, tmp_path, config):
    """Bit for bit, with colours, crops and flips drawn in two workers. ``PNM_KILLS=40`` for more kills."""
    settings = "SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 14 SOLVER.CHECKPOINT_PERIOD 2 DATASETS.TEST () SEED -1"
    settings += " INPUT.MIN_SIZE_TRAIN (80,96,112) INPUT.COLOR_AUG_SSD True DATALOADER.NUM_WORKERS 2"
    chance, run, kills = random.Random(config), tmp_path / "run", 0
    whole = train_net(f"{settings} OUTPUT_DIR {tmp_path / 'whole'}", config=config)
    assert whole.returncode == 0, whole.stdout[-3000:]
    seed = int(re.search(r"seed (\d+)", whole.stdout)[1])
    while kills < int(os.environ.get("PNM_KILLS", "2")):
        if (run / "model_final.pth").exists():
            check_same_end(tmp_path / "whole", run)
            shutil.rmtree(run)
        if run.exists():
            process = train_net("--resume", settings, config=config, wait=False)
        else:
            process = train_net(settings.replace("SEED -1", f"SEED {seed}"), config=config, wait=False)
        begun, deadline = len(list(run.glob("model_*.pth"))), time.monotonic() + 120
        while process.poll() is None and len(list(run.glob("model_*.pth"))) <= begun and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.random())
        kills += process.poll() is None
        process.kill()
        process.communicate()
    if (run / "model_final.pth").exists():  # as if killed between the last two files that a run writes
        (run / "model_final.pth").unlink()
        (run / "last_checkpoint").write_text("model_0000013.pth")
    final = train_net("--resume", settings, config=config)
    assert final.returncode == 0, final.stdout[-3000:]
    check_same_end(tmp_path / "whole", run)


def check_same_end(*runs):
    one, other = (torch.load(run / "model_final.pth", weights_only=True) for run in runs)
    torch.testing.assert_close(other["model"], one["model"], rtol=0, atol=0)
    torch.testing.assert_close(other["trainer"], one["trainer"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kill", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("processes", [1, 2])
def test_interrupts_are_told_in_one_line(train_net, tmp_path, kill, status, word, processes):
    settings = f"{SMALL} SOLVER.MAX_ITER 5000 SOLVER.CHECKPOINT_PERIOD 2 DATASETS.TEST ()"
    process = train_net("--num-gpus", str(processes), settings, wait=False)
    wait_for(tmp_path / "run/model_0000001.pth", process)
    process.send_signal(kill)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output[-3000:]
    assert output.rstrip().endswith(f"{word}: checkpoints are whole; add --resume to go on from the last one")
    assert "Traceback" not in output and not list((tmp_path / "run").glob("*.partial"))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.parametrize(
    ("config", "settings", "tolerance"),
    [
        # Group norm, for batch norm's statistics are those of a process's own images.
        ("semantic_fpn_R_18", "INPUT.COLOR_AUG_SSD False", {"total_loss": 1e-4}),
        # Samples without chance: all anchors and proposals. What is averaged over a process's own number of
        # proposals or masks differs by a little between one process and two.
        (
            "mask_rcnn_R_18_FPN",
            "MODEL.RPN.BATCH_SIZE_PER_IMAGE 100000 MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 100000",
            {"loss_rpn_cls": 1e-3, "loss_rpn_loc": 1e-3, "loss_cls": 0.02, "loss_box_reg": 0.1, "loss_mask": 0.02},
        ),
    ],
)
def test_two_processes_train_as_one(train_net, tmp_path, config, settings, tolerance):
    norms = "MODEL.RESNETS.NORM GN MODEL.FPN.NORM GN MODEL.SEM_SEG_HEAD.NORM GN SOLVER.OPTIMIZER SGD"
    settings = f"{SMALL} {norms} {settings} SOLVER.MAX_ITER 3 DATASETS.TEST ()"
    rows = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        done = train_net("--num-gpus", str(processes), f"{settings} OUTPUT_DIR {folder}", config=config)
        assert done.returncode == 0, done.stdout[-3000:]
        assert f"{processes} process(es)" in done.stdout
        rows.append(metrics(folder)[-1])
    for name, limit in tolerance.items():
        assert rows[1][name] == pytest.approx(rows[0][name], rel=limit), name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_machines_and_torchrun(train_net, tmp_path):
    """Two launchers that meet over TCP, and torchrun, train alike."""
    config = "semantic_fpn_R_18"
    settings = f"{SMALL} INPUT.COLOR_AUG_SSD False SOLVER.MAX_ITER 2 DATASETS.TEST () OUTPUT_DIR {tmp_path}"
    meeting = ["--num-machines", "2", "--dist-url", f"tcp://127.0.0.1:{free_port()}"]
    machines = [
        train_net(*meeting, "--machine-rank", str(rank), f"{settings}/machines", config=config, wait=False)
        for rank in (0, 1)
    ]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train_net.py")
    outputs = [process.communicate(timeout=300)[0] for process in machines]
    assert [process.returncode for process in machines] == [0, 0], outputs
    done = train_net(f"{settings}/torchrun", config=config, program=torchrun)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 process(es)" in outputs[0] and "2 process(es)" in done.stdout
    rows = [metrics(tmp_path / name)[-1] for name in ("machines", "torchrun")]
    assert rows[0]["iteration"] == rows[1]["iteration"] == 1
    assert rows[0]["total_loss"] == pytest.approx(rows[1]["total_loss"], rel=1e-6)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_evaluate_as_one(train_net, tmp_path):
    """Equal numbers and equal result files, whoever predicted which image."""
    config = "panoptic_fpn_R_18"
    done = train_net(f"{SMALL} SOLVER.MAX_ITER 2 DATASETS.TEST ()", config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    contents = []
    for processes in (1, 2):
        folder = tmp_path / f"eval{processes}"
        settings = f"{SMALL} MODEL.WEIGHTS {tmp_path / 'run/model_final.pth'} OUTPUT_DIR {folder}"
        done = train_net("--eval-only", "--num-gpus", str(processes), settings, config=config)
        assert done.returncode == 0, done.stdout[-3000:]
        table = [line.split("]: ")[-1] for line in done.stdout.splitlines() if "copypaste" in line]
        inference = folder / "inference/shapes_val_panoptic"
        files = {p.name: sorted_rows(p) for p in inference.glob("*.json")}
        contents.append((table, files | {p.name: p.read_bytes() for p in inference.rglob("*.png")}))
    assert contents[0] == contents[1]
    assert len(contents[0][0]) == 18 and len(contents[0][1]) == 9


def sorted_rows(path):
    """A result file's rows in an order of their own: processes may finish in any."""
    content = json.loads(path.read_text())
    rows = content["annotations"] if isinstance(content, dict) else content
    return sorted(json.dumps(row, sort_keys=True) for row in rows)
