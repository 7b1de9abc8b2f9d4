"""Tables of tools/evaluate.py that set predictions side by side by class."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path):
    """Ground truth, a prediction that is off by two pixels, and one that is right in one of two images."""
    truth = np.zeros((40, 60), np.uint8)
    truth[:, 20:] = 1
    truth[10:30, 30:50] = 2
    off = np.roll(truth, 2, axis=1)
    for folder, maps in {"gt": (truth, truth), "a": (off, off), "b": (truth, off)}.items():
        (tmp_path / folder).mkdir()
        for n, labels in enumerate(maps):
            Image.fromarray(labels).save(tmp_path / folder / f"{n}.png")
    return [tmp_path / name for name in ("a", "gt", "b")]


def rows_below(text, title):
    """{first word: other words} of the lines of a table whose header begins with the title."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(title))
    found = {}
    for line in lines[start + 2 :]:
        if not line.strip():
            break
        name, *cells = line.split()
        found[name] = cells
    return lines[start], found


def test_boundary_f_by_class_before_and_after(folders, evaluate, capsys):
    """The layout of SegFix's Table 3: classes, and A and B at each tolerance."""
    pred, truth, other = folders
    options = ("--classes", 3, "--compare", other, "--per-class", "--bootstrap", 20, "--metrics", "Boundary-F")
    found = evaluate("semantic", pred, truth, *options)["comparison"]
    header, rows = rows_below(capsys.readouterr().out, "Boundary F of class")
    assert header.split()[4:] == ["1px", "A", "1px", "B", "2px", "A", "2px", "B", "3px", "A", "3px", "B"]
    assert list(rows) == ["0", "1", "2", "mean"]
    for name, cells in rows.items():
        key = "Boundary-F-{}px" + ("" if name == "mean" else f"-{name}")
        values = [found[key.format(px)][side]["value"] for px in (1, 2, 3) for side in "ab"]
        assert cells == [f"{100 * value:.2f}" for value in values]
    assert float(rows["2"][1]) > float(rows["2"][0]) and float(rows["mean"][5]) > float(rows["mean"][4])


def test_shown_metrics_leave_out_the_classes_of_others(folders, evaluate, capsys):
    pred, truth, other = folders
    options = ("--classes", 3, "--compare", other, "--per-class", "--bootstrap", 20)
    evaluate("semantic", pred, truth, *options, "--show", "mIoU", "Boundary-F-1px")
    printed = capsys.readouterr().out
    assert "\nIoU of class" in printed and "Boundary-F-1px of class" in printed
    assert "ACC of class" not in printed and "Boundary-F-2px of class" not in printed
    evaluate("semantic", pred, truth, *options, "--show", "pACC")
    assert "of class" not in capsys.readouterr().out
