"""tools/refine.py where some images can't be refined: they are told, keep their masks, and the others are refined."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .result_files import IMAGES, WRITERS, content, labels_of, write_instances, write_labels

ROOT = Path(__file__).resolve().parents[2]
BROKEN = 4


@pytest.fixture
def whole(numbered_photos):
    """The bytes of a photo, which is cut off in the middle."""
    path = numbered_photos / f"{BROKEN:03}.png"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return data


@pytest.mark.parametrize("task", WRITERS)
def test_a_truncated_photo(task, numbered_photos, whole, refine_random, tmp_path):
    predictions = WRITERS[task](tmp_path)
    name = f"refined{predictions.suffix}"
    words = ("--images", numbered_photos, "--predictions", predictions, "--output", tmp_path / "out" / name)
    told = refine_random(*words, fails=2)
    assert f"{BROKEN:03}.png cannot be read" in told
    assert f"1 of {IMAGES} images could not be refined, see above: their predictions are in" in told
    broken = content(tmp_path / "out")
    split = (*words[:-1], tmp_path / "split" / name)
    assert "1 of the 6 images of shard 1/2 could not be refined" in refine_random(*split, "--shard", "1/2", fails=True)
    assert "5 images refined in shard 2/2" in refine_random(*split, "--shard", "2/2")
    assert f"1 of {IMAGES} images could not be refined" in refine_random(*split, "--merge", 2, fails=True)
    result_files = {path: data for path, data in broken.items() if ".partial" not in str(path)}
    assert {path: (tmp_path / "split" / path).read_bytes() for path in result_files} == result_files
    (numbered_photos / f"{BROKEN:03}.png").write_bytes(whole)
    assert "exists already" in refine_random(*words, fails=True)
    assert "in the 1 images of this run" in refine_random(*words, "--overwrite")
    assert "in the 1 images of this run" in refine_random(*split, "--overwrite")
    refine_random(*words[:-1], tmp_path / "one" / name)
    one = content(tmp_path / "one")
    assert content(tmp_path / "out") == one == content(tmp_path / "split") and one.keys() == result_files.keys()
    assert 1 <= sum(one[path] != data for path, data in result_files.items()) <= 2  # the image's alone, or its list's


def test_what_is_mended_in_a_shard(numbered_photos, whole, refine_random, tmp_path):
    words = ("--images", numbered_photos, "--predictions", write_labels(tmp_path), "--output", tmp_path / "out")
    refine_random(*words, "--shard", "1/2", fails=True)
    refine_random(*words, "--shard", "2/2")
    (numbered_photos / f"{BROKEN:03}.png").write_bytes(whole)
    refine_random(*words, "--shard", "1/2")
    assert "11 images that 2 shards refined" in refine_random(*words, "--merge", 2)
    assert not (tmp_path / "out.partial").exists()


def test_a_truncated_label_map_is_copied(numbered_photos, refine_random, tmp_path):
    labels = write_labels(tmp_path)
    path = labels / f"{BROKEN:03}.png"
    path.write_bytes(path.read_bytes()[:60])
    words = ("--images", numbered_photos, "--predictions", labels, "--output", tmp_path / "out")
    assert f"image {path.name}: " in refine_random(*words, fails=2)
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "out").glob("*.png"))) == IMAGES


def test_none_can_be_refined(numbered_photos, refine_random, tmp_path):
    for path in numbered_photos.iterdir():
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    words = ("--images", numbered_photos, "--predictions", write_instances(tmp_path), "--output", tmp_path / "out.json")
    told = refine_random(*words, fails=2)
    assert "image 10: the image is 9 x 9" in told and f"none of {IMAGES} images could be refined" in told
    assert not (tmp_path / "out.json").exists()


def test_two_processes(numbered_photos, whole, tmp_path):
    import torch

    from pnm.projects.bpr.networks import NETWORKS

    torch.manual_seed(0)
    weights = {f"network.{name}": value for name, value in NETWORKS["patch_unet"](False).state_dict().items()}
    torch.save({"model": weights}, tmp_path / "unet.pth")
    output = tmp_path / "out.json"
    words = ["--config-file", "configs/quickstart/bpr_instance.yaml", "--num-gpus", "2", "--images", numbered_photos]
    words += ["--predictions", write_instances(tmp_path), "--output", output, "MODEL.WEIGHTS", tmp_path / "unet.pth"]
    words += ["MODEL.DEVICE", "cpu", "MODEL.BPR.PATCH_SIZE", "16", "MODEL.BPR.INPUT_SIZE", "32"]
    done = subprocess.run(
        [sys.executable, "tools/refine.py", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert f"1 of {IMAGES} images could not be refined" in done.stderr and output.is_file()


def test_masks_of_other_sizes_and_their_folders_others(numbered_photos, refine_random, tmp_path):
    masks = write_labels(tmp_path)
    Image.fromarray(labels_of(3)[:9]).save(masks / "003.png")
    words = (numbered_photos, masks, "--output", tmp_path / "out")
    told = refine_random(*words, fails=2)
    assert (
        "003.png is 9 x 52" in told and "--resize-mask" in told and f"1 of {IMAGES} pairs could not be refined" in told
    )
    assert len(list((tmp_path / "out").glob("*.png"))) == IMAGES - 1
    assert "1 masks" in refine_random(*words, "--resume", "--resize-mask")


def test_a_run_goes_on_with_its_own_settings_alone(numbered_photos, run_refine, random_weights, tmp_path):
    output, masks = tmp_path / "out", write_labels(tmp_path)
    words = (numbered_photos, masks, "--output", output)
    own = ("--weights", random_weights, "--strength")
    run_refine(*words, *own, 1, "--shard", "1/2")
    made = content(output)
    line = run_refine(*words, *own, 0.5, "--mask-kind", "object", "--resume", fails=True)
    assert "other settings (--mask-kind auto, now object; --strength 1.0, now 0.5)" in line and "--overwrite" in line
    assert "another --weights" in run_refine(*words, "--strength", 1, "--resume", fails=True)
    chained = (*own, 1, "--resume", "--then", "universal", *own, 1)
    assert "refiners 1, now 2" in run_refine(*words, *chained, fails=True)
    assert "--strength 1.0, now 0.5" in run_refine(*words, *own, 0.5, "--shard", "2/2", fails=True)
    assert content(output) == made
    assert "5 masks" in run_refine(*words, *own, 1, "--resume", "--resize-mask")
    run_refine(*words, *own, 0.5, "--overwrite")
    assert "0 masks" in run_refine(*words, *own, 0.5, "--resume")


def test_what_is_overwritten_is_not_gone_on_with(numbered_photos, refine_random, tmp_path, monkeypatch):
    """A run that replaces outputs and is killed leaves none of them to the next one."""
    words = (numbered_photos, write_labels(tmp_path), "--output", tmp_path / "out")
    refine_random(*words)

    def killed(job, step, task):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr("pnm.predictions.paired_masks.refine_picture", killed)
        refine_random(*words, "--overwrite")
    assert f"{IMAGES} masks" in refine_random(*words, "--resume")


def test_what_is_no_images_fault_ends_the_run(numbered_photos, refine_random, tmp_path):
    labels = write_labels(tmp_path)
    files = ("--images", numbered_photos, "--predictions", labels)
    for name, words in (("files", files), ("folders", (numbered_photos, labels))):
        told = refine_random(*words, "--output", tmp_path / name, "--device", "mars", fails=2)
        assert "device 'mars' can't be used" in told.splitlines()[-1] and "image" not in told.splitlines()[0]


def test_a_truncated_photo_of_annotations(numbered_photos, whole, refine_random, tmp_path):
    """Which are read for each image, by its size."""
    (tmp_path / "labels").mkdir()
    for n in range(IMAGES):
        (tmp_path / f"labels/{n:03}.txt").write_text("0 0.2 0.2 0.7 0.2 0.7 0.8 0.2 0.8\n", "utf-8")
    words = ("--images", numbered_photos, "--predictions", tmp_path / "labels", "--from", "yolo", "--classes", 1)
    told = refine_random(*words, "--output", tmp_path / "out", fails=2)
    assert f"{BROKEN:03}.png cannot be read" in told and f"1 of {IMAGES} images could not be refined" in told
    texts = [path.read_text("utf-8") for path in sorted((tmp_path / "out").rglob("[0-9]*.txt"))]
    lengths = [len(text.split()) for text in texts]
    assert len(lengths) == IMAGES and lengths[BROKEN] == 9 and min(lengths) == 9 and max(lengths) > 9


def test_no_mask_of_former_settings_is_left_where_others_are_overwritten(
    numbered_photos, run_refine, random_weights, tmp_path
):
    """Neither of a pair that is broken now, nor of another shard."""
    output, masks = tmp_path / "out", write_labels(tmp_path)
    words = (numbered_photos, masks, "--output", output, "--weights", random_weights, "--strength")
    run_refine(*words, 1)
    photo = numbered_photos / f"{BROKEN:03}.png"
    data = photo.read_bytes()
    photo.write_bytes(data[:20])
    run_refine(*words, 0.5, "--overwrite", fails=True)
    photo.write_bytes(data)
    assert "1 masks" in run_refine(*words, 0.5, "--resume")
    run_refine(*words, 1, "--overwrite", "--shard", "1/2")
    there = len(list(output.glob("*.png")))
    assert there < IMAGES
    run_refine(*words, 1, "--overwrite", "--shard", "2/2")
    assert len(list(output.glob("*.png"))) == IMAGES


def test_a_damaged_record_of_settings_is_refused(numbered_photos, refine_random, tmp_path):
    words = (numbered_photos, write_labels(tmp_path), "--output", tmp_path / "out")
    refine_random(*words)
    (tmp_path / "out/.refined-with.json").write_text("{")
    assert "is damaged" in refine_random(*words, "--resume", fails=True)
    assert f"{IMAGES} masks" in refine_random(*words, "--overwrite")
