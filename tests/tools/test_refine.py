"""tools/refine.py on result files of all formats, with a network that changes nothing and one that does."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn

from pnm.annotations.annotation_format import Source
from pnm.annotations.annotation_set import AnnotatedImage, AnnotatedObject, AnnotationSet, Category, object_masks
from pnm.annotations.known_formats import FORMATS, read_annotations
from pnm.formats.cityscapes import (
    prediction_lines,
    read_cityscapes_predictions,
    read_mask,
    write_cityscapes_predictions,
)
from pnm.masks.crops import crop_array, paste
from pnm.projects.bpr.networks import NETWORKS
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.refiner_loading import load_refiner

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/quickstart/bpr_instance.yaml"
SIZES = ["MODEL.BPR.PATCH_SIZE", "16", "MODEL.BPR.INPUT_SIZE", "32"]


class Identity(nn.Module):
    """Gives back the mask that it is shown."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.scale * x[:, 3:]


@pytest.fixture
def identity(monkeypatch, tmp_path):
    """Overrides of a refiner that changes nothing."""
    monkeypatch.setitem(NETWORKS, "identity", lambda pretrained: Identity())
    torch.save({"model": {"network.scale": torch.tensor(10.0)}}, tmp_path / "identity.pth")
    return [*SIZES, "MODEL.BPR.NETWORK", "identity", "MODEL.WEIGHTS", str(tmp_path / "identity.pth")]


@pytest.fixture
def unet(tmp_path):
    """Overrides of a refiner with random weights."""
    torch.manual_seed(0)
    network = NETWORKS["patch_unet"](False)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "unet.pth")
    return [*SIZES, "MODEL.WEIGHTS", str(tmp_path / "unet.pth")]


@pytest.fixture
def refine(run_refine):
    """``run_refine`` with the config of a refiner."""
    return functools.partial(run_refine, "--config-file", str(ROOT / CONFIG))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in (3, 12):
        Image.fromarray(rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(folder / f"{number:012}.jpg")
    return folder


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def blob(seed):
    y, x = np.mgrid[:50, :60]
    rng = np.random.default_rng(seed)
    return ((y - rng.integers(10, 40)) / 12) ** 2 + ((x - rng.integers(10, 50)) / 9) ** 2 < 1


@pytest.fixture
def results(tmp_path):
    rows = [
        {"image_id": i, "category_id": 5, "bbox": [0.5, 1, 2, 3], "score": 0.25 + k / 16, "segmentation": rle(blob(k))}
        for k, i in enumerate((12, 3, 12))
    ]
    rows[1]["mine"] = "kept"
    empty = rle(np.zeros((50, 60)))
    rows.append({"image_id": 3, "category_id": 2, "bbox": [0, 0, 0, 0], "score": 0.1, "segmentation": empty})
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    return path


def test_identity_gives_the_same_objects(refine, photos, results, identity, tmp_path):
    said = refine("--images", photos, "--predictions", results, "--output", tmp_path / "out.json", *identity)
    assert "2 images refined" in said
    before, after = json.loads(results.read_text()), json.loads((tmp_path / "out.json").read_text())
    for old, new in zip(before, after, strict=True):
        assert {k: v for k, v in new.items() if k != "bbox"} == {k: v for k, v in old.items() if k != "bbox"}
    y, x = np.nonzero(blob(0))
    assert after[0]["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] and after[3]["bbox"] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["labelme", "cvat", "label-studio"])
def test_own_annotations_are_refined_as_results_are(name, refine, photos, results, unet, tmp_path):
    """The masks that a refiner makes of result files are those that it makes of annotations of the same objects."""
    objects: dict[int, list[AnnotatedObject]] = {3: [], 12: []}
    for n, row in enumerate(json.loads(results.read_text())[:3]):
        objects[row["image_id"]].append(AnnotatedObject(0, crop=crop_array(blob(n)), id=n + 1))
    images = tuple(AnnotatedImage(f"{number:012}.jpg", 50, 60, number) for number in objects)
    scene = AnnotationSet("", "instance", (Category("cat"),), images, lambda image: tuple(objects[image.id]), photos)
    (tmp_path / "own").mkdir()
    FORMATS[name].write({"": scene}, tmp_path / "own")
    source = tmp_path / "own"
    if not FORMATS[name].is_folder:
        source = next(path for path in source.iterdir() if "config" not in path.name)
    refine("--images", photos, "--predictions", results, "--output", tmp_path / "out.json", *unet)
    output = tmp_path / f"refined{source.suffix}"
    said = refine("--images", photos, "--predictions", source, "--output", output, *unet)
    assert "2 images refined" in said and FORMATS[name].words in said
    again = read_annotations(Source(output, photos), name)
    refined = json.loads((tmp_path / "out.json").read_text())
    for image in again.images:
        rows = [row for row in refined[:3] if row["image_id"] == int(image.name[:12])]
        masks = object_masks(image, again.read(image))
        for row, mask in zip(rows, masks, strict=True):
            assert np.array_equal(paste(mask, 50, 60), coco_mask.decode(row["segmentation"]))


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_identity_gives_the_same_partition(refine, photos, identity, tmp_path, task):
    labels = (blob(0) + 2 * (blob(1) & ~blob(0))).astype(np.uint8)
    labels[:3] = 0 if task == "panoptic" else 255
    if task == "semantic":
        source = tmp_path / "labels"
        source.mkdir()
        for number in (3, 12):
            Image.fromarray(labels).save(source / f"{number:012}.png")
        output = tmp_path / "refined"
        refine("--images", photos, "--predictions", source, "--output", output, *identity, "MODEL.BPR.TASK", task)
        for file in sorted(source.iterdir()):
            assert np.array_equal(np.asarray(Image.open(output / file.name)), labels)
        return
    source = tmp_path / "pan.json"
    (tmp_path / "pan").mkdir()
    Image.fromarray(np.stack([labels, labels * 0, labels * 0], -1)).save(tmp_path / "pan/a.png")
    segments = [{"id": k, "category_id": 7, "area": int((labels == k).sum())} for k in (1, 2)]
    annotation = {"image_id": 3, "file_name": "a.png", "segments_info": segments}
    source.write_text(json.dumps({"annotations": [annotation]}))
    output = tmp_path / "out.json"
    refine("--images", photos, "--predictions", source, "--output", output, *identity, "MODEL.BPR.TASK", task)
    assert json.loads(output.read_text())["annotations"] == [annotation]
    assert (np.asarray(Image.open(tmp_path / "out/a.png"))[..., 0] == labels).all()


def test_identity_gives_the_same_sem_seg_json(refine, photos, identity, tmp_path):
    rows = [
        {"file_name": f"data/{number:012}.jpg", "category_id": k, "segmentation": rle(mask)}
        for number in (12, 3)
        for k, mask in ((4, blob(0)), (0, ~blob(0)))
    ]
    (tmp_path / "sem_seg.json").write_text(json.dumps(rows))
    arguments = ("--images", photos, "--predictions", tmp_path / "sem_seg.json", "--output", tmp_path / "out.json")
    refine(*arguments, *identity, "MODEL.BPR.TASK", "semantic")
    assert json.loads((tmp_path / "out.json").read_text()) == rows


def test_identity_gives_the_same_cityscapes_results(refine, photos, identity, tmp_path):
    image = "aachen_000000_000019_leftImg8bit"
    (photos / "000000000003.jpg").rename(photos / f"{image}.jpg")
    masks = [blob(k) for k in range(3)]
    text = prediction_lines(image, [24, 26, 24], [0.5, 0.25, 1e-7])
    source, output = tmp_path / "results", tmp_path / "refined"
    write_cityscapes_predictions(source / f"{image}_pred.txt", text, masks)
    empty = "aachen_000000_000020_leftImg8bit"
    (photos / "000000000012.jpg").rename(photos / f"{empty}.jpg")
    write_cityscapes_predictions(source / f"{empty}_pred.txt", "", [])
    refine("--images", photos, "--predictions", source, "--output", output, *identity)
    assert (output / f"{image}_pred.txt").read_text() == text and (output / f"{empty}_pred.txt").read_text() == ""
    for prediction, mask in zip(read_cityscapes_predictions(output / f"{image}_pred.txt"), masks, strict=True):
        assert np.array_equal(read_mask(prediction.mask_path), mask)


def test_equals_the_refiner_in_python(refine, photos, results, unet, tmp_path):
    refine("--images", photos, "--predictions", results, "--output", tmp_path / "out.json", *unet)
    refiner = load_refiner(load_config(str(ROOT / CONFIG), unet))
    changed = False
    for row in json.loads((tmp_path / "out.json").read_text()):
        image = np.asarray(Image.open(photos / f"{row['image_id']:012}.jpg"))
        coarse = next(r for r in json.loads(results.read_text()) if r["score"] == row["score"])
        mask = coco_mask.decode(coarse["segmentation"])
        refined = refiner(image, mask)
        assert refined.dtype == bool and np.array_equal(refined, coco_mask.decode(row["segmentation"]))
        assert np.array_equal(refiner(image, mask[None])[0], refined)
        changed |= (refined != mask).any()
    assert changed


def test_details_of_a_trained_refiner(refine, photos, results, unet, tmp_path):
    arguments = ("--images", photos, "--predictions", results, "--output")
    more = ("--details", tmp_path / "details", "--details-in-results")
    refine(*arguments, tmp_path / "out.json", *more, *unet)
    refined = json.loads((tmp_path / "out.json").read_text())
    for old, new in zip(json.loads(results.read_text()), refined, strict=True):
        masks = [coco_mask.decode(row["segmentation"]) for row in (old, new)]
        assert new["refinement_changed_px"] == (masks[0] != masks[1]).sum()
        assert 0 <= new["refinement_confidence"] <= 1
    told = json.loads((tmp_path / "details/3.json").read_text())["objects"]
    changed = [row["refinement_changed_px"] for row in refined if row["image_id"] == 3]
    assert [row["refinement_changed_px"] for row in told] == changed
    sure = [row["refinement_confidence"] for row in refined if row["image_id"] == 3]
    assert [row["refinement_confidence"] for row in told] == pytest.approx(sure, abs=1e-4)


def test_one_image(refine, photos, unet, tmp_path):
    Image.fromarray(blob(0).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    image = photos / "000000000003.jpg"
    arguments = ("--image", image, "--mask", tmp_path / "mask.png", "--output", tmp_path / "refined.png")
    assert "of 3000 pixels changed" in refine(*arguments, *unet)
    found = np.asarray(Image.open(tmp_path / "refined.png"))
    refiner = load_refiner(load_config(str(ROOT / CONFIG), unet))
    assert np.array_equal(found == 255, refiner(np.asarray(Image.open(image)), blob(0))) and set(np.unique(found)) <= {
        0,
        255,
    }
    assert "refined.png exists already" in refine(*arguments, *unet, fails=True)
    refine(*arguments, "--overwrite", *unet)


def test_soft_and_noisy_masks(refine, photos, unet, tmp_path):
    """Of two values the greater is the object, of more those from the middle on; changes are counted from that."""
    mask, image = blob(0), photos / "000000000003.jpg"
    soft = np.where(mask, 200, 90).astype(np.uint8)
    soft[0, :40] = np.arange(88, 128)
    refiner = load_refiner(load_config(str(ROOT / CONFIG), unet))
    wanted = refiner(np.asarray(Image.open(image)), mask)
    for name, values in (("soft", soft), ("noisy", np.where(mask, 255, 2).astype(np.uint8)), ("wide", mask * 60000)):
        Image.fromarray(values.astype(np.uint16) if name == "wide" else values).save(tmp_path / f"{name}.png")
        output = tmp_path / f"{name}_refined.png"
        told = refine("--image", image, "--mask", tmp_path / f"{name}.png", "--output", output, *unet)
        assert f"{(wanted != mask).sum()} of 3000 pixels changed" in told
        assert ("those from 128 on are taken for the object" in told) == (name == "soft")
        refined = np.asarray(Image.open(output))
        assert (refined == np.where(wanted, values.max(), 0)).all()


def test_killed_run_goes_on(photos, results, unet, tmp_path):
    command = [sys.executable, "tools/refine.py", "--config-file", CONFIG, "--images", photos, "--predictions", results]
    command = [*map(str, command), "--output", str(tmp_path / "out.json"), *unet]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    partial = tmp_path / "out.json.partial"
    for _ in range(1200):
        if process.poll() is not None or (
            partial.is_dir() and any(f.stat().st_size > 300 for f in partial.glob("*.records"))
        ):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    whole = tmp_path / "whole.json"
    if done.returncode:  # it had finished before it was killed
        assert "exists already" in done.stderr
    fresh = subprocess.run([*command[:9], str(whole), *unet], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert fresh.returncode == 0, fresh.stderr
    assert (tmp_path / "out.json").read_bytes() == whole.read_bytes() and not partial.exists()


def test_two_processes_write_what_one_does(photos, results, unet, tmp_path):
    files = []
    for processes in ("1", "2"):
        command = [sys.executable, "tools/refine.py", "--config-file", CONFIG, "--num-gpus", processes]
        command += [
            "--images",
            str(photos),
            "--predictions",
            str(results),
            "--output",
            str(tmp_path / f"{processes}.json"),
        ]
        done = subprocess.run(
            [*command, *unet], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        files.append((tmp_path / f"{processes}.json").read_bytes())
    assert files[0] == files[1]


def test_shards_write_what_one_run_does_and_are_merged_without_the_device(refine, photos, results, unet, tmp_path):
    files = ("--images", photos, "--predictions", results, "--output")
    refine(*files, tmp_path / "one.json", *unet)
    for number in (3, 1, 2):  # of two images
        refine(*files, tmp_path / "split.json", "--shard", f"{number}/3", *unet)
    other = refine(*files, tmp_path / "split.json", "--merge", 3, *unet, "MODEL.DEVICE", "cuda", fails=True)
    assert "2 of 3 shards are not whole" in other  # which no GPU is needed for
    refine(*files, tmp_path / "split.json", "--merge", 3, *unet)
    assert (tmp_path / "split.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_predictions_without_an_image(refine, photos, results, identity, tmp_path):
    (photos / "000000000012.jpg").unlink()
    arguments = ("--images", photos, "--predictions", results, "--output", tmp_path / "out.json")
    line = refine(*arguments, *identity, fails=True)
    assert "1 of 2 predictions have no image" in line and "12" in line and "--keep-missing" in line
    assert "1 images refined" in refine(*arguments, "--keep-missing", *identity)
    assert len(json.loads((tmp_path / "out.json").read_text())) == 4


def test_image_info(refine, photos, results, identity, tmp_path):
    images = []
    for number in (3, 12):
        (photos / f"{number:012}.jpg").rename(photos / f"photo-{number}.jpg")
        images.append({"id": number, "file_name": f"photo-{number}.jpg", "height": 50, "width": 60})
    (tmp_path / "info.json").write_text(json.dumps({"images": images}))
    arguments = ("--images", photos, "--predictions", results, "--output", tmp_path / "out.json")
    assert "have no image" in refine(*arguments, *identity, fails=True)
    assert "2 images refined" in refine(*arguments, "--image-info", tmp_path / "info.json", *identity)


def test_errors(refine, photos, results, identity, unet, tmp_path):
    arguments = ("--images", photos, "--predictions", results, "--output", tmp_path / "out.json")
    assert "a refiner needs weights; add: MODEL.WEIGHTS" in refine(*arguments, fails=True)
    assert "does not exist; check MODEL.WEIGHTS" in refine(*arguments, "MODEL.WEIGHTS", "nowhere.pth", fails=True)
    assert "does not fit the model" in refine(*arguments, "MODEL.WEIGHTS", tmp_path / "identity.pth", fails=True)
    no_refiner = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
    assert "is for refiners (BoundaryPatchRefiner, PanopticRefiner, SegFix, UniversalRefiner)" in refine(
        *arguments, *unet, *no_refiner, fails=True
    )
    no_refiner += ["DATASETS.PREDICTIONS_TRAIN", "()", "DATASETS.PREDICTIONS_TEST", "()"]
    line = refine(*arguments, *unet, *no_refiner, fails=True)
    assert "GeneralizedRCNN refines nothing, expected one of BoundaryPatchRefiner" in line
    assert "expected semantic ones" in refine(*arguments, *unet, "MODEL.BPR.TASK", "semantic", fails=True)
    assert "expected one of" in refine(*arguments[:3], photos, *arguments[4:], *unet, fails=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(photos / "000000000012.jpg")
    assert "image 12: the image is 9 x 9, its masks 50 x 60" in refine(*arguments, *unet, fails=2)
    (photos / "000000000012.jpg").write_bytes(b"no image")
    line = refine(*arguments[:5], tmp_path / "other.json", *unet, fails=2)
    assert ("cannot read" in line or "cannot be read" in line) and "000000000012.jpg" in line
    assert "give --images and --predictions, or --image and --mask" in refine("--output", "x", fails=True)


@pytest.mark.parametrize(
    ("image", "masks", "message"),
    [
        (np.zeros((5, 6), np.uint8), np.zeros((5, 6), bool), r"the image is \(5, 6\) uint8, expected \(H, W, 3\)"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5), bool), "the image is 5 x 6, its masks 6 x 5"),
        (np.zeros((5, 6, 3), np.uint8), np.arange(30).reshape(5, 6), "as label maps have, .* give a mask for each"),
        (np.zeros((5, 6, 3), np.uint8), np.zeros((1, 1, 5, 6), bool), r"expected \(N, H, W\) or \(H, W\)"),
    ],
)
def test_refiner_errors(unet, image, masks, message):
    refiner = load_refiner(load_config(str(ROOT / CONFIG), unet))
    with pytest.raises(ValueError, match=message):
        refiner(image, masks)
