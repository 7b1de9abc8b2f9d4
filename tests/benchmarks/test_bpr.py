"""The benchmark of boundary patch refinement, on a small drawn map; it compares the boxes and masks of both ways."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bpr():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("bpr_benchmark", FOLDER / "bpr.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def scene(bpr):
    ids = np.zeros((160, 240), np.int32)
    for number, (y, x, h, w) in enumerate([(0, 0, 90, 70), (60, 100, 80, 100), (5, 210, 9, 7)]):
        ids[y : y + h, x : x + w] = 1000 + number
    return bpr.make_scene(ids, ids % 19)


@pytest.mark.parametrize("threshold", [0.25, 0.55])
@pytest.mark.parametrize("cropped", [False, True])
def test_both_ways_find_the_same(bpr, scene, threshold, cropped):
    output = bpr.network_output(scene, threshold)
    mine = bpr.ours(scene, output, threshold, bpr.Clock())
    theirs = bpr.ordinary(scene, output, threshold, bpr.Clock(), cropped)
    assert len(mine[0]) == 3
    bpr.check_equal(mine, theirs, threshold)
    moved = [boxes + 1 for boxes in theirs[0]]
    with pytest.raises(AssertionError):
        bpr.check_equal(mine, (moved, theirs[1]), threshold)


def test_prints_both_tables(bpr, monkeypatch, capsys):
    options = "--size 160 240 --segments 14 --rounds 1 --threshold 0.55 --networks patch_unet"
    monkeypatch.setattr(sys, "argv", ["bpr.py", *options.split()])
    bpr.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(" 0.55") for line in lines) == 4
    assert [line.split()[0] for line in lines if " none " in line] == ["instance", "semantic", "panoptic"]
    assert any("patch_unet, 128" in line for line in lines)


def test_folder_without_label_maps(bpr, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["bpr.py", "--data", str(tmp_path)])
    with pytest.raises(SystemExit):
        bpr.main()
    assert "give the folder of Cityscapes' label maps" in capsys.readouterr().err
