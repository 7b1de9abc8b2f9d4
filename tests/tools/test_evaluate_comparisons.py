"""The command that scores result files: two predictions side by side, what is printed and where it is written."""

import csv
import math
import os

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.metrics.metric_values import MetricValues
from pnm.scoring.compare import compare, interval, resampled

from .label_maps import SEMANTIC


def test_a_prediction_compared_with_itself_differs_by_nothing(maps, evaluate):
    more = ("--compare", maps[0], "--bootstrap", 60)
    found = evaluate("semantic", *maps, *SEMANTIC, *more)["comparison"]
    assert found["mIoU"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert found["mIoU"]["a"]["low"] < found["mIoU"]["a"]["value"] < found["mIoU"]["a"]["high"]
    better = evaluate("semantic", *maps, *SEMANTIC, "--compare", maps[1], "--bootstrap", 60)["comparison"]["mIoU"]
    assert better["b"]["value"] == 1 and better["difference"]["low"] >= 0 < better["difference"]["value"]


def test_differences_by_class_and_by_image(maps, evaluate, tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    compare_maps = ("--compare", maps[1], "--bootstrap", 20, "--metrics", "IoU")
    result = evaluate("semantic", *maps, *SEMANTIC, *compare_maps, "--per-class", "--per-image", rows)
    lines, found = [line.split() for line in capsys.readouterr().out.splitlines()], result["comparison"]["IoU-1"]
    start = next(n for n, line in enumerate(lines) if line[:3] == ["IoU", "of", "class"])
    assert [line[0] for line in lines[start + 2 : start + 5]] == ["0", "1", "2"]
    one = lines[start + 3]
    assert (one[1], one[4], one[7]) == tuple(f"{100 * found[side]['value']:.2f}" for side in ("a", "b", "difference"))
    table = list(csv.DictReader(rows.open()))
    assert [row["image"] for row in table] == ["0", "1", "2", "3"] and float(table[3]["mIoU B"]) == 1
    assert float(table[3]["pACC B - A"]) == pytest.approx(12 / (24 * 32), abs=1e-6)
    evaluate("semantic", *maps, *SEMANTIC, *compare_maps)
    assert "of class" not in capsys.readouterr().out
    (tmp_path / "metrics.json").unlink()
    assert "--per-class is for --compare" in evaluate("semantic", *maps, *SEMANTIC, "--per-class", fails=True)


@pytest.mark.parametrize("option", ["--output", "--per-image"])
def test_outputs_are_tried_before_anything_is_read(option, maps, evaluate, tmp_path):
    (tmp_path / "file").touch()
    paths = {"file/x.csv": "file/x.csv can't be written", "pred": "pred can't be written (it is a folder)"}
    for path, told in paths.items():
        assert told in evaluate("semantic", "nowhere", maps[1], *SEMANTIC, option, tmp_path / path, fails=True)
    told = evaluate("semantic", tmp_path / "file", maps[1], *SEMANTIC, option, tmp_path / "file", fails=True)
    assert "file is named twice, and would be overwritten" in told
    evaluate("semantic", *maps, *SEMANTIC, "--per-image", tmp_path / "new/folder/rows.csv")
    assert (tmp_path / "new/folder/rows.csv").is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(maps, evaluate, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    told = evaluate("semantic", "nowhere", maps[1], *SEMANTIC, "--per-image", tmp_path / "locked/x.csv", fails=True)
    assert "can't be written (Permission denied)" in told


def test_bootstrap_is_seeded_and_matches_the_normal_interval_of_a_mean():
    values = np.random.default_rng(1).normal(0.5, 0.1, 200)

    def mean(draws):
        return MetricValues({"mean": draws @ values / draws.sum(axis=1)}, {})

    found = compare(mean, mean, 200, resamples=2000)["mean"].a
    half = 1.96 * values.std() / math.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    assert (resampled(5, 9, 3) == resampled(5, 9, 3)).all() and (resampled(5, 9, 3) != resampled(5, 9, 4)).any()
    assert (resampled(5, 9).sum(axis=1) == 5).all()
    assert np.isnan(interval(0.5, np.full(3, np.nan)).low)
    for wrong in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(UserError, match="at least one image"):
            resampled(*wrong)
    with pytest.raises(UserError, match="level is 95"):
        interval(0.5, np.ones(3), 95)


def test_show_prints_some_metrics_and_writes_all(maps, evaluate, capsys):
    lines = evaluate("semantic", *maps, *SEMANTIC, "--show", "AP", fails=True)
    assert "there is no metric AP, expected some of mIoU" in lines
    result = evaluate("semantic", *maps, *SEMANTIC, "--show", "mIoU", "pACC", "--compare", maps[1], "--bootstrap", 10)
    rows = [line for line in capsys.readouterr().out.splitlines() if " [" in line]
    assert [row.split()[0] for row in rows] == ["metric", "mIoU", "pACC"]
    assert len(result["metrics"]) > 20 and len(result["comparison"]) > 20
