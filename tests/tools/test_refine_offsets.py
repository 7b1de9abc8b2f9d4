"""tools/refine.py with SegFix: stored offsets on result files of all formats, without torch; chains of refiners."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from pnm.errors import UserError
from pnm.formats.cityscapes import prediction_lines, write_cityscapes_predictions
from pnm.formats.coco_panoptic import ids_to_rgb
from pnm.interior_offsets.field import InteriorOffsets, offsets_of_targets
from pnm.interior_offsets.stored import MANIFEST, OffsetSource, StoredOffsets, open_offsets
from pnm.interior_offsets.targets import offset_targets
from pnm.projects.bpr.networks import NETWORKS
from pnm.projects.launcher.refiner_loading import load_refiner
from pnm.projects.segfix.networks import build_network

ROOT = Path(__file__).resolve().parents[2]
SEGFIX, BPR = "configs/quickstart/segfix.yaml", "configs/quickstart/bpr_instance.yaml"
SIZE, NUMBERS = (50, 60), (3, 12)


@pytest.fixture
def run(run_refine):
    return run_refine


def truth(number):
    """(H, W) uint8: two discs on two halves, other ones for each image."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = (y > 20 + number // 4).astype(np.uint8)
    for k, (cy, cx) in enumerate(((16, 15 + number), (34, 38)), 2):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 100] = k
    return labels


def coarse(number):
    """The truth, moved."""
    return np.roll(truth(number), (1, -2), (0, 1))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in NUMBERS:
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / f"{number:012}.png")
    return folder


@pytest.fixture
def offsets(photos, tmp_path):
    """Stored offsets of the truth."""
    stored = open_offsets(tmp_path / "offsets", OffsetSource("oracle"))
    for number in NUMBERS:
        stored.add(photos / f"{number:012}.png", offsets_of_targets(offset_targets(truth(number)), 8))
    return tmp_path / "offsets"


@pytest.fixture
def still(photos, tmp_path):
    """Stored offsets without a boundary."""
    stored = open_offsets(tmp_path / "still", OffsetSource("nothing"))
    for path in photos.iterdir():
        stored.add(path, InteriorOffsets(np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8), 8))
    return tmp_path / "still"


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def coco_results(folder, labels):
    rows = []
    for number in NUMBERS:
        for k in (2, 3):
            mask = labels(number) == k
            y, x = np.nonzero(mask)
            box = [float(v) for v in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)]
            rows.append({"image_id": number, "category_id": k, "bbox": box, "score": 0.5, "segmentation": rle(mask)})
    (folder / "results.json").write_text(json.dumps(rows))
    return folder / "results.json"


def label_pngs(folder, labels):
    (folder / "labels").mkdir()
    for number in NUMBERS:
        Image.fromarray(labels(number)).save(folder / "labels" / f"{number:012}.png")
    return folder / "labels"


def sem_seg_json(folder, labels):
    rows = [
        {"file_name": f"data/{number:012}.png", "category_id": k, "segmentation": rle(labels(number) == k)}
        for number in NUMBERS
        for k in range(4)
    ]
    (folder / "sem_seg.json").write_text(json.dumps(rows))
    return folder / "sem_seg.json"


def panoptic_json(folder, labels):
    (folder / "panoptic").mkdir()
    annotations = []
    for number in NUMBERS:
        ids = labels(number).astype(np.int32) + 1
        done = ids_to_rgb(ids)
        name = f"{number:012}.png"
        Image.fromarray(done).save(folder / "panoptic" / name)
        segments = [{"id": k + 1, "category_id": k, "area": int((ids == k + 1).sum())} for k in range(4)]
        annotations.append({"image_id": number, "file_name": name, "segments_info": segments})
    (folder / "panoptic.json").write_text(json.dumps({"annotations": annotations}))
    return folder / "panoptic.json"


def cityscapes_results(folder, labels):
    for number in NUMBERS:
        name = f"{number:012}"
        text = prediction_lines(name, [24, 26], [0.5, 0.25])
        write_cityscapes_predictions(
            folder / "results" / f"{name}_pred.txt", text, [labels(number) == k for k in (2, 3)]
        )
    return folder / "results"


FORMATS = [coco_results, label_pngs, sem_seg_json, panoptic_json, cityscapes_results]


def contents(path):
    """Bytes of a file or of all files in a folder, and of a panoptic JSON's folder."""
    folder = path if path.is_dir() else path.with_suffix("")
    files = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return files if path.is_dir() else {**files, path.suffix: path.read_bytes()}


@pytest.mark.parametrize("write", FORMATS)
def test_without_a_boundary_files_stay_byte_for_byte(run, photos, still, tmp_path, write):
    source = write(tmp_path, coarse)
    output = tmp_path / "out" / source.name
    run("--offsets", still, "--images", photos, "--predictions", source, "--output", output)
    assert contents(output) == contents(source)


@pytest.mark.parametrize("write", FORMATS)
def test_the_truths_offsets_mend_what_is_off(run, photos, offsets, tmp_path, write):
    source, output = write(tmp_path, coarse), tmp_path / "out"
    output.mkdir()
    assert "2 images refined" in run(
        "--offsets", offsets, "--images", photos, "--predictions", source, "--output", output / source.name
    )
    if write is label_pngs:
        for number in NUMBERS:
            refined = np.asarray(Image.open(output / "labels" / f"{number:012}.png"))
            before = (coarse(number) != truth(number)).sum()
            assert (refined != truth(number)).sum() < 0.3 * before
    if write is coco_results:
        for row in json.loads((output / "results.json").read_text()):
            wanted = truth(row["image_id"]) == row["category_id"]
            before = coarse(row["image_id"]) == row["category_id"]
            found = coco_mask.decode(row["segmentation"])
            assert (found != wanted).sum() < 0.3 * (before != wanted).sum()
            assert row["bbox"] == coco_mask.toBbox(row["segmentation"]).tolist()


def test_a_segment_that_would_vanish_keeps_its_pixel(run, photos, offsets, tmp_path):
    def with_speck(number):
        labels = coarse(number)
        labels[labels == 3] = 1
        labels[20 + number // 4, 55] = 3  # one pixel on an edge
        return labels

    source = panoptic_json(tmp_path, with_speck)
    words = ("--images", photos, "--predictions", source, "--output", tmp_path / "out.json", "--details-in-results")
    run("--offsets", offsets, *words)
    for entry in json.loads((tmp_path / "out.json").read_text())["annotations"]:
        assert [segment["id"] for segment in entry["segments_info"]] == [1, 2, 3, 4]
        speck = entry["segments_info"][3]
        assert speck["area"] == 1 and (speck["refinement_confidence"], speck["refinement_changed_px"]) == (0, 0)
        assert sum(segment["area"] for segment in entry["segments_info"]) == SIZE[0] * SIZE[1]


@pytest.mark.parametrize("kind", ["binary", "labels"])
def test_one_mask(run, photos, offsets, tmp_path, kind):
    mask = coarse(3) if kind == "labels" else ((coarse(3) == 2) * 255).astype(np.uint8)
    wanted = truth(3) if kind == "labels" else ((truth(3) == 2) * 255).astype(np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image = photos / "000000000003.png"
    arguments = (
        "--offsets",
        offsets,
        "--image",
        image,
        "--mask",
        tmp_path / "mask.png",
        "--output",
        tmp_path / "r.png",
    )
    assert "of 3000 pixels changed" in run(*arguments)
    refined = np.asarray(Image.open(tmp_path / "r.png"))
    assert (refined != wanted).sum() < 0.3 * (mask != wanted).sum() and set(np.unique(refined)) <= set(np.unique(mask))
    assert "r.png exists already" in run(*arguments, fails=True)


def test_needs_no_torch(photos, offsets, tmp_path):
    source = label_pngs(tmp_path, coarse)
    code = "import runpy, sys; sys.modules['torch'] = sys.modules['detectron2'] = None; "
    code += "runpy.run_path('tools/refine.py', run_name='__main__')"
    arguments = ["--offsets", offsets, "--images", photos, "--predictions", source, "--output", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "2 images refined" in done.stdout, done.stderr[-2000:]


@pytest.fixture
def segfix(tmp_path):
    """Overrides of a SegFix with random weights."""
    torch.manual_seed(0)
    network = build_network("small_unet", 8, head_channels=48)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "segfix.pth")
    return ["MODEL.WEIGHTS", str(tmp_path / "segfix.pth"), "MODEL.SEGFIX.BOUNDARY_THRESHOLD", "0.3"]


@pytest.fixture
def bpr(tmp_path):
    torch.manual_seed(0)
    weights = {f"network.{name}": value for name, value in NETWORKS["patch_unet"](False).state_dict().items()}
    torch.save({"model": weights}, tmp_path / "bpr.pth")
    sizes = ["MODEL.BPR.PATCH_SIZE", "16", "MODEL.BPR.INPUT_SIZE", "32"]
    return [*sizes, "MODEL.WEIGHTS", str(tmp_path / "bpr.pth")]


@pytest.mark.parametrize("write", [coco_results, label_pngs])
def test_stored_and_fresh_offsets_give_the_same(run, photos, segfix, tmp_path, write):
    """Whatever the task in the config; what is stored serves other predictions, with the settings of the model."""
    files = ("--images", photos, "--predictions", write(tmp_path, coarse))
    (tmp_path / "fresh").mkdir(), (tmp_path / "kept").mkdir(), (tmp_path / "used").mkdir()
    name = "results.json" if write is coco_results else "labels"
    run("--config-file", SEGFIX, *files, "--output", tmp_path / "fresh" / name, *segfix)
    kept = ("--offsets", tmp_path / "offsets")
    run("--config-file", SEGFIX, *kept, *files, "--output", tmp_path / "kept" / name, *segfix)
    assert len(StoredOffsets(tmp_path / "offsets")) == 2
    run(*kept, *files, "--output", tmp_path / "used" / name)
    fresh, kept, used = (contents(tmp_path / folder / name) for folder in ("fresh", "kept", "used"))
    assert fresh == kept == used != contents(files[3])


def test_offsets_of_a_folder_are_made_once(run, photos, segfix, tmp_path):
    arguments = ("--config-file", SEGFIX, "--images", photos, "--offsets", tmp_path / "offsets", *segfix)
    assert f"{tmp_path / 'offsets'}: offsets of 2 images" in run(*arguments)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "offsets").rglob("*.png")}
    assert len(times) == 2
    run(*arguments)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "offsets").rglob("*.png")} == times
    # Task and use may change; other weights may not.
    run(*arguments, "MODEL.SEGFIX.TASK", "instance", "MODEL.SEGFIX.STEPS", "2")
    torch.manual_seed(1)
    network = build_network("small_unet", 8, head_channels=48)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "segfix.pth")
    assert "are of another model or other weights" in run(*arguments, fails=True)


def test_a_damaged_map_is_made_again(run, photos, segfix, tmp_path):
    make = ("--config-file", SEGFIX, "--images", photos, "--offsets", tmp_path / "offsets", *segfix)
    use = ("--offsets", tmp_path / "offsets", "--images", photos, "--predictions", label_pngs(tmp_path, coarse))
    run(*make)
    file = next((tmp_path / "offsets").rglob("*.png"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "is damaged: make them with" in run(*use, "--output", tmp_path / "out", fails=2)
    run(*make)
    assert file.read_bytes() == whole
    assert "2 images refined" in run(*use, "--output", tmp_path / "out", "--overwrite")


def test_a_broken_image_has_no_offsets(run, photos, segfix, tmp_path):
    broken = photos / f"{NUMBERS[0]:012}.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    make = ("--config-file", SEGFIX, "--images", photos, "--offsets", tmp_path / "offsets", *segfix)
    told = run(*make, fails=2)
    assert broken.name in told and "1 of 2 images could not be read" in told
    use = ("--images", photos, "--predictions", label_pngs(tmp_path, coarse), "--output", tmp_path / "out")
    assert "has no offsets" in run("--offsets", tmp_path / "offsets", *use, fails=2)
    broken.write_bytes(whole)
    run(*make)
    assert "in the 1 images of this run" in run("--offsets", tmp_path / "offsets", *use, "--overwrite")


def test_a_chain_equals_its_steps(run, photos, segfix, bpr, tmp_path):
    source = coco_results(tmp_path, coarse)
    once, twice, chained = (tmp_path / f"{name}.json" for name in ("once", "twice", "chained"))
    run("--config-file", SEGFIX, "--images", photos, "--predictions", source, "--output", once, *segfix)
    run("--config-file", BPR, "--images", photos, "--predictions", once, "--output", twice, *bpr)
    files = ("--images", photos, "--predictions", source, "--output", chained)
    run("--config-file", SEGFIX, *files, *segfix, "--then", BPR, *bpr)
    assert json.loads(chained.read_text()) == json.loads(twice.read_text()) != json.loads(once.read_text())
    kept = ("--offsets", tmp_path / "offsets")
    again = ("--images", photos, "--predictions", source, "--output", tmp_path / "kept.json")
    run("--config-file", BPR, *again, *bpr, "--then", SEGFIX, *kept, *segfix)
    run("--config-file", BPR, *again[:-1], tmp_path / "used.json", *bpr, "--then", SEGFIX, *segfix)
    assert (tmp_path / "kept.json").read_bytes() == (tmp_path / "used.json").read_bytes()
    # Stored offsets first, then a network; and one mask.
    files = ("--images", photos, "--predictions", source, "--output", tmp_path / "stored.json")
    run(*kept, *files, "--then", BPR, *bpr)
    assert (tmp_path / "stored.json").read_bytes() == chained.read_bytes()
    Image.fromarray(((coarse(3) == 2) * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    one = ("--image", photos / "000000000003.png", "--mask", tmp_path / "mask.png", "--output", tmp_path / "one.png")
    run("--config-file", SEGFIX, *one, *segfix, "--then", BPR, *bpr)
    row = next(row for row in json.loads(chained.read_text()) if (row["image_id"], row["category_id"]) == (3, 2))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")) > 0, coco_mask.decode(row["segmentation"]))


def test_two_processes_make_and_use_offsets(photos, segfix, tmp_path):
    source = coco_results(tmp_path, coarse)
    command = [sys.executable, "tools/refine.py", "--config-file", SEGFIX, "--images", photos, "--predictions", source]
    written = []
    for number in ("1", "2"):
        output = tmp_path / f"{number}.json"
        more = ["--num-gpus", number, "--offsets", tmp_path / f"offsets{number}", "--output", output, *segfix]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*map(str, command), *map(str, more)], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(StoredOffsets(tmp_path / f"offsets{number}")) == 2
        written.append(output.read_bytes())
    assert written[0] == written[1]


def test_errors(run, photos, offsets, segfix, bpr, tmp_path):
    source = coco_results(tmp_path, coarse)
    files = ("--images", photos, "--predictions", source, "--output", tmp_path / "out.json")
    assert "MODEL.WEIGHTS is for a config: give --config-file" in run("--offsets", offsets, *files, *segfix, fails=True)
    assert "--num-gpus is for networks" in run("--offsets", offsets, *files, "--num-gpus", "2", fails=True)
    assert "has no offsets (manifest.jsonl is missing)" in run("--offsets", tmp_path / "none", *files, fails=True)
    assert "are of another model or other weights" in run(
        "--config-file", SEGFIX, "--offsets", offsets, *files, *segfix, fails=True
    )
    alone = "--offsets is for refiners that predict from the image alone; BoundaryPatchRefiner does not"
    assert alone in run("--config-file", BPR, "--offsets", tmp_path / "b", *files, *bpr, fails=True)
    both = run("--config-file", BPR, *files, *bpr, "--then", BPR, *bpr, "MODEL.BPR.TASK", "semantic", fails=True)
    assert "these refiners do not go together: one is of task instance, another of task semantic" in both
    assert "config file nowhere.yaml" in run(*files, "--offsets", offsets, "--then", "nowhere.yaml", fails=True)
    assert "offsets that are there; after --then, too" in run(*files, "--offsets", offsets, "--then", fails=True)
    first = photos / f"{NUMBERS[0]:012}.png"
    other = Image.open(first).crop((0, 0, 40, 40))
    other.save(first)
    assert "has changed since its offsets were made" in run("--offsets", offsets, *files, fails=2)
    stored = open_offsets(offsets, OffsetSource("oracle"))
    stored.add(first, offsets_of_targets(offset_targets(truth(3)[:40, :40]), 8))
    size = "the prediction is 50 x 60, the offsets are 40 x 40: both must be of the same image"
    assert f"image 3: {size}" in run("--offsets", offsets, *files, "--overwrite", fails=2)
    many = ("MODEL.SEGFIX.STEPS", "800000000")
    assert "steps is 800000000 and scale" in run("--config-file", SEGFIX, *files, *segfix, *many, fails=True)
    (tmp_path / "there.json").write_text("[]")  # told before anything is made
    there = (*files[:-1], tmp_path / "there.json", "--offsets", tmp_path / "new")
    assert "there.json exists already" in run("--config-file", SEGFIX, *there, *segfix, fails=True)
    assert not (tmp_path / "new").exists()
    (offsets / MANIFEST).write_text("{}\n")
    assert "is no manifest of offsets" in run("--offsets", offsets, *files, fails=True)


def test_in_python(photos, segfix):
    refiner = load_refiner("quickstart/segfix.yaml", overrides=segfix)
    image = np.asarray(Image.open(photos / "000000000003.png"))
    refined = refiner(image, coarse(3).astype(np.int32))
    assert refined.shape == SIZE and refined.dtype == np.int32
    with pytest.raises(UserError, match="the image is 0 x 60, expected at least one pixel"):
        refiner(image[:0], coarse(3)[:0].astype(np.int32))
