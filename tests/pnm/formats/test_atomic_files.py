"""Files written whole or not at all."""

import os
import threading

import pytest

from pnm.errors import UserError
from pnm.formats.atomic_files import WriteError, atomic_file, check_folder_writable, check_writable, write_text


def test_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new/file.txt"
    write_text(path, "old \u00e9")
    assert path.read_bytes() == "old \u00e9".encode()
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"half")
        assert path.read_text(encoding="utf-8") == "old \u00e9"
        raise KeyError("the block's own")
    assert path.read_text(encoding="utf-8") == "old \u00e9" and os.listdir(path.parent) == ["file.txt"]


def test_a_full_disk_is_told_with_the_files_name(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match="a.txt can't be written .No space left on device.: make room"):
        write_text(tmp_path / "a.txt", "text")
    assert os.listdir(tmp_path) == []


def test_writers_share_no_temporary_file(tmp_path):
    path = tmp_path / "file"
    texts = [str(k) * 100_000 for k in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_written_is_told_before(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new/a.json")
    with pytest.raises(UserError, match="it is a folder"):
        check_writable(tmp_path / "new")
    with pytest.raises(UserError, match="can't be written"):
        check_writable(tmp_path / "file/a.json")
    with pytest.raises(UserError, match="OUTPUT_DIR .*file/out is not writable"):
        check_folder_writable(tmp_path / "file/out", "OUTPUT_DIR")
