"""The command that makes weight maps: every kind of data set, resumed after a kill, verified, and told in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from pnm.formats.label_png import read_label_png, read_panoptic_png
from pnm.null_model.null_model import pixel_null_model
from pnm.null_model.pixel_weights import pixel_weights
from pnm.null_model.stored.maps import WeightMapParameters, WeightMaps
from pnm.null_model.stored.surprisal import weights_of_surprisal

ROOT = Path(__file__).resolve().parents[2]


# Runs the tool once for each of the given lists of arguments, in one process.
ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
sys.path.insert(0, "tools")
import precompute_weights as tool
from pnm.projects.launcher import weight_jobs as jobs
built_in, register_data = set(jobs.DatasetCatalog.list()), jobs.register_data
def register_anew(args):
    for name in set(jobs.DatasetCatalog.list()) - built_in:
        jobs.DatasetCatalog.remove(name)
        jobs.MetadataCatalog.remove(name)
    register_data(args)
    jobs.DatasetCatalog.register("empty", list)
    jobs.MetadataCatalog.get("empty").name
jobs.register_data = register_anew
told = []
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            tool.main()
        except SystemExit as ended:
            told.append([ended.code, output.getvalue(), errors.getvalue()])
print(json.dumps(told))
"""


class Told(NamedTuple):
    """What one run of the tool left."""

    status: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The one line that a failed run ends with."""
        assert self.status == 2, self.errors
        last = self.errors.strip().splitlines()[-1]
        assert last.startswith("error: "), self.errors
        return last


def environment(datasets: Path) -> dict:
    return os.environ | {"DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}


def run_tool(datasets: Path, *runs: list[str]) -> list[Told]:
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(runs)]
    done = subprocess.run(command, cwd=ROOT, env=environment(datasets), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [Told(*told) for told in json.loads(done.stdout.splitlines()[-1])]


def own_data(tmp_path, ignore_label=7, count=3) -> str:
    """A semantic data set ``mine`` of the user's, as --register takes it."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for k in range(count):
            Image.fromarray(rng.integers(0, 8, (150, 160)).astype(np.uint8)).save(tmp_path / kind / f"{k:03d}.png")
    entry = {"name": "mine", "type": "semantic", "images": str(tmp_path / "images")}
    entry |= {"labels": str(tmp_path / "labels"), "classes": ["a", "b"], "ignore_label": ignore_label}
    return json.dumps([entry])


def test_a_data_set_from_beginning_to_end(shapes_root, tmp_path):
    name, labels = "shapes_train_sem_seg", sorted((shapes_root / "shapes/semantic_train").glob("*.png"))
    arguments = ["--output", str(tmp_path / "maps"), "--dataset", name]
    (trial,) = run_tool(shapes_root, [*arguments, "--dry-run"])
    assert trial.status == 0 and not (tmp_path / "maps").exists()
    assert "12 label files, 0 have maps in " in trial.output and "the other 12 will take about 0." in trial.output
    more = ["shapes_val_panoptic", "--workers", "2"]
    made, checked, trial, again = run_tool(
        shapes_root, arguments + more, [*arguments, "--verify"], [*arguments, "--dry-run"], arguments
    )
    assert made.status == 0, made.errors
    assert f"{name}: 12 maps written to {tmp_path}/maps/{name} (0." in made.output
    assert "images/s with 2 worker(s)" in made.output and "encoding and writing" in made.output
    assert "shapes_val_panoptic: 6 maps written" in made.output
    assert checked.status == 0 and "12 label files have intact maps" in checked.output
    assert "12 have maps" in trial.output and "0 maps written" in again.output
    maps = WeightMaps(tmp_path / "maps" / name, WeightMapParameters(name, 35))
    maps.check_complete(labels)
    for file in labels:
        pixels = read_label_png(file)
        exact = np.where(pixels == 255, 0, pixel_weights(pixel_null_model(pixels, 35, ignore_label=255)))
        np.testing.assert_allclose(weights_of_surprisal(maps.read(file)), exact, rtol=1e-4)
    # Where a data set has both, the semantic labels count: Panoptic FPN's stuff labels.
    stuff = sorted((shapes_root / "shapes/panoptic_stuff_val").glob("*.png"))
    WeightMaps(tmp_path / "maps/shapes_val_panoptic", WeightMapParameters("shapes_val_panoptic")).read(stuff[0])


def test_verify_says_what_is_wrong_and_the_command_mends_it(tmp_path):
    arguments = ["--dataset", "mine", "--register", own_data(tmp_path)]  # the maps go to their default place
    (made,) = run_tool(tmp_path, arguments)
    assert made.status == 0, made.errors
    maps = sorted((tmp_path / "pnm_weights/mine").glob("maps/*/*.png"))
    data = bytearray(maps[0].read_bytes())
    data[80] ^= 1
    maps[0].write_bytes(data)
    maps[1].unlink()
    checked, made, again = run_tool(tmp_path, [*arguments, "--verify"], arguments, [*arguments, "--verify"])
    assert checked.status == 1
    counts, command = checked.output.rstrip().split("; run: ")
    assert counts in ("mine: 1 missing, 1 damaged", "mine: 1 damaged, 1 missing")
    assert command == "python tools/precompute_weights.py --dataset mine --locality 35 --ignore-label 7"
    assert f"damaged: map {maps[0]} of " in checked.errors and f"missing: map {maps[1]} of " in checked.errors
    assert "2 maps written" in made.output and again.status == 0
    # The ignore label is the data set's own.
    labels = sorted((tmp_path / "labels").glob("*.png"))
    encoded = WeightMaps(tmp_path / "pnm_weights/mine", WeightMapParameters("mine", ignore_label=7)).read(labels[0])
    np.testing.assert_array_equal(encoded == 65535, read_label_png(labels[0]) == 7)


def test_shards_and_their_merge(tmp_path):
    arguments = ["--dataset", "mine", "--register", own_data(tmp_path, count=5)]
    split = [*arguments, "--output", str(tmp_path / "split")]
    one, first, early, second, merged, checked, both, strange, dry = run_tool(
        tmp_path,
        arguments,
        [*split, "--shard", "1/2"],
        [*split, "--merge", "2"],
        [*split, "--shard", "2/2"],
        [*split, "--merge", "2"],
        [*split, "--verify"],
        [*split, "--shard", "1/2", "--merge", "2"],
        [*split, "--shard", "3/2"],
        [*split, "--shard", "1/2", "--dry-run"],
    )
    assert one.status == 0 and "mine: 3 maps written" in first.output and "mine: 2 maps written" in second.output
    assert "; shard 1/2, when all are through: --merge 2" in first.output
    assert "1 of 2 shards are not whole, see above: run the same command with --shard 2/2" in early.error
    assert merged.status == 0 and "mine: maps of 5 label files in" in merged.output
    assert checked.status == 0 and "5 label files have intact maps" in checked.output
    folders = [tmp_path / "pnm_weights/mine", tmp_path / "split/mine"]
    contents = [{f.relative_to(root): f.read_bytes() for f in root.rglob("*") if f.is_file()} for root in folders]
    assert contents[0] == contents[1] and len(contents[0]) == 7
    assert "--shard and --merge both came" in both.error
    assert "--shard is '3/2', expected K/N" in strange.error
    assert "--dry-run and --verify look at all of a data set" in dry.error


HELD = """
import sys, time
from pathlib import Path

sys.path.insert(0, "")
from pnm.null_model.stored import writer
from pnm.tools.precompute_weights import main

honest, written = writer.write_bytes, []

def held(path, data):
    written.append(path)
    while len(written) == 20 and not Path("{}").exists():
        time.sleep(0.01)
    honest(path, data)

writer.write_bytes = held
main()
"""  # the program, held before its twentieth map


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_middle(tmp_path, kill):
    arguments = ["--dataset", "mine", "--register", own_data(tmp_path, count=60), "--workers", "1"]
    command = [sys.executable, "-c", HELD.format(tmp_path / "go"), *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    manifest, deadline = tmp_path / "pnm_weights/mine/manifest.jsonl", time.monotonic() + 120
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") > 5) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, kill)
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if kill == signal.SIGINT else -kill), errors
    if kill == signal.SIGINT:
        assert errors.rstrip().endswith("interrupted: maps made so far are kept; run the same command again to go on")
        assert "Traceback" not in errors
    done = manifest.read_bytes().count(b"\n") - 1
    assert 5 <= done < 60
    made, checked = run_tool(tmp_path, arguments, [*arguments, "--verify"])
    assert made.status == 0 and f"{done} kept" in made.output
    assert checked.status == 0, checked.errors


def test_panoptic_files_alone(tmp_path, real_data):
    """COCO panoptic data without semantic labels: maps of the segments, void ignored."""
    root, name = tmp_path / "data", "coco_2017_val_panoptic"
    (root / "coco/annotations").mkdir(parents=True)
    shutil.copy(real_data / "coco/annotations/panoptic_val2017.json", root / "coco/annotations")
    shutil.copytree(real_data / "coco/panoptic_images", root / "coco/val2017")
    shutil.copytree(real_data / "coco/panoptic_val2017", root / "coco/panoptic_val2017")
    (made,) = run_tool(root, ["--dataset", name])
    assert made.status == 0, made.errors
    parameters = WeightMapParameters(name, 35, ignore_label=0, labels="panoptic")
    maps = WeightMaps(root / "pnm_weights/coco_2017_val_panoptic.panoptic", parameters)
    for file in (root / "coco/panoptic_val2017").glob("*.png"):
        ids = read_panoptic_png(file)
        exact = np.where(ids == 0, 0, pixel_weights(pixel_null_model(ids, 35, ignore_label=0)))
        np.testing.assert_allclose(weights_of_surprisal(maps.read(file)), exact, rtol=1e-4)


def test_cityscapes(tmp_path, real_data):
    shutil.copytree(real_data / "cityscapes", tmp_path / "cityscapes")
    prepare = [sys.executable, str(ROOT / "datasets/prepare_cityscapes.py"), "--root", str(tmp_path / "cityscapes")]
    subprocess.run(prepare, check=True, capture_output=True)
    for path in (tmp_path / "cityscapes/gtFine").rglob("*labelIds.png"):  # Detectron2 wants these, too
        path.with_name(path.name.replace("labelIds.png", "polygons.json")).write_text('{"imgHeight": 1, "imgWidth": 1}')
    (made,) = run_tool(tmp_path, ["--dataset", "cityscapes_fine_sem_seg_train", "cityscapes_fine_sem_seg_val"])
    assert made.status == 0 and made.output.count(": 2 maps written to ") == 2, made.errors


def test_data_sets_and_folders_that_do_not_fit(shapes_root, tmp_path):
    (tmp_path / "file").write_text("")
    instances, unverified, no_folder, nothing = run_tool(
        shapes_root,
        ["--dataset", "shapes_train"],
        ["--dataset", "shapes_val_sem_seg", "--verify", "--output", str(tmp_path / "none")],
        ["--dataset", "shapes_val_sem_seg", "--output", str(tmp_path / "file")],
        ["--dataset", "empty"],
    )
    assert "shapes_train has no label maps; weight maps exist for semantic and panoptic data sets" in instances.error
    assert f"shapes_val_sem_seg has no weight maps in {tmp_path}/none/shapes_val_sem_seg; run: " in unverified.error
    assert f"{tmp_path}/file/shapes_val_sem_seg is not writable" in no_folder.error
    assert "data set empty is empty; check its annotation file or folder" in nothing.error


def test_label_files_that_cannot_be_read(tmp_path):
    arguments = ["--dataset", "mine", "--register", own_data(tmp_path)]
    path = tmp_path / "labels/001.png"
    path.write_bytes(path.read_bytes()[:100])
    done, trial = run_tool(tmp_path, arguments, [*arguments, "--dry-run"])
    assert "1 of 3 label files of mine could not be read, see above; mend them and run" in done.error
    assert f"{path} is truncated or damaged: it ends after 100 bytes" in done.errors and "2 maps written" in done.output
    assert f"{path} is truncated or damaged" in trial.error


USER_ERRORS = {
    "--dataset shapes_train_sem_se": "'shapes_train_sem_se' is not registered; did you mean shapes_train_sem_seg?",
    "--dataset shapes_val_sem_seg --locality 34": "locality is 34, expected an odd positive integer",
    "--dataset shapes_val_sem_seg --locality 547": "weight maps hold localities up to 545; choose a smaller one",
    "--dataset shapes_val_sem_seg --workers 0": "--workers is 0, expected a positive number",
    "--dataset mine --register 3": "DATASETS.REGISTER takes list, got int",
    "--dataset mine --config-file none.yaml": "config file none.yaml does not exist",
    "--dataset shapes_val_panoptic": "make it with: python datasets/make_shapes.py",
    "--dataset cityscapes_fine_sem_seg_train": "data sets cityscapes_fine_sem_seg_train: ",
    "--dataset coco_2017_val_panoptic": "data sets coco_2017_val_panoptic: ",
}


@pytest.fixture(scope="module")
def told_errors(tmp_path_factory):
    """What each of ``USER_ERRORS`` left, where there is no data at all."""
    nothing = tmp_path_factory.mktemp("nothing")
    return dict(zip(USER_ERRORS, run_tool(nothing, *(line.split() for line in USER_ERRORS)), strict=True))


@pytest.mark.parametrize("line", USER_ERRORS)
def test_user_errors(told_errors, line):
    assert USER_ERRORS[line] in told_errors[line].error
