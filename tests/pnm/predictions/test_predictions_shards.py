"""Shards of a refined output in every format: the merged one is that of a single run, byte for byte."""

import os
import shutil
import signal

import pytest

from pnm.errors import UserError
from pnm.predictions import open_predictions
from pnm.predictions.records import RecordFile
from pnm.shards import Shard, all_shards

OF = 4  # more than some of the files have images


def write(predictions, output, refine, shard, fingerprint="f", most=None):
    with predictions.writer(output, fingerprint, shard=shard) as writer:
        keys = [key for key in (shard.part(predictions.keys)) if key not in writer.done]
        for key in keys[:most]:
            writer.write(key, refine(predictions.read(key)))
    return len(keys)


def merge(predictions, output, of=OF, fingerprint="f"):
    writer = predictions.writer(output, fingerprint, merges=True)
    return writer.merge(*writer.written_by_shards(of, predictions.keys))


@pytest.fixture
def predictions(kind, make):
    path, options = make(kind)
    return open_predictions(path, **options)


@pytest.fixture
def wanted(predictions, moved, output_name, content_of, tmp_path):
    """What one run gives."""
    with predictions.writer(tmp_path / "whole" / output_name, "f") as writer:
        for key in predictions.keys:
            writer.write(key, moved(predictions.read(key)))
        writer.finish()
    return content_of(tmp_path / "whole" / output_name)


@pytest.fixture
def output(output_name, tmp_path):
    return tmp_path / output_name


def test_shards_in_any_order_make_the_output_of_one_run(predictions, wanted, moved, output, content_of):
    for shard in reversed(all_shards(OF)):
        write(predictions, output, moved, shard)
        assert not output.exists()
    assert merge(predictions, output) == output
    assert content_of(output) == wanted
    assert not output.with_name(output.name + ".partial").exists()


def test_a_shard_that_is_killed_is_run_again(predictions, wanted, moved, output, content_of, monkeypatch, capsys):
    lost = Shard(1, 2)
    number = len(lost.part(predictions.keys))

    def killed(self, key, record):
        self._opened().write(b"PNM1half of a rec")
        self._opened().flush()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            write(predictions, output, moved, lost, most=number - 1)
            monkeypatch.setattr(RecordFile, "append", killed)
            write(predictions, output, moved, lost)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    write(predictions, output, moved, Shard(2, 2))
    with pytest.raises(UserError, match="1 of 2 shards are not whole, .* with --shard 1/2 in the place of --merge"):
        merge(predictions, output, 2)
    assert f"shard 1/2: 1 of its {number} images are missing in " in capsys.readouterr().err
    assert not output.exists()
    assert write(predictions, output, moved, lost) == 1
    merge(predictions, output, 2)
    assert content_of(output) == wanted


def test_a_run_without_shards_goes_on_from_theirs(predictions, wanted, moved, output, content_of):
    write(predictions, output, moved, Shard(2, 2))
    with predictions.writer(output, "f") as writer:
        assert writer.done == set(Shard(2, 2).part(predictions.keys))
        for key in set(predictions.keys) - writer.done:
            writer.write(key, moved(predictions.read(key)))
        writer.finish()
    assert content_of(output) == wanted


def test_shards_of_other_settings_and_numbers(make, moved, tmp_path, capsys):
    predictions, output = open_predictions(make("labels")[0]), tmp_path / "refined"
    write(predictions, output, moved, Shard(1, 2))
    write(predictions, output, moved, Shard(2, 2), fingerprint="g")
    with pytest.raises(UserError, match="1 of 2 shards are not whole, .* run the same command with --shard 2/2"):
        merge(predictions, output, 2)
    assert "2-of-2 holds the beginning of a run of other model or settings: delete it" in capsys.readouterr().err
    for of in (3, 1):
        with pytest.raises(UserError, match=f"refined.partial holds shards of a run in 2 parts, and this one .* {of}"):
            merge(predictions, output, of)
        with pytest.raises(UserError, match=f"holds shards of a run in 2 parts, and this one is in {of}: give all"):
            predictions.writer(output, "f", shard=Shard(1, of))
    shutil.rmtree(tmp_path / "refined.partial/2-of-2")
    with pytest.raises(UserError, match="1 of 2 shards are not whole"):
        merge(predictions, output, 2)


def test_a_damaged_shard(make, moved, tmp_path):
    predictions, output = open_predictions(make("sem_seg")[0]), tmp_path / "refined.json"
    for shard in all_shards(2):
        write(predictions, output, moved, shard)
    file = next((tmp_path / "refined.json.partial/2-of-2").glob("*.records"))
    content = file.read_bytes()
    file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(UserError, match="1 of 2 shards are not whole, .* run the same command with --shard 2/2"):
        merge(predictions, output, 2)
    assert write(predictions, output, moved, Shard(2, 2)) == 1
    merge(predictions, output, 2)
