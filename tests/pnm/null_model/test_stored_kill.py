"""A writer of weight maps that is killed at any moment, and run again, leaves what an undisturbed one does."""

import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pnm.null_model.stored.check import check_weight_maps
from pnm.null_model.stored.maps import WeightMaps
from pnm.null_model.stored.writer import write_weight_maps

sys.path.append(str(Path(__file__).parent))  # processes inherit it
from writer_process import TOY, write_slowly  # noqa: E402


def content(folder):
    """Everything in a folder, the lock aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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
