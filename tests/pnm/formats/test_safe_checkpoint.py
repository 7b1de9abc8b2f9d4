"""Honest checkpoints are read, whoever wrote them; a file that would execute code is not."""

import os
import pickle

import numpy as np
import pytest
import torch

from pnm.formats.safe_checkpoint import CheckpointError, UnsafeCheckpointError, load_pickle, load_torch

HONEST = {
    "model": {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "s": np.float64(2.5),
        "o": np.array(["a"], dtype=object),
    },
    "__author__": "me",
    "raw": b"\x00\xff",
    "set": {1, 2},
}


class Attack:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def same(a, b):
    np.testing.assert_equal(a, b)
    return True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays_are_read_and_attacks_refused(tmp_path, protocol):
    file, marker = tmp_path / "model.pkl", tmp_path / "executed"
    file.write_bytes(pickle.dumps(HONEST, protocol=protocol))
    assert same(load_pickle(file), HONEST)
    file.write_bytes(pickle.dumps({"model": Attack(marker)}, protocol=protocol))
    with pytest.raises(UnsafeCheckpointError, match=r"model\.pkl was refused: it asks for \w+\.mkdir"):
        load_pickle(file)
    assert not marker.exists()


def test_python2_pickle_with_text_keys(tmp_path):
    file = tmp_path / "old.pkl"  # what Python 2 wrote: str as bytes opcodes
    file.write_bytes(b"(dp0\nS'blobs'\np1\n(dp2\nS'conv1_w'\np3\nI7\nss.")
    assert load_pickle(file) == {"blobs": {"conv1_w": 7}}


@pytest.mark.parametrize(
    "payload",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\nos.system\n(S'true'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'hex'\ntR.",
    ],
)
def test_handwritten_attacks(tmp_path, payload):
    file = tmp_path / "attack.pkl"
    file.write_bytes(payload)
    with pytest.raises(UnsafeCheckpointError):
        load_pickle(file)


def test_torch_files(tmp_path):
    file, marker = tmp_path / "model.pth", tmp_path / "executed"
    state = {"model": {"w": torch.randn(2, 3)}, "best": np.float64(3), "array": np.ones(3)}
    torch.save(state, file)
    loaded = load_torch(file)
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert loaded["best"] == 3 and same(loaded["array"], np.ones(3))
    torch.save({"model": Attack(marker)}, file)
    with pytest.raises(UnsafeCheckpointError, match=r"model\.pth was refused"):
        load_torch(file)
    assert not marker.exists()


@pytest.mark.parametrize("read", [load_pickle, load_torch])
def test_damaged_and_missing_files(tmp_path, read):
    file = tmp_path / "model.bin"
    whole = pickle.dumps(HONEST) if read is load_pickle else None
    if whole is None:
        torch.save({"w": torch.ones(100)}, file)
        whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>404 not found</html>"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.bin is not a readable checkpoint"):
            read(file)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")
