"""Weight maps give the weights back; whatever happens to a folder of them is found, and mended by the same command."""

import json
import os
import pickle
import random
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnm.errors import UserError
from pnm.formats.atomic_files import WriteError
from pnm.formats.label_png import decode_label_png, read_label_png, read_panoptic_png
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import TRANSFORMS, pixel_weights
from pnm.null_model.stored.check import check_weight_maps
from pnm.null_model.stored.folder_lock import folder_locked
from pnm.null_model.stored.maps import WeightMapParameters, WeightMaps, default_weight_root, remedy, weight_folder
from pnm.null_model.stored.surprisal import MAX_LOCALITY, weights_of_surprisal
from pnm.null_model.stored.writer import write_weight_maps

sys.path.append(str(Path(__file__).parent))  # processes inherit it
from writer_process import TOY, write_where_another_does  # noqa: E402

COMMAND = "run: python tools/precompute_weights.py --dataset toy --locality 7"


def exact_weights(labels, parameters, transform):
    settings = {"ignore_label": parameters.ignore_label, "border": parameters.border}
    pnm = pixel_null_model(labels, parameters.locality, **settings).astype(np.float64)
    return np.where(labels == parameters.ignore_label, 0, pixel_weights(pnm, transform))


@pytest.fixture
def labels(tmp_path):
    """Twelve label files of odd sizes, two of them alike."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "labels"
    folder.mkdir()
    for k in range(12):
        height, width = (1, 1) if k == 4 else rng.integers(3, 40, 2)
        blocks = rng.choice([0, 1, 2, 255], (height // 5 + 1, width // 5 + 1))
        pixels = np.kron(blocks, np.ones((5, 5)))[:height, :width].astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
    shutil.copy(folder / "00.png", folder / "11.png")
    return sorted(folder.glob("*.png"))


@pytest.fixture
def folder(tmp_path, labels):
    write_weight_maps(tmp_path / "toy", TOY, labels, workers=2)
    return tmp_path / "toy"


def content(folder):
    """Everything in a folder, the lock aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def map_of(folder, label_file):
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()[1:]]
    return folder / next(row["map"] for row in rows if row["label"] == label_file.name)


def kinds(folder, labels, parameters=TOY):
    return sorted(finding.kind for finding in check_weight_maps(folder, parameters, labels, workers=2))


def mended(folder, labels):
    """Whether the command leaves what it would have made afresh."""
    write_weight_maps(folder, TOY, labels)
    write_weight_maps(folder.with_name("fresh"), TOY, labels)
    return content(folder) == content(folder.with_name("fresh")) and not kinds(folder, labels)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("parameters", [TOY, WeightMapParameters("toy", 35, "zero", 2)])
def test_folder_gives_the_weights_of_its_labels(tmp_path, labels, parameters, transform):
    summary = write_weight_maps(tmp_path / "maps", parameters, labels, workers=2)
    assert (summary.written, summary.kept, summary.removed, summary.failures) == (12, 0, 0, [])
    maps = WeightMaps(tmp_path / "maps", parameters)
    maps.check_complete(labels)
    assert len(maps) == 11  # two label files are alike
    carried = pickle.loads(pickle.dumps(maps))
    for label_file in labels:
        weights = weights_of_surprisal(carried.read(label_file), transform)
        np.testing.assert_allclose(weights, exact_weights(read_label_png(label_file), parameters, transform), rtol=1e-4)


def test_panoptic_maps(tmp_path, real_data):
    files = sorted(real_data.glob("coco/panoptic_val2017/*.png"))
    parameters = WeightMapParameters("toy", 35, ignore_label=0, labels="panoptic")
    write_weight_maps(tmp_path, parameters, files)
    for file in files:
        weights = weights_of_surprisal(WeightMaps(tmp_path, parameters).read(file))
        np.testing.assert_allclose(weights, exact_weights(read_panoptic_png(file), parameters, "log"), rtol=1e-4)


def test_real_label_maps(tmp_path, real_data):
    files = [*real_data.glob("cityscapes/gtFine/val/*/*labelIds.png"), *real_data.glob("coco_stuff/labels/*.png")]
    files += real_data.glob("ADEChallengeData2016/annotations/*/*.png")
    parameters = WeightMapParameters("toy", 35, ignore_label=0)
    write_weight_maps(tmp_path, parameters, files, workers=2)
    maps = WeightMaps(tmp_path, parameters)
    for file in files:
        weights = weights_of_surprisal(maps.read(file))
        np.testing.assert_allclose(weights, exact_weights(read_label_png(file), parameters, "log"), rtol=1e-4)


def test_running_again_writes_nothing(folder, labels):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    summary = write_weight_maps(folder, TOY, labels)
    assert (summary.written, summary.kept, summary.removed) == (0, 12, 0)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_that_moves_keeps_its_maps(folder, labels, tmp_path):
    moved = [shutil.copy(file, tmp_path / file.name) for file in labels]
    assert write_weight_maps(folder, TOY, moved).written == 0
    assert WeightMaps(folder, TOY).read(moved[3]).shape == read_label_png(moved[3]).shape


def test_a_line_that_was_cut_off_is_dropped(folder, labels):
    path = folder / "manifest.jsonl"
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in (last, last + 1, (last + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert len(WeightMaps(folder, TOY)) == 11
        assert kinds(folder, labels) == sorted(["missing"] + ["damaged"] * (end > last))
        write_weight_maps(folder, TOY, labels)
        assert path.read_bytes() == whole
    assert kinds(folder, labels) == []


def test_damaged_lines_count_as_absent(folder, labels):
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace('"label_digest": "', '"label_digest": "x')
    lines[5] = "\0" * 30 + "\n"
    lines[6] = lines[6].replace('"height": ', '"height": -')
    lines[7] = lines[7].replace('"map": "maps/', '"map": "../')
    path.write_text("".join(lines))
    with pytest.raises(UserError, match=rf"{labels[2]} has no weight map; {COMMAND} --output"):
        WeightMaps(folder, TOY).read(labels[2])
    with pytest.raises(UserError, match=rf"4 of 12 label files of toy have no weight map \(first: 02.png\); {COMMAND}"):
        WeightMaps(folder, TOY).check_complete(labels)
    assert kinds(folder, labels) == ["damaged"] * 4 + ["missing"] * 4
    assert mended(folder, labels)


def test_a_flipped_byte_in_a_map_is_found(folder, labels):
    path = map_of(folder, labels[2])
    data = bytearray(path.read_bytes())
    for at in random.Random(0).sample(range(len(data)), 20):
        data[at] ^= 16
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"weight map {path} of {labels[2]} is damaged; {COMMAND}"):
            WeightMaps(folder, TOY).read(labels[2])
        assert kinds(folder, labels) == ["damaged"]
        data[at] ^= 16
    path.write_bytes(data[:-5])
    assert kinds(folder, labels) == ["damaged"] and mended(folder, labels)


def test_a_wrong_size_in_the_manifest_is_found(folder, labels):
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[2])
    lines[2] = json.dumps({**row, "height": row["height"] + 1}) + "\n"
    path.write_text("".join(lines))
    with pytest.raises(UserError, match=f"of {labels[1]} is not of the size and type that it should be; {COMMAND}"):
        WeightMaps(folder, TOY).read(labels[1])
    assert kinds(folder, labels) == ["damaged"] and mended(folder, labels)


def test_a_missing_map_is_found(folder, labels):
    path = map_of(folder, labels[2])
    path.unlink()
    with pytest.raises(UserError, match=rf"weight map {path} of {labels[2]} is missing; {COMMAND}"):
        WeightMaps(folder, TOY).read(labels[2])
    assert kinds(folder, labels) == ["missing"]
    path.mkdir()
    with pytest.raises(UserError, match=rf"weight map {path} of {labels[2]} cannot be read \(Is a directory\)"):
        WeightMaps(folder, TOY).read(labels[2])
    path.rmdir()
    assert mended(folder, labels)


def test_a_changed_label_file_is_found(folder, labels):
    pixels = read_label_png(labels[3]).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(labels[3])
    with pytest.raises(UserError, match=rf"{labels[3]} has changed since its weight map was made; {COMMAND}"):
        WeightMaps(folder, TOY).read(labels[3])
    # Its old line and map belong to no label file any more.
    assert kinds(folder, labels) == ["orphan", "orphan", "stale"]
    assert write_weight_maps(folder, TOY, labels).removed == 1
    assert mended(folder, labels)


def test_a_new_label_file_is_found(folder, labels):
    new = labels[0].with_name("new.png")
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(new)
    with pytest.raises(UserError, match=rf"new.png has no weight map; {COMMAND}"):
        WeightMaps(folder, TOY).read(new)
    with pytest.raises(UserError, match=r"1 of 13 label files of toy have no weight map \(first: new.png\)"):
        WeightMaps(folder, TOY).check_complete([*labels, new])
    assert kinds(folder, [*labels, new]) == ["missing"] and mended(folder, [*labels, new])


def test_leftovers_are_found_and_removed_and_other_files_kept(folder, labels):
    (folder / "maps/ab").mkdir(exist_ok=True)
    for name in ("maps/ab/.x.png.12-3.partial", ".manifest.jsonl.12-3.partial", f"maps/ab/{'ab' * 12}.png"):
        (folder / name).write_bytes(b"")
    mine = [folder / "maps/ab" / name for name in ("mine.png", "my_24_letters_file_name_.png", f"{'cd' * 12}.png")]
    for path in mine:
        path.write_bytes(b"keep")
    assert kinds(folder, labels) == ["orphan"] * 3
    assert write_weight_maps(folder, TOY, labels).removed == 1
    assert kinds(folder, labels) == [] and all(path.read_bytes() == b"keep" for path in mine)


def test_label_files_that_cannot_be_read_cost_no_other_its_map(tmp_path, labels):
    labels[1].write_text("not a picture, but rather more than a header")
    Image.new("RGB", (3, 3)).save(labels[5])
    labels[7].unlink()
    summary = write_weight_maps(tmp_path / "toy", TOY, labels, workers=3)
    assert summary.written == 9 and len(summary.failures) == 3
    assert "01.png is not a PNG" in summary.failures[0] and "05.png is a colour image" in summary.failures[1]
    assert "07.png does not exist" in summary.failures[2]
    assert kinds(tmp_path / "toy", labels) == ["missing", "missing", "unreadable"]
    with pytest.raises(UserError, match=r"3 of 12 label files of toy have no weight map \(first: 01.png\)"):
        WeightMaps(tmp_path / "toy", TOY).check_complete(labels)


def test_no_label_files(tmp_path, folder):
    summary = write_weight_maps(tmp_path / "none", TOY, [])
    assert (summary.written, summary.kept, summary.removed) == (0, 0, 0) and kinds(tmp_path / "none", []) == []
    maps = WeightMaps(tmp_path / "none", TOY)
    maps.check_complete([])
    assert len(maps) == 0
    before = content(folder)
    assert write_weight_maps(folder, TOY, []).removed == 0 and content(folder) == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (WeightMapParameters("toy", 9), "have locality 7, expected locality 9; to replace them, run: .*--locality 9 "),
        (WeightMapParameters("toy", 7, "zero"), "have border valid, expected border zero; .*--border zero "),
        (WeightMapParameters("toy", 7, ignore_label=0), "have ignore_label 255, expected ignore_label 0; .*-label 0 "),
        (WeightMapParameters("dog", 9), "have dataset toy, locality 7, expected dataset dog, locality 9; "),
    ],
)
def test_other_parameters(folder, labels, other, message):
    for attempt in (
        lambda: WeightMaps(folder, other),
        lambda: write_weight_maps(folder, other, labels),
        lambda: check_weight_maps(folder, other, labels),
    ):
        with pytest.raises(UserError, match=f"the weight maps in {folder} {message}.*--overwrite"):
            attempt()
    assert write_weight_maps(folder, other, labels, overwrite=True).written == 12
    assert kinds(folder, labels, other) == []


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, f"data set toy has no weight maps in .*; {COMMAND}"),
        (b"", "is damaged: its first line is no header of weight maps; run: .* --overwrite"),
        (b'{"format": 1', "is damaged: its first line is no header"),
        (b"[1]\n", "is damaged: its first line is no header"),
        (b"\xff\xfe\n", "is damaged: its first line is no header"),
        (b'{"format": 2}\n', "has format 2, expected 1; run: .* --overwrite"),
        (b'{"format": 1}\n', "have dataset None, locality None, .*expected dataset toy"),
    ],
)
def test_manifests_that_cannot_be_used(folder, labels, manifest, message):
    path = folder / "manifest.jsonl"
    path.unlink() if manifest is None else path.write_bytes(manifest)
    with pytest.raises(UserError, match=message):
        WeightMaps(folder, TOY)
    if manifest is not None:
        with pytest.raises(UserError, match=message):
            write_weight_maps(folder, TOY, labels)
    write_weight_maps(folder, TOY, labels, overwrite=True)
    assert kinds(folder, labels) == []


def test_folders_that_cannot_be_used(tmp_path, labels):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"toy has no weight maps in {tmp_path}/file"):
        WeightMaps(tmp_path / "file", TOY)
    with pytest.raises(UserError, match=r"folder .*file is not writable \(.*\); choose another"):
        write_weight_maps(tmp_path / "file", TOY, labels)
    (tmp_path / "odd/manifest.jsonl").mkdir(parents=True)
    with pytest.raises(UserError, match=r"manifest.jsonl cannot be read \(Is a directory\); check its permissions"):
        WeightMaps(tmp_path / "odd", TOY)


def test_arguments_that_cannot_be(tmp_path, labels):
    for locality, message in ((8, "expected an odd"), (MAX_LOCALITY + 2, "weight maps hold localities up to 545")):
        with pytest.raises(UserError, match=message):
            write_weight_maps(tmp_path / "toy", WeightMapParameters("toy", locality), labels)
    with pytest.raises(UserError, match="border is 'none', expected one of valid, zero"):
        write_weight_maps(tmp_path / "toy", WeightMapParameters("toy", 7, "none"), labels)
    with pytest.raises(UserError, match="workers is 0, expected a positive number"):
        write_weight_maps(tmp_path / "toy", TOY, labels, workers=0)
    assert not (tmp_path / "toy").exists()


def test_the_largest_locality_fits(tmp_path):
    alone = np.zeros((700, 700), np.uint8)
    alone[350, 350] = 1
    Image.fromarray(alone).save(tmp_path / "alone.png")
    parameters = WeightMapParameters("toy", MAX_LOCALITY)
    write_weight_maps(tmp_path / "toy", parameters, [tmp_path / "alone.png"])
    weights = weights_of_surprisal(WeightMaps(tmp_path / "toy", parameters).read(tmp_path / "alone.png"), "inverse")
    assert weights[350, 350] == pytest.approx(MAX_LOCALITY**2, rel=1e-4)


def test_two_writers_at_once(folder, labels, new_process):
    with folder_locked(folder):
        write_where_another_does(folder, labels)
        child = new_process(write_where_another_does, folder, labels)
        child.join()
        assert child.exitcode == 0
    assert write_weight_maps(folder, TOY, labels).kept == 12


def test_a_full_disk_loses_only_what_was_in_flight(tmp_path, labels, monkeypatch):
    calls, honest = [], os.replace

    def full_after_five(source, target):
        calls.append(target)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        honest(source, target)

    monkeypatch.setattr(os, "replace", full_after_five)
    with pytest.raises(WriteError, match="maps/.*can't be written .No space left on device.: make room"):
        write_weight_maps(tmp_path / "toy", TOY, labels)
    monkeypatch.undo()
    assert len(WeightMaps(tmp_path / "toy", TOY)) == 4
    assert write_weight_maps(tmp_path / "toy", TOY, labels).kept >= 4 and mended(tmp_path / "toy", labels)


def test_names_and_commands(tmp_path, monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert str(default_weight_root()) == "datasets/pnm_weights"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert weight_folder(default_weight_root(), WeightMapParameters("toy")) == tmp_path / "pnm_weights/toy"
    panoptic = WeightMapParameters("toy", labels="panoptic")
    assert weight_folder(default_weight_root(), panoptic) == tmp_path / "pnm_weights/toy.panoptic"
    start = "python tools/precompute_weights.py --dataset toy --locality"
    assert remedy(WeightMapParameters("toy")) == f"{start} 35"
    assert remedy(TOY, tmp_path / "pnm_weights/toy") == f"{start} 7"
    assert remedy(TOY, "else/toy") == f"{start} 7 --output else"
    assert remedy(WeightMapParameters("toy", 7, "zero", 0)) == f"{start} 7 --border zero --ignore-label 0"
    assert remedy(TOY, overwrite=True) == f"{start} 7 --border valid --ignore-label 255 --overwrite"
    assert (
        remedy(WeightMapParameters("my toy")) == "python tools/precompute_weights.py --dataset 'my toy' --locality 35"
    )


def test_the_format_is_what_is_documented(folder, labels):
    header, *rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert header == {
        "format": 1, "dataset": "toy", "locality": 7, "border": "valid", "ignore_label": 255, "surprisal_scale": 5200.0
    }  # fmt: skip
    assert [row["label"] for row in rows] == [file.name for file in labels]
    assert all(re.fullmatch(r"maps/([0-9a-f]{2})/\1[0-9a-f]{22}\.png", row["map"]) for row in rows)
    encoded = decode_label_png((folder / rows[2]["map"]).read_bytes(), "map")
    assert encoded.dtype == np.uint16 and encoded.shape == (rows[2]["height"], rows[2]["width"])
    np.testing.assert_array_equal(encoded == 65535, read_label_png(labels[2]) == 255)
