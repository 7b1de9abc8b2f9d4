"""Exchange between processes, event storage and what writers make of it, logging."""
# ruff: noqa: NPY002 (the engine seeds and draws from the global generator)

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)
from detectron2.utils.logger import create_small_table, log_every_n_seconds, log_first_n, setup_logger
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry, locate

sys.path.append(str(Path(__file__).parent))  # spawned processes inherit it
from toy_runs import exchange  # noqa: E402

import pnm  # noqa: F401


def test_one_process_talks_to_itself():
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_rank(), comm.get_local_size()) == (1, 0, 0, 1)
    assert comm.is_main_process()
    assert comm.all_gather({"a": 1}) == [{"a": 1}] and comm.gather(2) == [2]
    comm.synchronize()
    losses = {"x": torch.tensor(2.0)}
    assert comm.reduce_dict(losses) == losses
    np.random.seed(3)
    seed = comm.shared_random_seed()
    np.random.seed(3)
    assert seed == np.random.randint(2**31)


def test_two_processes_exchange_objects_and_tensors(tmp_path):
    launch(exchange, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["gathered"] == second["gathered"] == [{"rank": 0, "array": []}, {"rank": 1, "array": [0]}]
    assert (first["at_1"], second["at_1"]) == ([], [0, 1])
    assert (first["machine"], second["machine"]) == ([0, 2, 2], [1, 2, 2])
    assert first["within_machine"] == [0, 1]
    np.random.seed(0)
    assert first["seed"] == second["seed"] == np.random.randint(2**31)
    assert first["mean"] == {"a": 6.0, "b": 0.5} and first["sum"] == {"a": 12.0, "b": 1.0}


def test_storages_nest_and_count_iterations():
    assert not has_event_storage()
    with pytest.raises(AssertionError):
        get_event_storage()
    with EventStorage(5) as outer:
        assert get_event_storage() is outer and outer.iter == outer.iteration == 5
        with EventStorage() as inner:
            assert get_event_storage() is inner
        outer.step()
        assert get_event_storage() is outer and outer.iter == 6
        outer.iter = torch.tensor(9)
        assert outer.iter == 9
    assert not has_event_storage()


def test_scalars_are_smoothed_over_iterations_not_samples():
    values = np.random.RandomState(0).rand(50)
    with EventStorage() as storage:
        for iteration, value in enumerate(values):
            storage.iter = iteration
            if iteration % 3 == 0:
                storage.put_scalar("sparse", value)
            storage.put_scalars(raw=torch.tensor(value), smoothing_hint=False)
        smoothed = storage.latest_with_smoothing_hint(20)
        window = [values[i] for i in range(50) if i % 3 == 0 and i > 48 - 20]
        assert storage.count_samples("sparse", 20) == len(window)
        assert smoothed["sparse"] == (pytest.approx(np.median(window)), 48)
        assert smoothed["raw"] == (pytest.approx(values[-1]), 49)
        assert storage.latest()["sparse"] == (values[48], 48)
        assert storage.history("raw").global_avg() == pytest.approx(values.mean())
        assert storage.smoothing_hints() == {"sparse": True, "raw": False}
        with pytest.raises(KeyError):
            storage.history("unknown")
        with pytest.raises(AssertionError):
            storage.put_scalar("raw", 1.0, smoothing_hint=True)


def test_names_in_a_scope_get_its_prefix():
    with EventStorage() as storage:
        with storage.name_scope("outer/"):
            storage.put_scalar("a", 1)
        storage.put_scalar("a", 2, cur_iter=7)
    assert storage.latest() == {"outer/a": (1.0, 0), "a": (2.0, 7)}


def test_json_lines_hold_each_scalar_once(tmp_path):
    path = tmp_path / "metrics.json"
    with EventStorage() as storage:
        writer = JSONWriter(str(path), window_size=3)
        for iteration, loss in enumerate([4.0, 1.0, 7.0]):
            storage.iter = iteration
            storage.put_scalar("loss", loss)
            storage.put_scalar("lr", loss, smoothing_hint=False)
        storage.put_scalar("late", 5.0, cur_iter=1)
        writer.write()
        writer.write()
        storage.iter = 3
        storage.put_scalar("loss", 2.0)
        writer.write()
        writer.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(lines, key=lambda line: line["iteration"]) == [
        {"iteration": 1, "late": 5.0},
        {"iteration": 2, "loss": 4.0, "lr": 7.0},
        {"iteration": 3, "loss": 2.0},
    ]


def test_tensorboard_gets_scalars_images_and_histograms(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventStorage() as storage:
        writer = TensorboardXWriter(str(tmp_path))
        storage.put_scalar("loss", 3.0)
        storage.put_image("picture", torch.zeros(3, 4, 5))
        storage.put_histogram("weights", torch.arange(100.0), bins=10)
        writer.write()
        storage.iter = 1
        storage.put_scalar("loss", 5.0)
        writer.write()
        writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 3.0), (1, 4.0)]
    picture = events.Images("picture")
    assert len(picture) == 1 and (picture[0].height, picture[0].width) == (4, 5)
    (histogram,) = events.Histograms("weights")
    assert histogram.histogram_value.sum == 4950 and sum(histogram.histogram_value.bucket) == 100


def printed(**printer):
    """The lines of a printer after ten iterations and after the end, and the storage."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("detectron2.utils.events")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with EventStorage() as storage:
        writer = CommonMetricPrinter(**printer)
        for iteration in range(10):
            storage.iter = iteration
            storage.put_scalars(total_loss=1.5, loss_b=float(iteration), time=0.5, data_time=0.25)
            storage.put_scalar("[metric]acc", 0.125)
            storage.put_scalar("lr", 0.001, smoothing_hint=False)
        writer.write()
        storage.iter = printer.get("max_iter") or 10
        writer.write()
    logger.removeHandler(handler)
    return lines, storage


def test_the_progress_line():
    (line,), storage = printed(max_iter=100, window_size=4)  # nothing is said after the last iteration
    expected = (
        "eta: 0:00:45 iter: 9 total_loss: 1.5 loss_b: 7.5 [metric]acc: 0.125 time: 0.5000 last_time: 0.5000 "
        "data_time: 0.2500 last_data_time: 0.2500 lr: 0.001"
    )
    assert line.split()[: len(expected.split())] == expected.split()  # a GPU's memory may follow
    assert storage.latest()["eta_seconds"] == (45.0, 9)


def test_the_progress_line_without_a_length():
    lines, _ = printed()
    assert len(lines) == 2 and "eta" not in lines[0]


def test_repeated_messages_are_held_back(caplog):
    with caplog.at_level(logging.INFO):
        for i in range(7):
            log_first_n(logging.INFO, f"first {i}", n=2, name="held")
            log_first_n(logging.INFO, "same", n=1, name="held", key="message")
            log_every_n_seconds(logging.INFO, f"seconds {i}", n=100, name="held")
        log_first_n(logging.INFO, "same", n=1, name="held", key="message")
    assert caplog.messages == ["first 0", "same", "seconds 0", "first 1"]


def test_loggers_write_a_file_per_process(tmp_path, capsys):
    for rank in (0, 0, 1):
        logger = setup_logger(str(tmp_path), rank, name="own.logger", abbrev_name="own")
    logging.getLogger("own.logger.part").warning("careful")
    for name in ("log.txt", "log.txt.rank1"):
        text = (tmp_path / name).read_text()
        assert text.count("careful") == 1 and "WARNING" in text and "own" in text
    shown = capsys.readouterr().out
    assert shown.count("careful") == 1 and "own.part" in shown
    assert logger.name == "own.logger" and not logger.propagate


def test_small_tables():
    rows = create_small_table({"AP": 12.34567, "AP50": 50.0}).splitlines()
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == ["AP", "AP50"]
    assert [cell.strip() for cell in rows[2].strip("|").split("|")] == ["12.346", "50.000"]


def test_registry_and_locate():
    registry = Registry("THINGS")

    @registry.register()
    class Thing:
        pass

    assert registry.get("Thing") is Thing and "Thing" in registry
    with pytest.raises(KeyError):
        registry.get("Other")
    assert locate("collections.OrderedDict").__name__ == "OrderedDict"
    with pytest.raises(ImportError):
        locate("no.such.thing")


def test_seeds_fix_all_generators():
    import random

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_all_rng(4)
    first = draw()
    seed_all_rng(4)
    assert draw() == first
    seed_all_rng(None)
    assert draw() != first


def test_out_of_memory_is_retried_with_an_emptied_cache():
    attempts = []

    @retry_if_cuda_oom
    def hungry(x, y=0):
        attempts.append(x)
        if len(attempts) < 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return x + y

    assert hungry(2, y=3) == 5 and len(attempts) == 3

    @retry_if_cuda_oom
    def broken():
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        broken()
