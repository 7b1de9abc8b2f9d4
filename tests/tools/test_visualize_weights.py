"""tools/visualize_weights.py as a user runs it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def draw(*arguments):
    command = [sys.executable, "tools/visualize_weights.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture
def files(tmp_path):
    """An image of 40x60 px and its labels: a square on a background."""
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:40] = 1
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    return tmp_path


def test_page(files):
    page = files / "new/page.png"
    done = draw("--image", files / "image.png", "--labels", files / "labels.png", "--localities", 1, 5, "--width", 60,
                "--columns", 2, "--output", page)  # fmt: skip
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(page).convert("L")).astype(int)
    height, width = 34 + 40, 60  # a caption over a panel, 8 px apart
    assert pixels.shape == (2 * (height + 8) + 8, 2 * (width + 8) + 8)
    flat, weighted = (pixels[8 + height + 8 + 34 :][:40, x : x + 60] for x in (8, 8 + width + 8))
    assert len(np.unique(flat)) == 1  # d = 1: the same weight everywhere
    assert weighted[10, 20] > weighted[20, 20] and weighted[10, 20] > weighted[10, 30] > weighted[20, 30]
    assert not list(files.rglob("*.partial"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--labels", "missing.png"), "missing.png"),
        (("--image", "missing.png"), "missing.png does not exist"),
        (("--localities", "4"), "odd"),
        (("--width", "0"), "at least 1"),
        (("--dataset", "shapes_val_sem_seg"), "either --image with --labels, or --dataset"),
    ],
)
def test_errors_are_one_line(files, change, message):
    done = draw("--image", files / "image.png", "--labels", files / "labels.png", *change)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_image_and_labels_of_different_sizes(files):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(files / "labels.png")
    done = draw("--image", files / "image.png", "--labels", files / "labels.png")
    assert done.returncode == 2 and "don't belong together" in done.stderr
