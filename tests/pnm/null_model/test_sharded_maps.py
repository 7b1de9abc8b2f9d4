"""Weight maps made in shards are, to the byte, those of one run; shards that lack something are named."""

import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.null_model.stored.check import check_weight_maps
from pnm.null_model.stored.sharded_maps import merge_map_shards, write_map_shard
from pnm.null_model.stored.writer import write_weight_maps
from pnm.shards import Shard, all_shards

sys.path.append(str(Path(__file__).parent))  # processes inherit it
from writer_process import TOY, write_shard_slowly  # noqa: E402


def content(folder):
    """Everything in a folder, the lock aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def labels(tmp_path):
    """43 label files, some of which are equal, and some of one name in two folders."""
    rng, files = np.random.default_rng(0), []
    for k in range(43):
        files.append(tmp_path / f"{'ab'[k % 2]}/{k // 2:03d}.png")
        files[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 3, (40, 50)).astype(np.uint8)).save(files[-1])
    for k in (9, 10, 30):
        shutil.copyfile(files[0], files[k])
    shutil.copyfile(files[2], files[3])  # equal, and of one name
    return files


@pytest.fixture
def whole(tmp_path, labels):
    write_weight_maps(tmp_path / "whole", TOY, labels)
    return content(tmp_path / "whole")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "split"


@pytest.mark.parametrize("of", [1, 8, 50])
def test_shards_make_what_one_run_makes(of, folder, labels, whole):
    for shard in reversed(all_shards(of)):
        write_map_shard(folder, TOY, labels, shard)
    assert merge_map_shards(folder, TOY, labels, of) == 0
    assert content(folder) == whole and not (folder / "shards").exists()
    assert check_weight_maps(folder, TOY, labels) == []


def test_a_shard_that_is_killed_is_run_again(folder, labels, whole, new_process, capsys):
    lost = Shard(2, 2)
    child = new_process(write_shard_slowly, folder, labels, lost)
    manifest = folder / "shards/2-of-2/manifest.jsonl"
    while child.is_alive() and not (manifest.exists() and manifest.read_bytes().count(b"\n") > 5):
        time.sleep(0.001)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    write_map_shard(folder, TOY, labels, Shard(1, 2))
    with pytest.raises(UserError, match="1 of 2 shards are not whole, .* with --shard 2/2 in the place of --merge"):
        merge_map_shards(folder, TOY, labels, 2)
    assert "has not one row for each of its 21 label files" in capsys.readouterr().err
    assert not (folder / "manifest.jsonl").exists()
    again = write_map_shard(folder, TOY, labels, lost)
    assert again.kept > 4 and again.written < 17
    merge_map_shards(folder, TOY, labels, 2)
    assert content(folder) == whole


def test_what_was_there_is_kept_and_maps_of_no_label_file_go(folder, labels, whole):
    write_weight_maps(folder, TOY, labels[:20])
    old = labels[5].read_bytes()
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(labels[5])
    write_weight_maps(folder, TOY, labels[:20])
    labels[5].write_bytes(old)
    summaries = [write_map_shard(folder, TOY, labels, shard) for shard in all_shards(3)]
    assert sum(one.kept for one in summaries) >= 19
    assert merge_map_shards(folder, TOY, labels, 3) == 1
    assert content(folder) == whole


def test_what_shards_can_lack(folder, labels, whole, capsys):
    for shard in all_shards(4):
        write_map_shard(folder, TOY, labels, shard)
    manifests = [folder / f"shards/{k}-of-4/manifest.jsonl" for k in range(1, 5)]
    manifests[0].write_bytes(manifests[0].read_bytes()[:-3])
    lines = manifests[1].read_bytes().split(b"\n")
    manifests[1].write_bytes(b"\n".join([lines[0].replace(b'"locality": 7', b'"locality": 9'), *lines[1:]]))
    shutil.rmtree(manifests[2].parent)
    manifests[3].write_bytes(b"\x00")
    with pytest.raises(
        UserError, match="4 of 4 shards are not whole, .*--shard 1/4, --shard 2/4, --shard 3/4, --shard"
    ):
        merge_map_shards(folder, TOY, labels, 4)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    for line, words in zip(told, ("has not one row", "have locality 9, expected locality 7", "there is no", "damaged")):
        assert words in line
    for shard in all_shards(4):
        write_map_shard(folder, TOY, labels, shard, overwrite=True)
    next(folder.glob("maps/*/*.png")).unlink()
    with pytest.raises(UserError, match=r"[1-4] of 4 shards are not whole"):
        merge_map_shards(folder, TOY, labels, 4)
    assert "maps are missing, such as that of" in capsys.readouterr().err
    for shard in all_shards(4):
        write_map_shard(folder, TOY, labels, shard)
    merge_map_shards(folder, TOY, labels, 4)
    assert content(folder) == whole


def test_an_unreadable_label_file_keeps_its_shard_from_being_merged(folder, labels, whole):
    good = labels[0].read_bytes()
    labels[0].write_bytes(b"no picture")
    summaries = [write_map_shard(folder, TOY, labels, shard) for shard in all_shards(2)]
    assert [len(one.failures) for one in summaries] == [1, 0]
    with pytest.raises(UserError, match="--shard 1/2 in the place"):
        merge_map_shards(folder, TOY, labels, 2)
    labels[0].write_bytes(good)
    write_map_shard(folder, TOY, labels, Shard(1, 2))
    merge_map_shards(folder, TOY, labels, 2)
    assert content(folder) == whole


def test_other_numbers_and_parameters(folder, labels, whole):
    write_map_shard(folder, TOY, labels, Shard(1, 2))
    with pytest.raises(UserError, match="shards holds shards of a run in 2 parts, and this one is in 3"):
        write_map_shard(folder, TOY, labels, Shard(1, 3))
    with pytest.raises(UserError, match="shards holds shards of a run in 2 parts, and this one is in 3"):
        merge_map_shards(folder, TOY, labels, 3)
    with pytest.raises(UserError, match="have locality 7, expected locality 9"):
        write_map_shard(folder, replace(TOY, locality=9), labels, Shard(1, 2))
    write_weight_maps(folder, replace(TOY, locality=9), labels, overwrite=True)
    with pytest.raises(UserError, match="have locality 9, expected locality 7"):
        write_map_shard(folder, TOY, labels, Shard(2, 2))
    for shard in all_shards(2):
        write_map_shard(folder, TOY, labels, shard, overwrite=True)
    merge_map_shards(folder, TOY, labels, 2, overwrite=True)
    assert content(folder) == whole
