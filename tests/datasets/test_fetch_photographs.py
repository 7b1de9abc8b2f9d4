"""Photographs out of packages: what is fetched, checked and written."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pnm.errors import UserError
from tests.datasets.tiny_packages import ROOT, disc, encoded, scene, write_deb

import fetch_photographs  # isort: skip
import package_downloads  # isort: skip
from package_pictures import Package, Pictures  # isort: skip


def package_of(path: Path, *pictures: Pictures, version: str = "1:2.0-1") -> Package:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package("art", "debian", version, digest, pictures or (Pictures("photographs", "CC0-1.0", ("*",), (), 40),))


def rows_of(folder: Path) -> list[list[str]]:
    lines = (folder / "SOURCES.tsv").read_text("utf-8").splitlines()
    assert lines[0].split("\t") == ["file", "package", "version", "licence", "path in the package"]
    return [line.split("\t") for line in lines[1:]]


def test_the_folder(tmp_path):
    files = {
        "usr/small/a.jpg": encoded(scene(1)),
        "usr/tiny/a.jpg": encoded(scene(2, 20, 30)),
        "usr/large/a.png": encoded(scene(1, scale=3)),
        "usr/large/b c.webp": encoded(scene(3), "WEBP"),
        "usr/large/left_out.png": encoded(scene(4)),
        "usr/cut/disc.png": encoded(disc()),
        "usr/cut/broken.png": b"no picture",
        "usr/readme.txt": b"text",
    }
    path = write_deb(tmp_path / "art_1%3a2.0-1_all.deb", files)
    cutouts = Pictures("cutouts", "GPL-2.0", ("*/cut/*",), least_side=60)
    pictures = Pictures("photographs", "CC0-1.0", ("*",), ("*left_out*",), 40)
    counts = fetch_photographs.write_photographs([package_of(path, cutouts, pictures)], tmp_path / "out", tmp_path)
    assert counts == {"photographs": 2, "cutouts": 1}
    assert rows_of(tmp_path / "out") == [
        ["cutouts/art_usr_cut_disc.png", "art", "1:2.0-1", "GPL-2.0", "usr/cut/disc.png"],
        ["photographs/art_usr_large_a.jpg", "art", "1:2.0-1", "CC0-1.0", "usr/large/a.png"],
        ["photographs/art_usr_large_b_c.jpg", "art", "1:2.0-1", "CC0-1.0", "usr/large/b c.webp"],
    ]
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").glob("*/*")}
    assert written == {row[0] for row in rows_of(tmp_path / "out")}
    with Image.open(tmp_path / "out/photographs/art_usr_large_a.jpg") as picture:
        assert picture.size == (240, 180) and picture.mode == "RGB"
    with Image.open(tmp_path / "out/cutouts/art_usr_cut_disc.png") as picture:
        assert picture.tobytes() == disc().tobytes()


def test_names_that_meet(tmp_path):
    files = {f"usr/{n}/a/b/c/x.png": encoded(scene(n)) for n in range(3)}
    path = write_deb(tmp_path / "art_1%3a2.0-1_all.deb", files)
    fetch_photographs.write_photographs([package_of(path)], tmp_path / "out", tmp_path)
    assert [row[0] for row in rows_of(tmp_path / "out")] == [
        f"photographs/art_a_b_c_x{n}.jpg" for n in ("", "_1", "_2")
    ]


def test_wrong_digest(tmp_path):
    path = write_deb(tmp_path / "art_1%3a2.0-1_all.deb", {"usr/a.png": encoded(scene(0))})
    package = package_of(path)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=f"not {package.sha256}: .*--any-version.*--leave-out art"):
        fetch_photographs.write_photographs([package], tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()
    newer = path.rename(tmp_path / "art_3.0_all.deb")
    assert package_downloads.package_file(package, tmp_path) is None
    assert package_downloads.package_file(package, tmp_path, any_version=True) == newer
    fetch_photographs.write_photographs([package], tmp_path / "out", tmp_path, any_version=True)
    assert [row[2] for row in rows_of(tmp_path / "out")] == ["3.0"]


def test_finds_wheels(tmp_path):
    (tmp_path / "art_box-1.5-py3-none-any.whl").touch()
    package = Package("art-box", "pypi", "1.5", "", ())
    path = package_downloads.package_file(package, tmp_path)
    assert path is not None and package_downloads.version_of(path) == "1.5"


def test_a_version_that_is_gone(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    programs = {"apt-get": "exit 100", "apt-cache": "printf 'Package: art\\nVersion: 3.0-1\\n more: text\\n'"}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    package = Package("art", "debian", "2.0-1", "", ())
    with pytest.raises(UserError, match=r"art 2\.0-1 .*has version 3\.0-1.*--any-version"):
        package_downloads.fetched(package, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no apt-get: .*--packages, or add --leave-out art"):
        package_downloads.fetched(package, tmp_path)


def test_the_table():
    packages = fetch_photographs.PACKAGES
    assert len({package.name for package in packages}) == len(packages)
    for package in packages:
        assert len(package.sha256) == 64 and package.pictures
        assert all(entry.licence and entry.files for entry in package.pictures)


def test_wrong_arguments(tmp_path):
    command = [sys.executable, str(ROOT / "datasets/fetch_photographs.py"), "--output", str(tmp_path / "out")]
    for arguments, words in (
        (["--leave-out", "no-such"], "the packages are gcompris-qt-data"),
        (["--packages", str(tmp_path / "none")], "is no folder"),
        (["--output", str(ROOT / "README.md")], "is a file"),
        (["--output", str(ROOT / "docs"), "--overwrite"], "was not made by this program"),
    ):
        run = subprocess.run([*command, *arguments], capture_output=True, text=True, encoding="utf-8")
        assert run.returncode == 2 and words in run.stderr and "Traceback" not in run.stderr
