"""A writer of weight maps that is killed at any moment, and run again, leaves what an undisturbed one does."""

import os
import random
import signal
import time

import numpy as np
from PIL import Image

from pnm.formats.atomic_files import ENDING
from pnm.null_model.stored import writer
from pnm.null_model.stored.check import check_weight_maps
from pnm.null_model.stored.maps import WeightMapParameters, WeightMaps
from pnm.null_model.stored.writer import write_weight_maps

TOY = WeightMapParameters("toy", 7)


def content(folder):
    """Everything in a folder, the lock aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_killed_at_any_moment(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = [tmp_path / f"{k:03d}.png" for k in range(60)]
    for file in labels:
        Image.fromarray(rng.integers(0, 3, (40, 50)).astype(np.uint8)).save(file)
    folder, chance = tmp_path / "toy", random.Random(1)
    write_weight_maps(tmp_path / "fresh", TOY, labels)
    # Many small writes make it likely that a kill comes between them.
    monkeypatch.setattr(writer, "write_bytes", in_small_pieces)
    monkeypatch.setattr(writer, "write_text", lambda path, text: in_small_pieces(path, text.encode()))
    interrupted = 0
    for _ in range(15):
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            write_weight_maps(folder, TOY, labels, workers=2)
            os._exit(0)
        target, deadline = lines_of(folder) + chance.randrange(6), time.monotonic() + 60
        while lines_of(folder) < target and time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        interrupted += 1 < lines_of(folder) < 61
    monkeypatch.undo()
    assert interrupted > 5
    assert len(WeightMaps(folder, TOY)) == lines_of(folder) - 1
    write_weight_maps(folder, TOY, labels, workers=2)
    assert content(folder) == content(tmp_path / "fresh")
    assert check_weight_maps(folder, TOY, labels) == []


def lines_of(folder):
    path = folder / "manifest.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def in_small_pieces(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{ENDING}")
    with unfinished.open("wb", buffering=0) as file:
        for at in range(0, len(data), 200):
            file.write(data[at : at + 200])
            time.sleep(0.0005)
    os.replace(unfinished, path)
