"""tools/boundary_shares.py on label folders, against a count by hand, and what doesn't fit."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.interior_offsets.boundary_shares import BoundaryShares

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shares(tmp_path, monkeypatch, capsys):
    """``shares(arguments...)``: the JSON and what is printed; with ``fails`` the last line on stderr before exit 2."""
    spec = importlib.util.spec_from_file_location("boundary_shares_tool", ROOT / "tools/boundary_shares.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*arguments, fails=False):
        output = tmp_path / "shares.json"
        monkeypatch.setattr(sys, "argv", ["boundary_shares.py", "--output", str(output), *map(str, arguments)])
        if not fails:
            tool.main()
            return json.loads(output.read_text()), capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            tool.main()
        assert ended.value.code == 2 and not output.exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.fixture
def labels(tmp_path):
    """A band of class 1 in class 0, 10 px wide, and void below: two images."""
    array = np.zeros((40, 50), np.uint8)
    array[:, 20:30] = 1
    array[30:] = 255
    folder = tmp_path / "labels"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(array).save(folder / f"{name}.png")
    return folder


def test_shares_equal_a_count_by_hand(shares, labels):
    content, printed = shares("--labels", labels, "--classes", 3, "--widths", 1, 3, "--workers", 2)
    assert content["widths_px"] == [1, 3] and content["images"] == 2
    # Of 30 rows, the lowest 1 or 3 are near void; in the others 2 or 6 of the band's 10 columns are near its edges.
    band = {1: 10 + 29 * 2, 3: 3 * 10 + 27 * 6}
    sides = {1: 40 + 29 * 2, 3: 3 * 40 + 27 * 6}
    expected = {"0": [sides[w] / 1200 for w in (1, 3)], "1": [band[w] / 300 for w in (1, 3)]}
    for name, values in expected.items():
        assert content["classes"][name]["shares"] == pytest.approx(values)
    assert content["classes"]["2"] == {"pixels": 0, "shares": [None, None]}
    assert content["all"] == pytest.approx([(sides[w] + band[w]) / 1500 for w in (1, 3)])
    assert "1 px" in printed and "3 px" in printed and "2 image(s)" in printed


def test_names_and_cityscapes(shares, labels, tmp_path):
    (tmp_path / "names.txt").write_text("ground\npole\n")
    content, printed = shares("--labels", labels, "--classes", tmp_path / "names.txt")
    assert list(content["classes"]) == ["ground", "pole"] and "pole" in printed
    ids = np.full((20, 20), 7, np.uint8)
    ids[:, 10:] = 17
    folder = tmp_path / "city"
    folder.mkdir()
    Image.fromarray(ids).save(folder / "x_gtFine_labelIds.png")
    content, _ = shares("--labels", folder, "--cityscapes")
    assert content["classes"]["pole"]["pixels"] == 200 and content["classes"]["road"]["shares"][0] == 0.1


def test_what_does_not_fit(shares, labels, tmp_path):
    assert "--classes is missing" in shares("--labels", labels, fails=True)
    assert "a.png: label 1 is none of 1 classes" in shares("--labels", labels, "--classes", 1, fails=True)
    assert "label 255 is none of 2 classes" in shares(
        "--labels", labels, "--classes", 2, "--ignore-label", -1, fails=True
    )
    assert "nowhere is not a folder" in shares("--labels", tmp_path / "nowhere", "--classes", 2, fails=True)
    assert "widths are (0,)" in shares("--labels", labels, "--classes", 2, "--widths", 0, fails=True)
    assert "--workers is 0" in shares("--labels", labels, "--classes", 2, "--workers", 0, fails=True)
    with pytest.raises(UserError, match="there are 0 classes"):
        BoundaryShares(0)


def test_sums_of_images_are_those_of_the_set():
    rng = np.random.default_rng(0)
    maps = [np.kron(rng.integers(0, 3, (5, 6)), np.ones((6, 5), int)) for _ in range(3)]
    whole, parts = BoundaryShares(3, ignore_label=None), BoundaryShares(3, ignore_label=None)
    for labels in maps:
        whole.add(labels)
        parts.add_counts(parts.counts(labels))
    assert np.array_equal(whole.by_class(), parts.by_class()) and whole.pixels.sum() == 3 * 900
    assert (np.diff(whole.by_class(), axis=0) >= 0).all() and np.isnan(BoundaryShares(2).of_all()).all()
