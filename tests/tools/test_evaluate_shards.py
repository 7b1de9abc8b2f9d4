"""tools/evaluate.py --shard and --merge: eight shards score what one run scores, to the bit; what is wrong is told."""

import json
import os
import signal
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.formats import atomic_files

from .label_maps import save

SIZE, IMAGES, OF = (24, 32), 11, 8


def boxes(rng):
    """Some masks of an image, with categories."""
    for _ in range(int(rng.integers(0, 4))):
        top, left = rng.integers(0, 14, 2)
        height, width = rng.integers(3, 10, 2)
        mask = np.zeros(SIZE, np.uint8)
        mask[top : top + height, left : left + width] = 1
        yield mask, int(rng.integers(1, 3))


def write_instances(folder):
    rng = np.random.default_rng(0)
    annotations, results, other = [], [], []
    for n in range(IMAGES):
        for mask, category in boxes(rng):
            rle = coco_mask.encode(np.asfortranarray(mask))
            rle = {"size": rle["size"], "counts": rle["counts"].decode()}
            moved = coco_mask.encode(np.asfortranarray(np.roll(mask, int(rng.integers(0, 3)), axis=1)))
            moved = {"size": moved["size"], "counts": moved["counts"].decode()}
            row = {"image_id": 100 - n, "category_id": category, "bbox": [int(mask.argmax()) % 32, 2, 6, 7]}
            annotations.append({**row, "id": len(annotations) + 1, "segmentation": rle, "iscrowd": 0})
            annotations[-1]["area"] = int(mask.sum())
            results.append({**row, "score": round(float(rng.random()), 1), "segmentation": moved})
            other.append({**row, "score": 0.5, "segmentation": rle})
    images = [{"id": 100 - n, "file_name": f"{n}.jpg", "height": 24, "width": 32} for n in range(IMAGES)]
    categories = [{"id": k, "name": "ab"[k - 1]} for k in (1, 2)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    for name, content in (("gt.json", truth), ("pred.json", results), ("other.json", other)):
        (folder / name).write_text(json.dumps(content), "utf-8")
    return "instance", "--gt", folder / "gt.json", "--pred", folder / "pred.json", "--compare", folder / "other.json"


def write_panoptic(folder):
    rng = np.random.default_rng(0)
    paths = []
    truth = [rng.integers(1, 4, (3, 4)).repeat(8, 0).repeat(8, 1) for _ in range(IMAGES)]
    for side, shift in (("gt", 0), ("pred", 1), ("other", 3)):
        (folder / side).mkdir()
        annotations = []
        for n, ids in enumerate(truth):
            ids = np.roll(ids, shift * (n % 3), axis=1)
            Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1).astype(np.uint8)).save(folder / side / f"{n:03}.png")
            segments = [{"id": int(k), "category_id": int(k), "area": 1, "iscrowd": 0} for k in np.unique(ids)]
            annotations.append({"image_id": n, "file_name": f"{n:03}.png", "segments_info": segments})
        categories = [{"id": k, "name": "abc"[k - 1], "isthing": int(k > 1)} for k in (1, 2, 3)]
        images = [{"id": n, "file_name": f"{n}.jpg", "height": 24, "width": 32} for n in range(IMAGES)]
        paths.append(folder / f"{side}.json")
        content = {"images": images, "annotations": annotations, "categories": categories}
        paths[-1].write_text(json.dumps(content), "utf-8")
    return "panoptic", "--gt", paths[0], "--pred", paths[1], "--compare", paths[2]


def write_semantic(folder):
    rng = np.random.default_rng(0)
    for n in range(IMAGES):
        truth = rng.integers(0, 4, (3, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        save(folder / f"gt/{n:03}.png", np.where(truth == 3, 255, truth).astype(np.uint8))
        save(folder / f"pred/{n:03}.png", np.roll(truth, n % 4, axis=1) % 3)
        save(folder / f"other/{n:03}.png", np.roll(truth, 1, axis=0) % 3)
    sides = "--gt", folder / "gt", "--pred", folder / "pred", "--compare", folder / "other"
    return "semantic", *sides, "--classes", "3"


WRITERS = {"instance": write_instances, "panoptic": write_panoptic, "semantic": write_semantic}


@pytest.fixture
def run(run_main, evaluate_tool):
    """Runs the tool; gives stdout, or with ``fails`` what is told on stderr before exit 2."""

    def evaluate(*words, fails=False):
        status, output, errors = run_main(evaluate_tool, [*words, "--workers", 1])
        assert status == (2 if fails else 0), errors
        return "\n".join(errors if fails else output)

    return evaluate


@pytest.fixture
def shards(run, tmp_path):
    """``shards(words, of)`` runs all shards and gives their files."""

    def made(words, of=OF, folder="states"):
        files = [tmp_path / folder / f"state-{number}.npz" for number in range(1, of + 1)]
        for number, file in enumerate(files, 1):
            assert f"of shard {number}/{of} score" in run(*words, "--shard", f"{number}/{of}", "--output", file)
        return files

    return made


def outputs(run, folder, *words):
    """All that a run writes and prints."""
    files = [folder / "metrics.json", folder / "rows.csv"]
    told = run(*words, "--output", files[0], "--per-image", files[1], "--bootstrap", 120)
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    return told, *contents


@pytest.mark.parametrize("task", WRITERS)
def test_shards_score_what_one_run_scores(task, run, shards, tmp_path):
    words = WRITERS[task](tmp_path)
    wanted = outputs(run, tmp_path, *words)
    files = shards(words)
    assert outputs(run, tmp_path, *words, "--merge", *reversed(files)) == wanted
    files = shards(words, 13, "many")  # more than there are images
    assert outputs(run, tmp_path, *words, "--merge", *files) == wanted
    alone = [word for word in words if word not in ("--compare", words[6])]
    wanted = outputs(run, tmp_path, *alone)
    assert outputs(run, tmp_path, *alone, "--merge", *shards(alone, 2, "alone")) == wanted


def test_boxes_and_classes_of_shards(run, shards, tmp_path):
    words = (*write_instances(tmp_path), "--metrics", "bbox", "--per-class", "--show", "Box-AP")
    wanted = outputs(run, tmp_path, *words)
    assert outputs(run, tmp_path, *words, "--merge", *shards(words[:9], 3)) == wanted


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_what_does_not_fit_is_told_as_one_run_tells_it(task, run, shards, tmp_path):
    words = (*WRITERS[task](tmp_path), "--allow-missing")
    for n in (7, 2, 3):
        Image.fromarray(np.zeros((5, 5, 3 if task == "panoptic" else 1), np.uint8).squeeze()).save(
            tmp_path / f"pred/{n:03}.png"
        )
    (tmp_path / "other/004.png").unlink()
    wanted = outputs(run, tmp_path, *words)
    assert b"expected one size" in wanted[1]
    assert outputs(run, tmp_path, *words, "--merge", *shards(words, 4)) == wanted
    assert "mismatch(es) between prediction and ground truth" in run(
        *words[:-1], "--shard", "3/8", "--output", tmp_path / "x.npz", fails=True
    )


def test_a_shard_that_is_killed_is_run_again(run, shards, tmp_path, monkeypatch):
    words = write_semantic(tmp_path)
    wanted = outputs(run, tmp_path, *words)
    files = shards(words, 3)
    files[1].unlink()
    child = os.fork()
    if child == 0:
        try:
            monkeypatch.setattr(atomic_files.os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            run(*words, "--shard", "2/3", "--output", files[1])
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    told = run(*words, "--merge", *files, fails=True)
    assert "shard 2/3: no file of it was named, or it is damaged" in told and "state-2.npz can't be read" in told
    assert "1 of 3 shards are not whole, see above: run the same command with --shard 2/3 in the place of" in told
    run(*words, "--shard", "2/3", "--output", files[1])
    assert outputs(run, tmp_path, *words, "--merge", *files) == wanted


def test_states_of_other_runs(run, shards, tmp_path):
    words = write_semantic(tmp_path)
    files = shards(words, 4)
    run(*words, "--shard", "3/4", "--f-score-absent", "--boundary-px", 1, "--output", files[2])
    told = run(*words, "--merge", *files, fails=True)
    assert f"shard 3/4: {files[2]} was made with other --boundary-px, --f-score-absent" in told
    save(tmp_path / "gt/late.png", np.zeros(SIZE, np.uint8))
    save(tmp_path / "pred/late.png", np.zeros(SIZE, np.uint8))
    save(tmp_path / "other/late.png", np.zeros(SIZE, np.uint8))
    run(*words, "--shard", "3/4", "--output", files[2])
    told = run(*words, "--merge", *files, fails=True)
    assert f"shard 3/4: {files[2]} is of other data than most shards" in told
    other = shards(words, 3, "other")
    assert "--merge got shards of runs in 3, 4 parts" in run(*words, "--merge", *files, *other, fails=True)
    copy = tmp_path / "copy.npz"
    copy.write_bytes(files[0].read_bytes())
    assert "copy.npz are both of shard 1/4: name one" in run(*words, "--merge", *files, copy, fails=True)


def header_of(file):
    with np.load(file) as arrays:
        return json.loads(arrays["header"].tobytes()), dict(arrays)


def test_files_that_are_no_states(run, shards, tmp_path):
    words = write_semantic(tmp_path)
    (file,) = shards(words, 1)
    whole = file.read_bytes()
    header, arrays = header_of(file)
    for cut in range(0, len(whole), 97):
        file.write_bytes(whole[:cut])
        assert "no whole state of a shard" in run(*words, "--merge", file, fails=True)
    for at in range(0, len(whole), 211):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        run_main_ends_well(run, words, file)
    for changed in (
        {"format": 2},
        {"shard": [2, 1]},
        {"shard": "1/1"},
        {"listed": -1},
        {"sides": []},
        {"sides": [{**header["sides"][0], "keys": [[]] * IMAGES}] * 2},
        {"sides": [{**header["sides"][0], "about": {}}] * 2},
        {"belongs": {}},
    ):
        text = np.frombuffer(json.dumps({**header, **changed}).encode(), np.uint8)
        np.savez_compressed(file, **{**arrays, "header": text})
        assert "error: " in run(*words, "--merge", file, fails=True), changed
    for changed in (
        {"0 statistics": arrays["0 statistics"][1:]},
        {"0 statistics": arrays["0 statistics"].astype(np.float64)},
        {"0 places": arrays["0 places"] + 1},
        {"0 places": arrays["0 places"] * 0},
    ):
        np.savez_compressed(file, **{**arrays, **changed})
        assert "error: " in run(*words, "--merge", file, fails=True), list(changed)
    np.savez(file, **{**arrays, "header": np.array([{"a": 1}], object)})  # which only pickle could read
    assert "no whole state of a shard" in run(*words, "--merge", file, fails=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", b"nothing")
    assert "no whole state of a shard" in run(*words, "--merge", file, fails=True)


def run_main_ends_well(run, words, file):
    """A changed byte is told, or is one that nothing depends on."""
    try:
        assert "error: " in run(*words, "--merge", file, fails=True)
    except AssertionError:
        run(*words, "--merge", file)


def test_records_that_no_metric_makes(run, shards, tmp_path):
    words = write_instances(tmp_path)
    (file,) = shards(words, 1)
    _, arrays = header_of(file)
    for name, change in (
        ("column", lambda a: a + 50),
        ("image", lambda a: a - 40),
        ("gt_column", lambda a: a + 50),
        ("rank", lambda a: a[:-1]),
        ("score", lambda a: a * np.nan),
        ("found segm", lambda a: a.astype(np.int64)),
        ("f_sums", lambda a: a[:, :1]),
    ):
        np.savez_compressed(file, **{**arrays, f"0 {name}": change(arrays[f"0 {name}"])})
        assert "its arrays aren't those of instance metrics" in run(*words, "--merge", file, fails=True), name


@pytest.mark.parametrize(
    "more, message",
    [
        (["--shard", "9/8", "--output", "x.npz"], "--shard is '9/8', expected K/N"),
        (["--shard", "1/8"], "--shard needs --output"),
        (["--shard", "1/8", "--output", "x.npz", "--per-image", "x.csv"], "are for the whole: give them with --merge"),
        (["--shard", "1/8", "--merge", "x.npz", "--output", "y.npz"], "--shard and --merge both came"),
        (["--merge", "nowhere.npz"], "none of 1 files is a state of a shard"),
    ],
)
def test_what_is_asked_wrongly(more, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in run(*write_semantic(tmp_path), *more, fails=True)
    assert not (tmp_path / "x.npz").exists()
