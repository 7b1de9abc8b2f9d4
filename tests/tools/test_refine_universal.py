"""tools/refine.py without a config: one mask, folders, result files, chains, and what became of each object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

import pnm

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (60, 70)


def disc(y, x, radius=15):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)


@pytest.fixture
def files(tmp_path):
    """photo.png and mask.png."""
    Image.fromarray(noise()).save(tmp_path / "photo.png")
    Image.fromarray(disc(30, 33)).save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


def test_one_photo_and_one_mask(refine_random, files, random_weights, tmp_path):
    wanted = pnm.Refiner(random_weights, strength=1)(*files)
    assert f"mask_refined.png: {(wanted != disc(30, 33)).sum()} of 4200 pixels changed" in refine_random(*files)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask_refined.png")) == 255, wanted)
    assert "mask_refined.png exists already" in refine_random(*files, fails=True)
    refine_random(*files, "--overwrite")
    refine_random("--image", files[0], "--mask", files[1], "--output", tmp_path / "other.png")
    refine_random(files[0], "--output", tmp_path / "third.png", files[1], "--keep-topology")
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "mask_refined.png").read_bytes()


def test_nothing_changes_at_strength_0_and_a_chain_is_two_calls(run_refine, files, random_weights, tmp_path):
    own = ("--weights", random_weights, "--strength")
    assert "0 of 4200 pixels changed" in run_refine(*files, *own, "0", "--output", tmp_path / "same.png")
    run_refine(*files, *own, "1", "--output", tmp_path / "twice.png", "--then", "universal", *own, "0.9")
    first = pnm.Refiner(random_weights, strength=1)(*files)
    wanted = pnm.Refiner(random_weights, strength=0.9)(files[0], first)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "twice.png")) == 255, wanted)


def test_details_of_one_mask(refine_random, files, tmp_path):
    refine_random(*files, "--details", tmp_path / "details")
    told = json.loads((tmp_path / "details/mask.json").read_text("utf-8"))
    changed = np.asarray(Image.open(tmp_path / "details/mask_changes.png")) == 255
    refined = np.asarray(Image.open(tmp_path / "mask_refined.png")) == 255
    assert np.array_equal(changed, refined != disc(30, 33)) and changed.any()
    (one,) = told["objects"]
    rows, columns = np.nonzero(refined)
    assert one["refinement_changed_px"] == changed.sum() and 0 <= one["refinement_confidence"] <= 1
    assert one["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_a_geotiff_keeps_its_place(refine_random, files, tmp_path):
    place = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 100.0, 200.0, 0.0), True)]
    tifffile.imwrite(tmp_path / "mask.tif", disc(30, 33).astype(np.uint8), extratags=place)
    refine_random(files[0], tmp_path / "mask.tif")
    with tifffile.TiffFile(tmp_path / "mask_refined.tif") as file:
        tags = file.pages[0].tags
        assert tags[33550].value == (0.5, 0.5, 0.0) and tags[33922].value[3:5] == (100.0, 200.0)
        assert set(np.unique(file.asarray())) == {0, 1}


def test_two_folders(refine_random, tmp_path):
    for name in ("a", "sub/b", "c"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise()).save(tmp_path / f"photos/{name}.jpg")
    for name in ("a.png", "sub/b_mask.png", "d.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(disc(30, 33)).save(tmp_path / f"masks/{name}")
    folders, output = (tmp_path / "photos", tmp_path / "masks"), tmp_path / "refined"
    assert "--output is missing" in refine_random(*folders, fails=True)
    assert "2 masks, of which 2 changed" in refine_random(
        *folders, "--output", output, "--details", tmp_path / "details"
    )
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*.png")) == ["a.png", "sub/b_mask.png"]
    assert (tmp_path / "details/sub/b_mask.json").is_file()
    whole = (output / "a.png").read_bytes()
    assert "exists already" in refine_random(*folders, "--output", output, fails=True)
    (output / "a.png").unlink()
    assert "1 masks, of which 1 changed, 1 were there" in refine_random(*folders, "--output", output, "--resume")
    assert (output / "a.png").read_bytes() == whole
    Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / "masks/c.png")
    (tmp_path / "photos/a.jpg").write_bytes(b"")
    Image.fromarray(noise()[:9]).save(tmp_path / "photos/sub/b.jpg")
    line = refine_random(*folders, "--output", tmp_path / "other", fails=True)
    assert "3 pairs can't be refined" in line and not list((tmp_path / "other").iterdir())
    assert "lie one in the other" in refine_random(*folders, "--output", tmp_path / "masks/refined", fails=True)


def test_files_without_a_partner_are_told(refine_random, tmp_path, capsys):
    for folder, name in (("photos", "a.jpg"), ("masks", "b.png")):
        (tmp_path / folder).mkdir()
        Image.fromarray(noise()).save(tmp_path / folder / name)
    line = refine_random(tmp_path / "photos", tmp_path / "masks", "--output", tmp_path / "out", fails=True)
    assert "no mask in" in line and "_mask" in line


@pytest.fixture
def results(tmp_path):
    """COCO results of two images, whose photos are in photos/."""
    (tmp_path / "photos").mkdir()
    rows = []
    for number in (3, 12):
        Image.fromarray(noise(number)).save(tmp_path / f"photos/{number:012}.png")
        for k in range(2):
            encoded = coco_mask.encode(np.asfortranarray(disc(25 + number, 20 + 30 * k, 12).astype(np.uint8)))
            rle = {"size": encoded["size"], "counts": encoded["counts"].decode()}
            rows.append({"image_id": number, "category_id": 1, "score": 0.5, "segmentation": rle})
    (tmp_path / "results.json").write_text(json.dumps(rows), "utf-8")
    return "--images", tmp_path / "photos", "--predictions", tmp_path / "results.json", "--output"


def test_coco_results_with_details(refine_random, results, random_weights, tmp_path):
    assert "2 images refined, 4 of 4 masks changed" in refine_random(*results, tmp_path / "plain.json")
    more = ("--details-in-results", "--details", tmp_path / "details")
    refine_random(*results, tmp_path / "told.json", *more)
    plain, told = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("plain.json", "told.json"))
    assert plain == [{k: v for k, v in row.items() if not k.startswith("refinement_")} for row in told]
    before = json.loads((tmp_path / "results.json").read_text("utf-8"))
    rows = [row for n in (3, 12) for row in json.loads((tmp_path / f"details/{n}.json").read_text("utf-8"))["objects"]]
    refiner = pnm.Refiner(random_weights, strength=1)
    for old, new, row in zip(before, told, rows, strict=True):
        masks = [coco_mask.decode(one["segmentation"]) for one in (old, new)]
        assert new["refinement_changed_px"] == row["refinement_changed_px"] == (masks[0] != masks[1]).sum()
        assert new["refinement_confidence"] == row["refinement_confidence"]
        image = np.asarray(Image.open(tmp_path / f"photos/{old['image_id']:012}.png"))
        assert np.array_equal(refiner(image, masks[0]), masks[1])


def test_panoptic_segments_with_details(refine_random, results, tmp_path):
    (tmp_path / "pan").mkdir()
    labels = (disc(30, 33) + 1).astype(np.uint8)
    Image.fromarray(np.stack([labels, labels * 0, labels * 0], -1)).save(tmp_path / "pan/a.png")
    segments = [{"id": k, "category_id": 7, "area": int((labels == k).sum())} for k in (1, 2)]
    content = {"annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": segments}]}
    (tmp_path / "pan.json").write_text(json.dumps(content), "utf-8")
    words = (*results[:3], tmp_path / "pan.json", "--output")
    refine_random(*words, tmp_path / "out.json", "--details-in-results", "--details", tmp_path / "details")
    (image,) = json.loads((tmp_path / "out.json").read_text("utf-8"))["annotations"]
    after = np.asarray(Image.open(tmp_path / "out/a.png"))[..., 0]
    for segment in image["segments_info"]:
        changed = ((after == segment["id"]) != (labels == segment["id"])).sum()
        assert segment["refinement_changed_px"] == changed
    assert (np.asarray(Image.open(tmp_path / "details/3_changes.png")) == 255).sum() == (after != labels).sum()


def test_label_pngs_have_no_place_for_fields(refine_random, results, tmp_path):
    (tmp_path / "labels").mkdir()
    for number in (3, 12):
        Image.fromarray(disc(30, 33).astype(np.uint8)).save(tmp_path / f"labels/{number:012}.png")
    words = (*results[:3], tmp_path / "labels", "--output", tmp_path / "out")
    assert "has no place for more fields" in refine_random(*words, "--details-in-results", fails=True)
    assert "2 images refined" in refine_random(*words, "--details", tmp_path / "details")
    after = np.asarray(Image.open(tmp_path / "out/000000000003.png"))
    told = json.loads((tmp_path / "details/000000000003.png.json").read_text("utf-8"))["objects"]
    for row in told:
        assert row["refinement_changed_px"] == ((after == row["id"]) != (disc(30, 33) == row["id"])).sum()


def test_errors_come_before_torch(files, results, random_weights, tmp_path):
    """Each is told by a process that has not imported torch."""
    code = "import sys, pnm.tools.refine as tool\ntry:\n    tool.main()\nfinally:\n    print('torch' in sys.modules)"
    cases = {
        (tmp_path / "none.jpg", files[1]): "none.jpg does not exist",
        (*files, "--strength", "2"): "--strength is 2.0",
        (*files, "--weights", "none.pth"): "weights none.pth are neither a file nor one of",
        (tmp_path, files[1]): "are a file and a folder",
        (files[0],): "1 paths came, expected two",
        (*files, "--temporal"): "--temporal is for a video",
        (*files, "--output", tmp_path / "x.jpg"): "expected a *.png or *.tif",
        (*results[:3], tmp_path / "none.json", "--output", tmp_path / "o.json"): "none.json is missing",
        (*results, tmp_path / "results.json"): "results.json overlap: choose another output",
        (*results, tmp_path / "o.json", "--num-gpus", "2"): "--num-gpus is for networks on result files",
        (*files, "--then", "universal", "MODEL.X", "1"): "MODEL.X is not for the universal refiner",
        (*files, "--stretch", "90", "10"): "--stretch is 90 10",
    }
    for words, message in cases.items():
        own = () if "--weights" in words else ("--weights", random_weights)
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words[:2]), *map(str, own), *map(str, words[2:])],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert message in done.stderr and done.returncode == 2 and done.stdout.strip() == "False", done.stderr


def test_neither_detectron2_nor_projects_are_imported(files, random_weights):
    code = """
import sys
import pnm.tools.refine
pnm.tools.refine.main()
strange = [name for name in sys.modules if name.split(".")[0] == "detectron2" or name.startswith("pnm.projects")]
assert not strange, strange
"""
    words = [*map(str, files), "--weights", str(random_weights)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_after_a_trained_refiner(run_refine, files, random_weights, tmp_path):
    """The universal refiner in a chain with one that has a config."""
    import torch

    from pnm.projects.bpr.networks import NETWORKS

    torch.manual_seed(0)
    network = NETWORKS["patch_unet"](False)
    torch.save({"model": {f"network.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "unet.pth")
    bpr = (str(ROOT / "configs/quickstart/bpr_instance.yaml"), "MODEL.BPR.PATCH_SIZE", 16, "MODEL.BPR.INPUT_SIZE", 32)
    bpr = (*bpr, "MODEL.WEIGHTS", tmp_path / "unet.pth")
    one = ("--image", files[0], "--mask", files[1], "--output", tmp_path / "one.png")
    other = ("--output", tmp_path / "other.png")
    own = ("--weights", random_weights, "--strength", 1)
    assert "pixels changed" in run_refine("--config-file", bpr[0], *one, *bpr[1:], "--then", "universal", *own)
    assert "pixels changed" in run_refine(*files, *own, *other, "--then", *bpr)
    refiner, first = pnm.Refiner(random_weights, strength=1), tmp_path / "first.png"
    run_refine("--config-file", bpr[0], *one[:4], "--output", first, *bpr[1:])
    wanted = refiner(files[0], first)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")) == 255, wanted)
    assert "are for the universal refiner" in run_refine(
        "--config-file", bpr[0], *one, *bpr[1:], "--then", bpr[0], "--strength", 1, fails=True
    )


@pytest.fixture
def video(tmp_path):
    """video.mp4 of 5 frames, and masks of frames 1 to 4 by their numbers from 0."""
    from pnm.pictures.video import write_video

    for n in range(5):
        Image.fromarray(noise(n // 3)).save(tmp_path / f"frame{n}.png")
    write_video(tmp_path / "video.mp4", [tmp_path / f"frame{n}.png" for n in range(5)], 10)
    (tmp_path / "frames").mkdir()
    for n in range(1, 5):
        Image.fromarray(disc(30 + n % 2, 33)).save(tmp_path / f"frames/clip7_{n:05d}.png")
    return tmp_path / "video.mp4", tmp_path / "frames", "--output", tmp_path / "out"


def test_a_video_and_its_masks(refine_random, video, random_weights, tmp_path):
    from pnm.object_refinement.steadying import SteadyRefiner
    from pnm.pictures.video import Video

    assert "4 masks, of which 4 changed; 1 frames of" in refine_random(*video)
    frames = dict(Video(video[0]).read(range(5)))
    refiner = pnm.Refiner(random_weights, strength=1)
    for n in range(1, 5):
        found = np.asarray(Image.open(tmp_path / f"out/clip7_{n:05d}.png")) == 255
        assert np.array_equal(found, refiner(frames[n], disc(30 + n % 2, 33)))
    assert "exists already" in refine_random(*video, fails=True)
    (tmp_path / "out/clip7_00003.png").unlink()
    assert "1 masks, of which 1 changed" in refine_random(*video, "--resume")
    refine_random(*video, "--overwrite", "--temporal")
    assert "other settings (--temporal True, now False)" in refine_random(*video, "--resume", fails=True)
    steady = SteadyRefiner(refiner)
    for n in range(1, 5):
        found = np.asarray(Image.open(tmp_path / f"out/clip7_{n:05d}.png")) == 255
        assert np.array_equal(found, steady.refine(frames[n], disc(30 + n % 2, 33)))


def test_masks_that_are_not_of_the_video(refine_random, video, tmp_path):
    (tmp_path / "frames/clip7_00001.png").rename(tmp_path / "frames/clip7_00009.png")
    assert "has a mask of number 9" in refine_random(*video, fails=True)
    (tmp_path / "frames/clip7_00009.png").rename(tmp_path / "frames/other_2.png")
    assert "has two masks of number 2" in refine_random(*video, fails=True)
    (tmp_path / "frames/other_2.png").rename(tmp_path / "frames/other.png")
    assert "other.png has no number in its name" in refine_random(*video, fails=True)
    Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / "frames/other_1.png")
    (tmp_path / "frames/other.png").unlink()
    assert "are 60 x 70 (height x width), 1 masks in" in refine_random(*video, fails=True)
    assert "leave --resume, --keep-topology out" in refine_random(*video, "--temporal", "--resume", fails=True)


def test_large_tiffs_are_refined_by_tiles(refine_random, files, random_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("pnm.pictures.tiff_windows.LARGE_PX", 4000)
    tifffile.imwrite(tmp_path / "photo.tif", noise(), photometric="rgb", tile=(16, 16))
    tifffile.imwrite(tmp_path / "mask.tif", disc(30, 33).astype(np.uint8) * 255, rowsperstrip=20)
    large = tmp_path / "photo.tif", tmp_path / "mask.tif"
    assert "of 4200 pixels changed" in refine_random(*large)
    wanted = pnm.Refiner(random_weights, strength=1)(noise(), disc(30, 33))
    assert np.array_equal(tifffile.imread(tmp_path / "mask_refined.tif") == 255, wanted)
    asked = ("--overwrite", "--details", tmp_path / "details", "--keep-topology")
    assert "leave --details, --keep-topology out" in refine_random(*large, *asked, fails=True)
    assert "expected a *.tif for a mask as large" in refine_random(*large, "--output", tmp_path / "a.png", fails=True)
    assert "is then to be a TIFF" in refine_random(files[0], large[1], "--overwrite", fails=True)
