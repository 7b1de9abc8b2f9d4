"""Weights by name: those in the package, in a mirror, and files of a user's own."""

import json

import pytest
import torch

from pnm.errors import UserError
from pnm.formats.fetched_files import sha256_of
from pnm.formats.safe_checkpoint import CheckpointError
from pnm.object_refinement import trained_weights
from pnm.object_refinement.trained_network import load_network
from pnm.object_refinement.trained_weights import weights_file


@pytest.fixture
def listed(monkeypatch, tmp_path, random_weights):
    """A package folder whose index lists the random weights twice: as shipped, and as published elsewhere."""
    folder = tmp_path / "weights"
    folder.mkdir()
    one = {"bytes": random_weights.stat().st_size, "sha256": sha256_of(random_weights)}
    rows = {
        "mine": {"file": "mine.pth", **one},
        "large": {"file": "large.pth", "url": "http://127.0.0.1:9/large.pth", **one},
    }
    (folder / "index.json").write_text(json.dumps(rows), "utf-8")
    monkeypatch.setattr(trained_weights, "_FOLDER", folder)
    monkeypatch.setattr(
        trained_weights, "trained_weights", lambda real=trained_weights.trained_weights: real(folder / "index.json")
    )
    monkeypatch.setenv("PNM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PNM_WEIGHTS_MIRROR", raising=False)
    return folder


def test_shipped_weights_are_what_the_index_says():
    for name, one in trained_weights.trained_weights().items():
        file = trained_weights._FOLDER / one.file
        if file.is_file():
            assert weights_file(f"pnm://{name}") == file
            load_network(file)


def test_shipped_weights(listed, random_weights):
    with pytest.raises(UserError, match="mine.pth, which comes with this package, is missing: install pnm again"):
        weights_file("pnm://mine")
    (listed / "mine.pth").write_bytes(random_weights.read_bytes())
    assert weights_file("pnm://mine") == weights_file("mine") == listed / "mine.pth"
    (listed / "mine.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="is damaged"):
        weights_file("pnm://mine")


def test_mirrors_and_the_cache(listed, random_weights, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"large.pth cannot be had .*PNM_WEIGHTS_MIRROR.* or put the file at .*cache"):
        weights_file("pnm://large")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("PNM_WEIGHTS_MIRROR", str(mirror))
    with pytest.raises(UserError, match="large.pth, a mirror's by PNM_WEIGHTS_MIRROR, does not exist"):
        weights_file("pnm://large")
    (mirror / "large.pth").write_bytes(random_weights.read_bytes())
    assert weights_file("pnm://large") == mirror / "large.pth"
    monkeypatch.delenv("PNM_WEIGHTS_MIRROR")
    kept = tmp_path / "cache" / f"{sha256_of(random_weights)[:12]}-large.pth"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(random_weights.read_bytes())
    assert weights_file("large") == kept


def test_own_files_and_strange_names(listed, random_weights):
    assert weights_file(random_weights) == random_weights
    with pytest.raises(
        FileNotFoundError, match="weights none.pth are neither a file nor one of pnm://mine, pnm://large"
    ):
        weights_file("none.pth")
    with pytest.raises(UserError, match="there are no weights pnm://none, expected one of pnm://mine"):
        weights_file("pnm://none")


def test_networks_that_are_none(tmp_path, random_weights):
    content = torch.load(random_weights, weights_only=True)
    torch.save({"model": {"network.other": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"is no checkpoint of the universal refiner .*--config-file"):
        load_network(tmp_path / "other.pth")
    for name, bare in (
        ("bare.pth", content["model"]),
        ("model_final.pth", {"model": content["model"], "iteration": 9}),
    ):
        torch.save(bare, tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name} is what training wrote, .* with tools/pack_refiner.py"):
            load_network(tmp_path / name)
    missing = dict(content["model"])
    missing.pop("network.head.bias")
    for model in (
        missing,
        {**content["model"], "network.more": torch.zeros(1)},
        {**missing, "network.head.bias": torch.zeros(5)},
    ):
        torch.save({**content, "model": model}, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match="doesn't fit its network"):
            load_network(tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes(random_weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        load_network(tmp_path / "cut.pth")
