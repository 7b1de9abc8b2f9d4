"""The rule by which files are found."""

import os

import pytest

from pnm.formats.folders import files_below


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.PNG", "sub/c.png", "sub/deep/d.Png", "sub/e.jpg", "._b.png", ".ipynb_checkpoints/f.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "data" / "folder.png").mkdir()
    return tmp_path / "data"


def test_sorted_in_any_case_and_no_hidden_ones(folder):
    assert files_below(folder, ".png") == ["a.PNG", "b.png", "sub/c.png", "sub/deep/d.Png"]
    assert files_below(folder, ".jpg", ".jpeg") == ["sub/e.jpg"]
    assert files_below(folder, "/c.png", ".nothing") == ["sub/c.png"]


def test_links_are_followed_and_loops_end(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/g.png").touch()
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(tmp_path / "elsewhere/g.png", folder / "h.png")
    os.symlink(folder, folder / "sub/loop")
    os.symlink(tmp_path / "nowhere", folder / "broken.png")
    assert files_below(folder, ".png") == [
        "a.PNG", "b.png", "h.png", "linked/g.png", "sub/c.png", "sub/deep/d.Png"
    ]  # fmt: skip
