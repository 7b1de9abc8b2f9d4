"""What is no checkpoint is refused, and nothing of it is called, nor memory written or read beyond what is its own."""

import zipfile

import pytest
import torch

from pnm.formats.safe_checkpoint import CheckpointError, UnsafeCheckpointError, load_pickle, load_torch

from .checkpoint_contents import TENSOR, Attack


@pytest.mark.parametrize("zipped", [True, False])
def test_attacks_on_torch_files(tmp_path, zipped):
    torch.save({"model": Attack(tmp_path / "executed")}, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match=r"model\.pth was refused: it asks for \w+\.mkdir"):
        load_torch(tmp_path / "model.pth")
    assert not (tmp_path / "executed").exists()


FIELD = "(I3\nS'|'\nN(S'a'\nt(dS'a'\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRI{}\ntsI8\nI1\nI{}\ntb"
ARRAY = "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nt{}I00\nS'AAAAAAAA'\ntb."
PLAIN_DTYPE = "cnumpy\ndtype\n(S'{}'\nI0\nI1\ntR"


@pytest.mark.parametrize(
    "payload",
    {
        "a call": b"cbuiltins\neval\n(S'1'\ntR.",
        "a dotted name": b"cnumpy.core.multiarray\nos.system\n(S'true'\ntR.",
        "a codec": b"c_codecs\nencode\n(S'x'\nS'hex'\ntR.",
        "an instance": b"(icollections\nOrderedDict\n.",
        "an object": b"(ccollections\nOrderedDict\no.",
        "a class changed": b"ccollections\nOrderedDict\n}S'__init__'\nNsb.",
        "a function changed": b"c_codecs\nencode\n}S'__code__'\nNsb.",
        "a name that is kept": b"c_codecs\nencode\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "the array type called": b"cnumpy\nndarray\n(I2\ntR.",
    }.items(),
    ids=lambda item: item[0],
)
def test_handwritten_attacks(tmp_path, payload):
    (tmp_path / "attack.pkl").write_bytes(payload[1])
    with pytest.raises(UnsafeCheckpointError):
        load_pickle(tmp_path / "attack.pkl")


CORRUPTING = {
    "object pointers out of bytes": ARRAY.format(PLAIN_DTYPE.format("V8") + FIELD.format(0, 63)),
    "a field far away": ARRAY.format(PLAIN_DTYPE.format("V8") + FIELD.format(2**30, 0)),
    "flags of a plain dtype": ARRAY.format(PLAIN_DTYPE.format("f8") + "(I3\nS'<'\nNNNI-1\nI-1\nI63\ntb"),
    "an item size": ARRAY.format(PLAIN_DTYPE.format("f8") + "(I3\nS'<'\nNNNI1000000\nI-1\nI0\ntb"),
    "a subarray": ARRAY.format(PLAIN_DTYPE.format("f8") + "(I3\nS'<'\n(cnumpy\nndarray\n(I9\nttNNI-1\nI-1\nI0\ntb"),
    "an object dtype": ARRAY.format(PLAIN_DTYPE.format("O8")),
    "fields by text": ARRAY.format(PLAIN_DTYPE.format("f4,O")),
    "a date": ARRAY.format(PLAIN_DTYPE.format("M8")),
    "a scalar": "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRS'AAAAAAAA'\ntR.",
    "a buffer": "cnumpy._core.numeric\n_frombuffer\n(S'AAAAAAAA'\ncnumpy\ndtype\n(S'O8'\ntR(I1\ntS'C'\ntR.",
    "more elements than bytes": ARRAY.replace("(I1\nt{}", "(I35184372088832\nt{}").format(PLAIN_DTYPE.format("f8")),
    "a negative length": ARRAY.replace("(I1\nt{}", "(I-1\nt{}").format(PLAIN_DTYPE.format("f8")),
    "lengths whose product wraps": ARRAY.replace("(I1\nt{}", "(L4294967297L\nL4294967295L\nI2\nt{}").format(
        PLAIN_DTYPE.format("f4")
    ),
    "a state of an array that is none": "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",
    "no shape": ARRAY.replace("(I1\nt{}", "N{}").format(PLAIN_DTYPE.format("f8")),
}


@pytest.mark.parametrize("name", CORRUPTING)
def test_arrays_that_would_corrupt_memory(tmp_path, name):
    (tmp_path / "attack.pkl").write_bytes(CORRUPTING[name].encode())
    with pytest.raises(CheckpointError, match="attack.pkl is not a readable checkpoint"):
        load_pickle(tmp_path / "attack.pkl")
    torch.save({"model": 1}, tmp_path / "attack.pth")
    with zipfile.ZipFile(tmp_path / "attack.pth", "w") as archive:
        archive.writestr("attack/data.pkl", CORRUPTING[name].encode())
    with pytest.raises(CheckpointError, match="attack.pth is not a readable checkpoint"):
        load_torch(tmp_path / "attack.pth")


@pytest.mark.parametrize(
    "values",
    {
        "beyond the end": ("FloatStorage", 4, 0, "I5\n", "I1\n"),
        "by its stride": ("FloatStorage", 4, 0, "I2\nI2\n", "I3\nI1\n"),
        "by its offset": ("FloatStorage", 4, 4, "I1\n", "I1\n"),
        "before the beginning": ("FloatStorage", 4, 0, "I2\n", "I-1\n"),
        "a negative offset": ("FloatStorage", 4, -1, "I1\n", "I1\n"),
        "one number as 2^45": ("FloatStorage", 4, 0, "L35184372088832L\n", "I0\n"),
        "a product that wraps": ("FloatStorage", 4, 0, "L4294967296L\nL4294967296L\n", "I0\nI0\n"),
        "a storage of other size": ("FloatStorage", 2**40, 0, "I1\n", "I1\n"),
        "a storage of negative size": ("FloatStorage", -4, 0, "I1\n", "I1\n"),
        "quantised": ("QInt8Storage", 16, 0, "I1\n", "I1\n"),
    }.items(),
    ids=lambda item: item[0],
)
def test_tensors_out_of_bounds(tmp_path, values):
    with zipfile.ZipFile(tmp_path / "attack.pth", "w") as archive:
        archive.writestr("attack/data.pkl", TENSOR.format(*values[1]).encode())
        archive.writestr("attack/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="attack.pth"):
        load_torch(tmp_path / "attack.pth")


@pytest.mark.parametrize(
    "tensor",
    {
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "conjugated": torch.tensor([1 + 2j]).conj(),
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_not_plain(tmp_path, tensor):
    torch.save({"w": tensor[1]}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"model.pth .*(expected plain|expected numbers|asks for torch)"):
        load_torch(tmp_path / "model.pth")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_compressed_archives(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", method) as archive:
        archive.writestr("bomb/data.pkl", TENSOR.format("ByteStorage", 10**8, 0, "I1\n", "I1\n").encode())
        archive.writestr("bomb/data/0", bytes(10**8))
    with pytest.raises(CheckpointError, match=r"bomb.pth is not a readable checkpoint \(entries that are compressed"):
        load_torch(tmp_path / "bomb.pth")
