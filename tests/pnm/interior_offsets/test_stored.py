"""Offsets on disk: what comes back, what is told of a folder that doesn't fit, and what a killed writer leaves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pnm.errors import UserError
from pnm.interior_offsets.stored import MANIFEST, OffsetSource, StoredOffsets, open_offsets

sys.path.append(str(Path(__file__).parent))  # processes inherit it
from offset_process import SOURCE, add_many, offsets  # noqa: E402


@pytest.fixture
def images(tmp_path):
    """Files of other content; what they show doesn't matter here."""
    paths = [tmp_path / "images" / f"{n}.png" for n in range(3)]
    paths[0].parent.mkdir()
    for n, path in enumerate(paths):
        path.write_bytes(b"image %d" % n)
    return paths


def test_round_trip(tmp_path, images):
    stored = open_offsets(tmp_path / "offsets", SOURCE)
    for n, path in enumerate(images[:2]):
        assert not stored.has(path)
        stored.add(path, offsets(n))
    for one in (stored, StoredOffsets(tmp_path / "offsets"), open_offsets(tmp_path / "offsets", SOURCE)):
        assert one.source == SOURCE and len(one) == 2 and not one.has(images[2])
        for n, path in enumerate(images[:2]):
            again = one.read(path)
            assert np.array_equal(again.boundary, offsets(n).boundary)
            assert np.array_equal(again.directions, offsets(n).directions) and again.bins == 8
    images[0].rename(images[0].with_name("moved.png"))
    assert StoredOffsets(tmp_path / "offsets").has(images[0].with_name("moved.png"))


def test_what_does_not_fit_is_told_in_a_line(tmp_path, images):
    folder = tmp_path / "offsets"
    with pytest.raises(UserError, match=r"has no offsets \(manifest.jsonl is missing\): make them with "):
        StoredOffsets(folder)
    stored = open_offsets(folder, SOURCE)
    stored.add(images[0], offsets())
    with pytest.raises(UserError, match="2.png has no offsets in"):
        stored.read(images[2])
    with pytest.raises(UserError, match="image .*nowhere.png does not exist"):
        stored.read(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match="are of another model or other weights: choose another folder, or leave"):
        open_offsets(folder, OffsetSource("b" * 64))
    (file,) = folder.glob("maps/*/*.png")
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(UserError, match="the offsets of .*0.png, is damaged"):
        stored.read(images[0])
    file.unlink()
    with pytest.raises(UserError, match="the offsets of .*0.png, .* does not exist"):
        stored.read(images[0])
    images[0].write_bytes(b"another image")
    with pytest.raises(UserError, match="0.png has changed since its offsets were made, or is another image"):
        stored.read(images[0])
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="has no manifest.jsonl, but other files: choose a new or empty folder"):
        open_offsets(other, SOURCE)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b'{"kind": "interior offsets", "format": 2, "model": "x"}',
        b'{"kind": "interior offsets", "format": 1, "model": "x", "bins": 9}',
        b'{"kind": "interior offsets", "format": 1, "model": "x", "steps": 0}',
        b'{"kind": "interior offsets", "format": 1, "model": "x", "threshold": NaN}',
        b'{"kind": "interior offsets", "format": 1, "model": "x", "scale": "2"}',
        b'{"kind": "interior offsets", "format": 1, "model": "x", "colour": 1}',
        b'{"format": 1, "dataset": "cityscapes", "locality": 35}',
        b"\xff\xfe",
    ],
)
def test_other_manifests(tmp_path, header):
    (tmp_path / MANIFEST).write_bytes(header + b"\n")
    with pytest.raises(UserError, match=r"is no manifest of offsets \(format 1\): choose another folder"):
        StoredOffsets(tmp_path)


def test_a_killed_writer_loses_its_last_line_only(tmp_path, images, caplog):
    folder = tmp_path / "offsets"
    stored = open_offsets(folder, SOURCE)
    for n, path in enumerate(images[:2]):
        stored.add(path, offsets(n))
    content = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(content[:-30])
    again = open_offsets(folder, SOURCE)
    assert (
        again.has(images[0])
        and not again.has(images[1])
        and "1 line(s) make no sense and are passed over" in caplog.text
    )
    again.add(images[1], offsets(1))
    again.add(images[2], offsets(2))
    assert len(StoredOffsets(folder)) == 3


@pytest.mark.parametrize("change", ["damaged", "gone"])
def test_a_map_that_is_not_whole_is_made_again(tmp_path, images, change):
    stored = open_offsets(tmp_path / "offsets", SOURCE)
    stored.add(images[0], offsets())
    (file,) = (tmp_path / "offsets").glob("maps/*/*.png")
    file.write_bytes(file.read_bytes()[:-20]) if change == "damaged" else file.unlink()
    again = open_offsets(tmp_path / "offsets", SOURCE)
    assert not again.has(images[0])
    again.add(images[0], offsets())
    assert again.has(images[0]) and np.array_equal(again.read(images[0]).boundary, offsets().boundary)


def test_a_header_that_somebody_changed(tmp_path, images):
    """Bins that the maps don't have would turn all directions."""
    folder = tmp_path / "offsets"
    open_offsets(folder, SOURCE).add(images[0], offsets())
    content = (folder / MANIFEST).read_text()
    for before, after in (
        ('"bins": 8', '"bins": 16'),
        ('"steps": 3', '"steps": 800000000'),
        ('"steps": 3', '"steps": 4'),
    ):
        (folder / MANIFEST).write_text(content.replace(before, after, 1))
        with pytest.raises(UserError, match="is no manifest of offsets"):
            StoredOffsets(folder)


def test_damaged_lines_are_passed_over(tmp_path, images):
    folder = tmp_path / "offsets"
    open_offsets(folder, SOURCE).add(images[0], offsets())
    first, row = (folder / MANIFEST).read_text().splitlines()
    strange = [{**json.loads(row), "height": 0}, {**json.loads(row), "image_digest": "../x"}, [], 3, {"image": "x"}]
    (folder / MANIFEST).write_text("\n".join([first, *map(json.dumps, strange), ""]))
    assert len(StoredOffsets(folder)) == 0


def test_processes_add_at_the_same_time(tmp_path, new_process):
    paths = []
    for n in range(40):
        paths.append(tmp_path / f"{n}.png")
        paths[-1].write_bytes(b"%d" % n)
    folder = tmp_path / "offsets"
    open_offsets(folder, SOURCE)
    for process in [new_process(add_many, folder, paths[k::2], k) for k in range(2)]:
        process.join()
    stored = StoredOffsets(folder)
    assert len(stored) == 40 and all(stored.read(path).size == (64, 64) for path in paths)
