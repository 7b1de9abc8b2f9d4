"""The readers of packages: .deb, .whl and Qt's resource files, whole and damaged."""

import zipfile

import numpy as np
import pytest

from pnm.errors import UserError
from tests.datasets.tiny_packages import resource, write_deb

from package_archives import package_files, resource_files  # isort: skip


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_reads_debian_packages(tmp_path, compression):
    path = write_deb(tmp_path / "a.deb", {"usr/a.png": b"one", "usr/b.txt": b"two"}, compression)
    assert list(package_files(path, lambda name: name.endswith(".png"))) == [("usr/a.png", b"one")]


def test_reads_wheels(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("art/", b"")
        archive.writestr("art/a.jpg", b"one")
    assert list(package_files(tmp_path / "a.whl", lambda _: True)) == [("art/a.jpg", b"one")]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_reads_resource_files(version):
    content = resource([("a.png", b"plain", 0), ("b.txt", b"packed" * 9, 1), ("c.txt", b"?", 4)], version)
    assert dict(resource_files(content)) == {"art/a.png": b"plain", "art/b.txt": b"packed" * 9}


def test_resource_files_in_packages(tmp_path):
    path = write_deb(tmp_path / "a.deb", {"usr/a.rcc": resource([("a.png", b"one", 0), ("b.txt", b"two", 0)])})
    assert list(package_files(path, lambda name: not name.endswith("txt"))) == [("usr/a.rcc/art/a.png", b"one")]


@pytest.mark.parametrize("cut", [4, 70, 150, 400])
def test_damaged_packages(tmp_path, cut):
    whole = write_deb(tmp_path / "a.deb", {"usr/a.png": np.random.default_rng(0).bytes(600)}, "gz").read_bytes()
    (tmp_path / "a.deb").write_bytes(whole[:cut])
    with pytest.raises(UserError, match=r"a\.deb .*fetch it again"):
        list(package_files(tmp_path / "a.deb", lambda _: True))


def test_damaged_wheels_and_resource_files(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="fetch it again"):
        list(package_files(tmp_path / "a.whl", lambda _: True))
    path = write_deb(tmp_path / "a.deb", {"a.rcc": b"nothing of this kind", "b.rcc": b""})
    with pytest.raises(UserError, match="resource file"):
        list(package_files(path, lambda _: True))
