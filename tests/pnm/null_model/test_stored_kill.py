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


def write_slowly(folder, labels):
    """A process's work. Many small writes make it likely that a kill comes between them."""
    writer.write_bytes = in_small_pieces
    writer.write_text = lambda path, text: in_small_pieces(path, text.encode())
    write_weight_maps(folder, TOY, labels, workers=2)


def test_killed_at_any_moment(tmp_path, new_process):
    rng = np.random.default_rng(0)
    labels = [tmp_path / f"{k:03d}.png" for k in range(100)]
    for file in labels:
        Image.fromarray(rng.integers(0, 3, (40, 50)).astype(np.uint8)).save(file)
    folder, chance = tmp_path / "toy", random.Random(1)
    write_weight_maps(tmp_path / "fresh", TOY, labels)
    lines = 0
    for kill in range(12):
        child = new_process(write_slowly, folder, labels)
        begun = lines + chance.randrange(1, 7) if kill else 0
        while child.is_alive() and not ((folder / "lock").exists() and lines_of(folder) >= begun):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        lines = lines_of(folder)
    assert 12 < lines <= len(labels)
    assert len(WeightMaps(folder, TOY)) == lines - 1
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
