"""Honest checkpoints are read, whoever wrote them; what is no checkpoint is refused, and nothing of it is called."""

import io
import os
import pickle
import pickletools
import random
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from pnm.formats.safe_checkpoint import CheckpointError, UnsafeCheckpointError, check_weights, load_pickle, load_torch

RNG = np.random.default_rng(0)
CODES = ("b1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")
ARRAYS = {
    **{
        code: (RNG.random((3, 4)) * 90).astype(code)
        for code in ["b1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
    },
    **{f"big-endian {code}": np.arange(5).astype(f">{code}") for code in ("i2", "f4", "c8")},
    "column by column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "none": np.zeros((0, 3)),
    "one": np.array(7, np.int16),
    "every other": np.arange(9)[::2],
}
PLAIN = {
    "model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "s": np.float64(2.5), "b": np.bool_(True)},
    "__author__": "me",
    "raw": b"\x00\xff",
    "bytes": bytearray(b"abc"),
    "set": {1, 2},
    "frozen": frozenset("ab"),
    "complex": 1 - 2j,
    "many": [None, True, -1, 2**70, 1.5, "é", (), (1,), [[]], {}],
    "ordered": OrderedDict(b=1, a=2),
    "milestones": Counter({3: 1, 5: 2}),
    5: ARRAYS,
}
SHARED = torch.arange(12.0)
TENSORS = {
    **{str(d): torch.ones(2, 3).to(d) for d in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)},
    **{str(dtype): torch.arange(4).to(dtype) for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32)},
    "uint16": torch.arange(3).to(torch.uint16),
    "complex": torch.tensor([1 + 2j]),
    "view": SHARED[3:9].view(2, 3).T,
    "same": SHARED,
    "expanded": torch.ones(2, 1).expand(2, 5),
    "none": torch.zeros(0, 3),
    "one": torch.tensor(4),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


def state():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 5])
    parts = {"model": module, "optimizer": optimizer, "schedule": schedule}
    return {key: part.state_dict() for key, part in parts.items()} | {"iteration": 3, "size": torch.Size([1, 2])}


class Attack:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def same(came, wanted):
    if isinstance(wanted, torch.Tensor):
        assert came.dtype == wanted.dtype and came.shape == wanted.shape and torch.equal(came, wanted.detach())
        assert came.stride() == wanted.stride() or not wanted.numel()
    elif isinstance(wanted, np.ndarray | np.generic):
        assert type(came) is type(wanted) and came.dtype == wanted.dtype.newbyteorder("=")
        np.testing.assert_array_equal(came, wanted)
    elif isinstance(wanted, dict):
        assert isinstance(came, type(wanted)) and list(came) == list(wanted)
        for key in wanted:
            same(came[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert isinstance(wanted, type(came)) and len(came) == len(wanted)
        for one, other in zip(came, wanted):
            same(one, other)
    else:
        assert came == wanted and type(came) is type(wanted)
    return True


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


TENSOR = "ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\n{}\nS'0'\nS'cpu'\nL{}L\ntQL{}L\n({}t({}tI00\nNtR."


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


def test_the_tensor_that_these_are_made_of_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "fine.pth", "w") as archive:
        archive.writestr("fine/data.pkl", TENSOR.format("FloatStorage", 4, 0, "I2\n", "I3\n").encode())
        archive.writestr("fine/data/0", struct.pack("4f", 1, 2, 3, 4))
    assert load_torch(tmp_path / "fine.pth").tolist() == [1, 4]


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


def nested(opening, closing, depth):
    return opening * depth + closing * depth + b"."


BOMBS = {
    "tuples.pkl": nested(b"(", b"t", 10**6),
    "lists.pkl": nested(b"(", b"l", 10**6),
    "dicts.pkl": nested(b"(I1\n", b"d", 10**6),
    "keys.pkl": b"(" + nested(b"(", b"t", 10**5)[:-1] + b"I1\nd.",
    "itself.pkl": b"(lp0\ng0\na.",
    "laughs.pkl": b"(tq\x00" + b"".join(b"(" + b"h%c" % k * 9 + b"tq%c" % (k + 1) for k in range(80)) + b".",
    "memo.pkl": b"Nr\xff\xff\xff\xff",
    "bytes.pkl": b"\x8e" + struct.pack("<Q", 2**45) + b"x.",
    "array.pkl": b"\x96" + struct.pack("<Q", 2**45) + b"x.",
    "frame.pkl": b"\x80\x04\x95" + struct.pack("<Q", 2**45) + b"x.",
    "number.pkl": b"cbuiltins\nbytearray\n(L35184372088832L\ntR.",
    "sets.pkl": b"(" + b"I1\n" * 10**5 + b"lp0\n0(" + b"cbuiltins\nset\n(g0\ntR" * 10**5 + b"t.",
    "texts.pkl": b"(S'" + b"x" * 10**6 + b"'\np0\n0" + b"c_codecs\nencode\n(g0\ntR" * 10**5 + b"t.",
}


def test_small_files_do_not_ask_for_much(tmp_path):
    """In a process of its own, whose memory is limited to 3 GB beyond what it has imported."""
    files = [tmp_path / name for name in BOMBS]
    for file in files:
        file.write_bytes(BOMBS[file.name])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *map(str, files)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-500:]
    for file, line in zip(files, lines, strict=True):
        assert f"{file} is not a readable checkpoint" in line and "MemoryError" not in line


def read_with_little_memory(paths):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * 2**30,) * 2)
    for path in paths:
        start = time.perf_counter()
        try:
            print(type(load_pickle(path)))
        except CheckpointError as error:
            print(error, time.perf_counter() - start)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_compressed_archives(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", method) as archive:
        archive.writestr("bomb/data.pkl", TENSOR.format("ByteStorage", 10**8, 0, "I1\n", "I1\n").encode())
        archive.writestr("bomb/data/0", bytes(10**8))
    with pytest.raises(CheckpointError, match=r"bomb.pth is not a readable checkpoint \(entries that are compressed"):
        load_torch(tmp_path / "bomb.pth")


@pytest.mark.parametrize("read", [load_pickle, load_torch])
def test_damaged_and_missing_files(tmp_path, read):
    file = tmp_path / "model.bin"
    whole = pickle.dumps(PLAIN) if read is load_pickle else None
    if whole is None:
        torch.save({"w": torch.ones(100)}, file)
        whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>404 not found</html>"):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.bin is not a readable checkpoint"):
            read(file)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")


def test_a_flipped_bit_is_noticed(tmp_path):
    torch.save({"w": torch.randn(1000)}, tmp_path / "model.pth")
    whole = (tmp_path / "model.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.pth") as archive:
        weights = archive.read("model/data/0")
    at = whole.index(weights) + 1234
    (tmp_path / "model.pth").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        load_torch(tmp_path / "model.pth")


def test_torchscript_is_named(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="a TorchScript program, expected a dict of weights"):
        load_torch(tmp_path / "model.pth")


@pytest.mark.parametrize("kind", ["pickle", "archive", "legacy"])
def test_mutations_end_in_one_line(tmp_path, kind):
    """``PNM_MUTATIONS=2000`` for more. Whatever comes, it is an object or a CheckpointError."""
    stream, chance = io.BytesIO(), random.Random(kind)
    if kind == "pickle":
        stream.write(pickle.dumps(PLAIN, protocol=2))
    else:
        content = {**PLAIN, **TENSORS}
        torch.save(content, stream, _use_new_zipfile_serialization=kind == "archive")
    whole, path, refused = stream.getvalue(), tmp_path / "mutated", 0
    codes = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
    for _ in range(int(os.environ.get("PNM_MUTATIONS", "150"))):
        data = bytearray(mutated_program(whole, chance, codes) if kind == "archive" else whole)
        for _ in range(chance.randrange(kind != "archive", 4)):
            mutate(data, chance, codes)
        path.write_bytes(data)
        try:
            (load_pickle if kind == "pickle" else load_torch)(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600 + len(str(path))
    assert refused > 20


def mutate(data, chance, codes):
    at = chance.randrange(len(data))
    kind = chance.randrange(5)
    if kind == 0:
        data[at] = chance.randrange(256)
    elif kind == 1:
        data[at : at + 1] = chance.choice(codes)
    elif kind == 2:
        del data[at : at + chance.randrange(1, 9)]
    elif kind == 3:
        data[at:at] = data[at : at + chance.randrange(40)]
    else:
        data[at : at + 4] = struct.pack("<i", chance.choice([-1, 0, 2**31 - 1, 63, 2**20]))


def mutated_program(whole, chance, codes):
    """The archive with its pickle changed and its checksums right, so that the change is reached."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(target, "w") as archive:
        for entry in source.infolist():
            data = bytearray(source.read(entry))
            if entry.filename.endswith("data.pkl"):
                for _ in range(chance.randrange(1, 4)):
                    mutate(data, chance, codes)
            archive.writestr(entry.filename, bytes(data))
    return target.getvalue()


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


if __name__ == "__main__":
    read_with_little_memory(sys.argv[1:])
