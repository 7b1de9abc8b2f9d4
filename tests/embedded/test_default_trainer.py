"""The command line, set-up, processes and the standard trainer's bookkeeping, on a model of two weights."""
# ruff: noqa: NPY002 (the engine seeds and draws from the global generator)

import json
import multiprocessing
import socket
import sys
from pathlib import Path

import detectron2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import (
    DefaultTrainer,
    default_argument_parser,
    default_setup,
    default_writers,
    launch,
)
from torch.multiprocessing import ProcessRaisedException

sys.path.append(str(Path(__file__).parent))  # spawned processes inherit it
from toy_runs import Toy, batches, fail, on_machine, train_half, trainer, wrap  # noqa: E402

import pnm  # noqa: F401

embedded_only = pytest.mark.skipif("embedded" not in detectron2.__version__, reason="wording of the embedded engine")


def test_the_command_line():
    line = "--config-file a.yaml --num-gpus 2 --num-machines 3 --machine-rank 1 --resume A.B 1 C d"
    args = default_argument_parser().parse_args(line.split())
    assert (args.config_file, args.num_gpus, args.num_machines, args.machine_rank) == ("a.yaml", 2, 3, 1)
    assert args.resume and not args.eval_only and args.opts == ["A.B", "1", "C", "d"]
    assert args.dist_url.startswith("tcp://127.0.0.1:")


def test_settings_scale_with_the_number_of_processes():
    cfg = get_cfg()
    cfg.merge_from_list([
        "SOLVER.IMS_PER_BATCH", 16, "SOLVER.BASE_LR", 0.1, "SOLVER.REFERENCE_WORLD_SIZE", 8, "SOLVER.MAX_ITER", 5000,
        "SOLVER.STEPS", (4000,), "SOLVER.CHECKPOINT_PERIOD", 1000, "SOLVER.WARMUP_ITERS", 100, "TEST.EVAL_PERIOD", 500,
    ])  # fmt: skip
    cfg.freeze()
    assert DefaultTrainer.auto_scale_workers(cfg, 8) is cfg
    scaled = DefaultTrainer.auto_scale_workers(cfg, 16)
    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (32, 0.2, 2500, (2000,))
    assert (solver.CHECKPOINT_PERIOD, solver.WARMUP_ITERS, scaled.TEST.EVAL_PERIOD) == (500, 50, 250)
    assert solver.REFERENCE_WORLD_SIZE == 16 and scaled.is_frozen() and cfg.SOLVER.MAX_ITER == 5000


def test_set_up_saves_the_config_and_seeds(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.SEED = str(tmp_path / "out"), 5
    default_setup(cfg, default_argument_parser().parse_args([]))
    drawn = torch.rand(1), np.random.rand()
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "out" / "config.yaml"))
    assert again.SEED == 5 and (tmp_path / "out" / "log.txt").is_file()
    default_setup(cfg, default_argument_parser().parse_args([]))
    assert (torch.rand(1), np.random.rand()) == drawn


@embedded_only
def test_an_output_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "file" / "out")
    with pytest.raises(ValueError, match="OUTPUT_DIR"):
        default_setup(cfg, None)


class ToyTrainer(DefaultTrainer):
    """The standard trainer around the toy model."""

    @classmethod
    def build_model(cls, cfg):
        return Toy()

    @classmethod
    def build_train_loader(cls, cfg):
        return batches()

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        return {"toy": {"size": float(model.fc.weight.detach().norm())}}


def toy_config(folder, max_iter):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.merge_from_list([
        "SOLVER.MAX_ITER", max_iter, "SOLVER.BASE_LR", 0.05, "SOLVER.STEPS", (4,), "SOLVER.WARMUP_ITERS", 2,
        "SOLVER.CHECKPOINT_PERIOD", 3, "TEST.EVAL_PERIOD", 2, "MODEL.DEVICE", "cpu",
    ])  # fmt: skip
    return cfg


def test_the_standard_trainer_writes_resumes_and_evaluates(tmp_path):
    first = ToyTrainer(toy_config(tmp_path, 6))
    first.resume_or_load(resume=True)
    first.train()
    saved = {path.stem for path in tmp_path.glob("*.pth")}
    assert saved == {"model_0000002", "model_0000005", "model_final"}
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    expected = {"lr", "total_loss", "loss_fit", "loss_size", "data_time", "iteration"}
    assert any(expected <= line.keys() and line["iteration"] == 5 for line in lines)
    assert any("toy/size" in line for line in lines)
    assert list(tmp_path.glob("events.out.tfevents*"))

    longer = ToyTrainer(toy_config(tmp_path, 9))
    longer.resume_or_load(resume=True)
    assert longer.start_iter == 6
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    torch.testing.assert_close(longer.model.state_dict(), first.model.state_dict(), rtol=0, atol=0)
    longer.train()
    assert longer.iter == 9 and longer.scheduler.last_epoch == 9

    fresh = ToyTrainer(toy_config(tmp_path, 9))
    fresh.resume_or_load(resume=False)
    assert fresh.start_iter == 0 and fresh.model.fc.weight.eq(0.5).all()


def test_the_standard_trainer_checks_expected_results(tmp_path):
    cfg = toy_config(tmp_path, 1)
    cfg.TEST.EXPECTED_RESULTS = [["toy", "size", 0.7, 0.5]]
    assert ToyTrainer(cfg).train()["toy"]["size"] == pytest.approx(0.7, abs=0.5)


def test_default_writers_make_their_folder(tmp_path):
    writers = default_writers(str(tmp_path / "new"), 10)
    assert len(writers) == 3 and (tmp_path / "new").is_dir()
    for writer in writers:
        writer.close()


@pytest.mark.parametrize("machines", [1, 2])
def test_two_processes_train_as_one(tmp_path, machines):
    if machines == 1:
        launch(train_half, 2, dist_url="auto", args=(str(tmp_path),))
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        spawn = multiprocessing.get_context("spawn")
        users = [spawn.Process(target=on_machine, args=(rank, address, str(tmp_path))) for rank in (0, 1)]
        for user in users:
            user.start()
        for user in users:
            user.join(120)
        assert [user.exitcode for user in users] == [0, 0]
    loop = trainer()
    loop.train(0, 4)
    saved = torch.load(tmp_path / "ddp.pth")
    torch.testing.assert_close(saved["model"], dict(loop.model.state_dict()), rtol=1e-5, atol=1e-6)
    alone = [value for value, _ in loop.storage.history("total_loss").values()]
    assert saved["losses"] == pytest.approx(alone, rel=1e-5)


@embedded_only
def test_models_on_the_cpu_are_wrapped_without_a_device():
    launch(wrap, 2, dist_url="auto")


def test_the_failure_of_a_process_is_reported():
    with pytest.raises(ProcessRaisedException, match="process 1 has a problem"):
        launch(fail, 2, dist_url="auto", args=(1,))


def test_one_process_runs_in_place():
    seen = []
    launch(seen.append, 1, args=(3,))
    assert seen == [3]


@embedded_only
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "at least one process"),
        ((1, 2, 2, "tcp://127.0.0.1:1"), "machine rank"),
        ((1, 2, 0, "auto"), "one machine only"),
        ((2,), "dist_url"),
    ],
)
def test_impossible_launches_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        launch(print, *arguments)
