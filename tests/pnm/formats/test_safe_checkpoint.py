"""Honest checkpoints are read, whoever wrote them, and weights that are none are told."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from pnm.formats.safe_checkpoint import CheckpointError, UnsafeCheckpointError, check_weights, load_pickle, load_torch

from .checkpoint_contents import PLAIN, SHARED, TENSOR, TENSORS, Attack, same, state


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays_are_read_and_attacks_refused(tmp_path, protocol):
    file, marker = tmp_path / "model.pkl", tmp_path / "executed"
    file.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert same(load_pickle(file), PLAIN)
    file.write_bytes(pickle.dumps({"model": Attack(marker)}, protocol=protocol))
    with pytest.raises(UnsafeCheckpointError, match=r"model\.pkl was refused: it asks for \w+\.mkdir"):
        load_pickle(file)
    assert not marker.exists()


def test_arrays_that_are_read_may_be_written_to(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([np.zeros(3), np.zeros(3)], protocol=4))
    one, other = load_pickle(tmp_path / "a.pkl")
    one += 1
    assert other.sum() == 0


def test_python2_pickles(tmp_path):
    file = tmp_path / "old.pkl"  # what Python 2 wrote: str as bytes opcodes
    file.write_bytes(b"(dp0\nS'blobs'\np1\n(dp2\nS'conv1_w'\np3\nI7\nss.")
    assert load_pickle(file) == {"blobs": {"conv1_w": 7}}
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
    file.write_bytes(
        array + b"(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntb."
    )
    assert load_pickle(file).tolist() == [1, 2]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [TENSORS, PLAIN, state()], ids=["tensors", "plain", "training"])
def test_torch_files(tmp_path, zipped, content):
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    assert same(load_torch(tmp_path / "model.pth"), content)


def test_tensors_of_one_storage_share_it(tmp_path):
    torch.save({"a": SHARED, "b": SHARED[2:]}, tmp_path / "model.pth")
    loaded = load_torch(tmp_path / "model.pth")
    loaded["a"][2] = 100
    assert loaded["b"][0] == 100


def test_the_metadata_of_a_state_dict_is_kept(tmp_path):
    module = torch.nn.BatchNorm2d(2)
    torch.save(module.state_dict(), tmp_path / "model.pth")
    assert load_torch(tmp_path / "model.pth")._metadata == module.state_dict()._metadata


def test_the_tensor_that_these_are_made_of_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "fine.pth", "w") as archive:
        archive.writestr("fine/data.pkl", TENSOR.format("FloatStorage", 4, 0, "I2\n", "I3\n").encode())
        archive.writestr("fine/data/0", struct.pack("4f", 1, 2, 3, 4))
    assert load_torch(tmp_path / "fine.pth").tolist() == [1, 4]


def test_torchscript_is_named(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="a TorchScript program, expected a dict of weights"):
        load_torch(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], "holds a list in the place of weights"),
        (None, "holds a NoneType in the place of weights"),
        ({1: np.ones(2)}, "holds 1, a ndarray, among its weights"),
        (
            {"epoch": 3, "state_dict": {"w": np.ones(2)}},
            "holds 'epoch', a int, .*: save what it holds under 'state_dict'",
        ),
        ({"w": [1.0]}, "holds 'w', a list, among its weights, expected arrays by name"),
        ({"w": np.ones(2, np.complex64)}, "weight w of x.pth is of complex64, expected float32"),
        ({"w": np.ones(2, bool)}, "weight w of x.pth is of bool, expected float32"),
        ({"n": np.ones(2, np.float32)}, "weight n of x.pth is of float32, expected int64"),
        ({"other": np.ones(2, np.complex64)}, "weight other of x.pth is of complex64, expected real numbers"),
        ({"w": np.array([1, np.nan], np.float32)}, "weight w of x.pth has entries that are NaN or infinite"),
        ({"w": torch.tensor([np.inf]).bfloat16()}, "weight w of x.pth has entries that are NaN or infinite"),
    ],
)
def test_weights_that_are_none(weights, message):
    with pytest.raises(CheckpointError, match=message):
        check_weights(weights, "x.pth", {"w": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)})


def test_weights_of_other_precision_are_fine():
    check_weights({"w": np.ones(2, np.float64), "n": torch.ones(2, dtype=torch.int32)}, "x.pth", {"w": torch.ones(2)})
