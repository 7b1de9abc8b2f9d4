"""Checkpoints are whole or absent, and their fit is told."""

import io
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from pnm.formats.atomic_files import WriteError
from pnm.formats.fetched_files import sha256_of
from pnm.formats.safe_checkpoint import CheckpointError
from pnm.object_refinement import trained_weights
from pnm.projects.launcher.checkpoint import SafeCheckpointer


def network() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)})


def test_round_trip_and_tag(tmp_path):
    torch.manual_seed(0)
    model, other = network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    SafeCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model_0000004", iteration=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model_0000004.pth"]
    fresh = SafeCheckpointer(other, str(tmp_path), optimizer=torch.optim.SGD(other.parameters(), lr=0.5))
    assert fresh.has_checkpoint()
    extra = fresh.resume_or_load("", resume=True)
    assert extra["iteration"] == 4
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert fresh.checkpointables["optimizer"].param_groups[0]["lr"] == 0.1


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    checkpointer = SafeCheckpointer(network(), str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()

    def full_disk(content, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("model_final")
    assert (tmp_path / "model_final.pth").read_bytes() == before


def test_a_full_disk_is_told_by_the_name_of_the_file(tmp_path, monkeypatch):
    """torch's archive writer turns the error into one of its own."""
    checkpointer = SafeCheckpointer(network(), str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()
    written = []

    class Full(io.FileIO):
        def write(self, data):
            written.append(len(data))
            if sum(written) > 1000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode))
    with pytest.raises(WriteError, match=r"model_final.pth can't be written .No space left on device.: make room"):
        checkpointer.save("model_final")
    monkeypatch.undo()
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_final.pth"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:300] + b"\xff" + b[301:]])
def test_damaged_checkpoints_are_passed_over(tmp_path, damage, caplog):
    checkpointer = SafeCheckpointer(network(), str(tmp_path))
    for k in (1, 2, 10):
        checkpointer.save(f"model_{k:07d}")
    newest = tmp_path / "model_0000010.pth"
    newest.write_bytes(damage(newest.read_bytes()))
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000002.pth")
    assert SafeCheckpointer(network(), str(tmp_path)).has_checkpoint()
    assert caplog.text.count("model_0000010.pth is missing or damaged") == 1
    newest.unlink()
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000002.pth")
    for path in tmp_path.glob("*.pth"):
        path.unlink()
    assert not checkpointer.has_checkpoint()


def test_table_of_differences(tmp_path, caplog):
    state = network().state_dict()
    state["head.weight"] = torch.ones(5, 5)
    del state["backbone.weight"], state["backbone.bias"]
    state["neck.weight"] = torch.ones(1)
    torch.save(state, tmp_path / "other.pth")
    SafeCheckpointer(network()).load(str(tmp_path / "other.pth"))
    table = caplog.text
    assert "(1 of another shape, 2 missing, 1 unexpected)" in table
    assert "(5, 5) in checkpoint, (2, 4) in model" in table
    assert "backbone.{weight, bias}" in table and "neck.weight" in table
    with pytest.raises(CheckpointError, match="does not fit the model .* set TEST.ALLOW_PARTIAL_WEIGHTS True"):
        SafeCheckpointer(network(), strict=True).load(str(tmp_path / "other.pth"))


def test_unexpected_keys_alone_are_no_error(tmp_path):
    torch.save(network().state_dict() | {"neck.weight": torch.ones(1)}, tmp_path / "more.pth")
    SafeCheckpointer(network(), strict=True).load(str(tmp_path / "more.pth"))


def test_query_options(tmp_path):
    torch.save(network().state_dict(), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"unknown option \['matching'\]"):
        SafeCheckpointer(network()).load(f"{tmp_path / 'model.pth'}?matching=True")
    model = nn.ModuleDict({"model": network()})
    weights = network().state_dict()
    torch.save(weights, tmp_path / "bare.pth")
    SafeCheckpointer(model, strict=True).load(f"{tmp_path / 'bare.pth'}?matching_heuristics=True")
    assert torch.equal(model["model"]["head"].weight, weights["head.weight"])


@pytest.mark.parametrize("name", ["../elsewhere.pth", "/etc/passwd", "a/b.pth", "..\\x.pth", "..", ""])
def test_the_tag_leads_nowhere_else(tmp_path, name):
    (tmp_path / "run").mkdir()
    checkpointer = SafeCheckpointer(network(), str(tmp_path))
    checkpointer.save("elsewhere")
    (tmp_path / "run/last_checkpoint").write_text(name)
    resumed = SafeCheckpointer(network(), str(tmp_path / "run"))
    if name == "":
        assert not resumed.has_checkpoint()
        return
    with pytest.raises(CheckpointError, match="last_checkpoint names .*, expected a file in its folder: delete it"):
        resumed.resume_or_load("", resume=True)


@pytest.mark.parametrize("ending", ["pth", "pkl"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda w: w / 0, r"weight backbone.weight of .*x.p.. has entries that are NaN or infinite"),
        (lambda w: w > 0, r"weight backbone.weight of .*x.p.. is of bool, expected float32"),
        (lambda w: w.to(torch.complex64), r"weight backbone.weight of .*x.p.. is of complex64, expected real numbers"),
        (lambda w: w.tolist(), r"x.p.. holds 'backbone.weight', a list, among its weights"),
    ],
)
def test_weights_that_cannot_be(tmp_path, changed, message, ending):
    weights = network().state_dict()
    weights["backbone.weight"] = changed(weights["backbone.weight"])
    if ending == "pth":
        torch.save({"model": weights}, tmp_path / "x.pth")
    else:
        arrays = {name: value.numpy() if torch.is_tensor(value) else value for name, value in weights.items()}
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "me"}))
    with pytest.raises(CheckpointError, match=message):
        SafeCheckpointer(network(), str(tmp_path)).load(str(tmp_path / f"x.{ending}"))


def test_weights_in_the_other_byte_order(tmp_path):
    arrays = {name: value.numpy() for name, value in network().state_dict().items()}
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": swapped, "__author__": "me"}))
    model = network()
    SafeCheckpointer(model, str(tmp_path), strict=True).load(str(tmp_path / "x.pkl"))
    assert all((value.numpy() == arrays[name]).all() for name, value in model.state_dict().items())


def test_trained_weights_by_name(tmp_path, monkeypatch):
    """``pnm://NAME`` is what the index of weights says, with half precision brought to the model's own."""
    torch.manual_seed(0)
    weights = {name: value.half() for name, value in network().state_dict().items()}
    torch.save({"model": weights, "architecture": "mine"}, tmp_path / "mine.pth")
    wanted = trained_weights.Wanted((tmp_path / "mine.pth").stat().st_size, sha256_of(tmp_path / "mine.pth"))
    listed = {"mine": trained_weights.TrainedWeights("mine.pth", wanted)}
    monkeypatch.setattr(trained_weights, "trained_weights", lambda: listed)
    monkeypatch.setattr(trained_weights, "_FOLDER", tmp_path)
    model = network()
    SafeCheckpointer(model, strict=True).load("pnm://mine")
    assert all(torch.equal(value, weights[name].float()) for name, value in model.state_dict().items())
    with pytest.raises(CheckpointError, match="there are no weights pnm://other, expected one of pnm://mine"):
        SafeCheckpointer(model).load("pnm://other")
