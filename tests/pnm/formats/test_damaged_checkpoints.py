"""Damaged files are told in one line, whatever the damage."""

import io
import os
import pickle
import pickletools
import random
import struct
import zipfile

import pytest
import torch

from pnm.formats.safe_checkpoint import CheckpointError, load_pickle, load_torch

from .checkpoint_contents import PLAIN, TENSORS


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
